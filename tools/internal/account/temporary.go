package account

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What temporary accounts carry: their maker's process id is in the name.
const (
	temporaryPrefix  = "hde2e"
	temporaryComment = "Hotdesk test"
)

// lockPatience bounds the wait for other programs that make accounts.
const lockPatience = 30 * time.Second

// Temporary makes an account for a test, of a person or without rights; kind is
// a letter or two. What tests that died left behind is removed first.
func Temporary(ctx context.Context, kind string, system bool) (*Account, error) {
	removeDead(ctx)
	name := fmt.Sprintf("%s%d%s", temporaryPrefix, os.Getpid(), kind)
	args := []string{"--user-group", "--comment", temporaryComment, "--shell", "/bin/sh", "--create-home"}
	if system {
		args = []string{"--user-group", "--comment", temporaryComment, "--shell", "/usr/sbin/nologin", "--no-create-home", "--system"}
	}
	if err := patiently(ctx, "useradd", append(args, name)...); err != nil {
		return nil, err
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	a := &Account{Name: name, Home: u.HomeDir}
	if a.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if a.GID, err = strconv.Atoi(u.Gid); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return a, nil
}

// RemoveTemporary takes a temporary account away.
func (a *Account) RemoveTemporary() error { return userdel(context.Background(), a.Name) }

func userdel(ctx context.Context, name string) error {
	err := patiently(ctx, "userdel", "--remove", name)
	if _, gone := user.Lookup(name); gone != nil {
		return nil // it complains of what was never there: mail, a home
	}
	return err
}

// patiently runs a program that needs the lock of the password file.
func patiently(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		text, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("account: %s: %w: %s", name, err, strings.TrimSpace(string(text)))
		if !strings.Contains(string(text), "cannot lock") {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// removeDead removes the temporary accounts of processes that are no more.
func removeDead(ctx context.Context) {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(line, ":")
		rest, ours := strings.CutPrefix(f[0], temporaryPrefix)
		if !ours || len(f) < 5 || f[4] != temporaryComment {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimRight(rest, "abcdefghijklmnopqrstuvwxyz"))
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = userdel(ctx, f[0]) // another test may be doing the same
		}
	}
}
