// Package account makes the account that demonstrations run as when root
// starts them, and those that tests need, and takes them away again.
//
// Source: useradd(8), userdel(8). Only an account that carries Comment, or the
// comment of temporary ones, is ever removed.
package account

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// Name of the account, and the comment by which it is known to be ours.
const (
	Name    = "hotdesk-demo"
	Comment = "Hotdesk demonstration"
)

// An Account is one that a demonstration may use.
type Account struct {
	Name     string // of a temporary one
	UID, GID int
	Home     string

	out  io.Writer
	ours bool
}

// Demo returns the account to run as: for root, hotdesk-demo, made if it is
// not there; for anybody else, the caller's own (UID 0 then means "as you
// are"). out is told what was done.
func Demo(ctx context.Context, out io.Writer) (*Account, error) {
	if os.Geteuid() != 0 {
		return &Account{}, nil
	}
	u, err := user.Lookup(Name)
	if err != nil {
		fmt.Fprintf(out, "making the account %s (it is removed at the end)\n", Name)
		cmd := exec.CommandContext(ctx, "useradd", "--create-home", "--user-group", "--shell", "/bin/bash", "--comment", Comment, Name)
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("account: useradd %s: %w: %s", Name, err, text)
		}
		if u, err = user.Lookup(Name); err != nil {
			return nil, fmt.Errorf("account: %w", err)
		}
	}
	a := &Account{Home: u.HomeDir, out: out, ours: strings.HasPrefix(u.Name, Comment)}
	if a.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if a.GID, err = strconv.Atoi(u.Gid); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return a, nil
}

// Remove takes the account away if it is one of ours and nobody else uses it.
func (a *Account) Remove() {
	if !a.ours {
		return
	}
	if text, err := exec.Command("userdel", "--remove", Name).CombinedOutput(); err != nil && !strings.Contains(string(text), "mail spool") {
		fmt.Fprintf(a.out, "the account %s stays: %s\n", Name, strings.TrimSpace(string(text)))
		return
	}
	fmt.Fprintf(a.out, "removed the account %s\n", Name)
}
