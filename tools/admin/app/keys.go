package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	groupmgr "hotdesk/groupmgr/app"
	"hotdesk/protocol/adminapi"
)

// Bounds of the group's key file; the group manager has the same.
const (
	maxKeys    = 8
	minKeyLine = 8
)

// maxKeyLine bounds a key that is added, in bytes.
const maxKeyLine = 1 << 10

// A groupKey is a line of the key file.
type groupKey struct {
	ID    string `json:"id"`
	Signs bool   `json:"signs"`

	line string
}

// keys reads the key file: remarks, and the keys in their order.
func (c *command) keys() (remarks []string, keys []groupKey, err error) {
	if err := c.needRoot(); err != nil {
		return nil, nil, err
	}
	f, err := os.Open(c.keyFile())
	if err != nil {
		return nil, nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("%v: make it with `hotdesk setup`, or join a group", err)}
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 8<<10))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			remarks = append(remarks, line)
			continue
		}
		k, err := keyOf(line)
		if err != nil {
			return nil, nil, err
		}
		k.Signs = len(keys) == 0
		keys = append(keys, k)
	}
	return remarks, keys, lines.Err()
}

func keyOf(line string) (groupKey, error) {
	if len(line) < minKeyLine {
		return groupKey{}, adminapi.Invalid{Text: fmt.Sprintf("a key has at least %d characters", minKeyLine)}
	}
	k, err := groupmgr.DeriveKey(line)
	if err != nil {
		return groupKey{}, err
	}
	return groupKey{ID: k.ID(), line: line}, nil
}

// saveKeys writes the key file. A group manager that runs reads it by itself.
func (c *command) saveKeys(remarks []string, keys []groupKey) error {
	if len(keys) > maxKeys {
		return adminapi.Error{Code: adminapi.CodeConflict, Text: fmt.Sprintf("there are %d keys already: drop one that no host signs with, `hotdesk key drop ID`", maxKeys)}
	}
	lines := remarks
	for _, k := range keys {
		lines = append(lines, k.line)
	}
	return c.writeKeys([]byte(strings.Join(lines, "\n") + "\n"))
}

func (c *command) keyList(context.Context, []string) error {
	_, keys, err := c.keys()
	if err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		row(w, "ID", "USE")
		for i, k := range keys {
			use := "verifies"
			if i == 0 {
				use = "signs"
			}
			row(w, k.ID, use)
		}
	})
}

// keyRotate adds a key that nobody signs with yet: no host is cut off while
// the others get it.
func (c *command) keyRotate(context.Context, []string) error {
	remarks, keys, err := c.keys()
	if err != nil {
		return err
	}
	k, err := keyOf(newSecretLine())
	if err != nil {
		return err
	}
	if err := c.saveKeys(remarks, append(keys, k)); err != nil {
		return err
	}
	old := ""
	if len(keys) > 0 {
		old = keys[0].ID
	}
	return c.print(k, func(w io.Writer) {
		fmt.Fprintf(w, "key %s is known here and signs nothing yet. Next, nothing has to be stopped:\n", k.ID)
		fmt.Fprintf(w, "  1. to every other host: hotdesk key show %s | ssh HOST hotdesk key add\n", k.ID)
		fmt.Fprintf(w, "  2. then on every host:  hotdesk key use %s\n", k.ID)
		fmt.Fprintf(w, "  3. then on every host:  hotdesk key drop %s\n", old)
	})
}

func (c *command) pick(id string) (remarks []string, keys []groupKey, i int, err error) {
	remarks, keys, err = c.keys()
	if err != nil {
		return nil, nil, 0, err
	}
	i = slices.IndexFunc(keys, func(k groupKey) bool { return k.ID == id })
	if i < 0 {
		return nil, nil, 0, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("this host has no key %q: `hotdesk key list` shows those it has", id)}
	}
	return remarks, keys, i, nil
}

// keyShow prints a secret, to be piped to another host.
func (c *command) keyShow(_ context.Context, args []string) error {
	_, keys, i, err := c.pick(args[0])
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, keys[i].line)
	return nil
}

func (c *command) keyAdd(context.Context, []string) error {
	line, err := bufio.NewReader(io.LimitReader(c.stdin, maxKeyLine)).ReadString('\n')
	if err != nil && line == "" {
		return adminapi.Invalid{Text: "there is no key on standard input: `hotdesk key show ID` prints it on the other host"}
	}
	line = strings.TrimSpace(line)
	if len(line) >= maxKeyLine || strings.HasPrefix(line, "#") { // in the file it would be cut, or a remark
		return adminapi.Invalid{Text: fmt.Sprintf("this is no key: a key is one line of fewer than %d characters, as `hotdesk key show ID` prints it", maxKeyLine)}
	}
	k, err := keyOf(line)
	if err != nil {
		return err
	}
	remarks, keys, err := c.keys()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(have groupKey) bool { return have.ID == k.ID }) {
		if err := c.saveKeys(remarks, append(keys, k)); err != nil {
			return err
		}
	}
	return c.print(k, func(w io.Writer) { fmt.Fprintf(w, "key %s is known here\n", k.ID) })
}

func (c *command) keyUse(_ context.Context, args []string) error {
	remarks, keys, i, err := c.pick(args[0])
	if err != nil {
		return err
	}
	k := keys[i]
	return c.saveKeys(remarks, slices.Insert(slices.Delete(keys, i, i+1), 0, k))
}

func (c *command) keyDrop(_ context.Context, args []string) error {
	remarks, keys, i, err := c.pick(args[0])
	switch {
	case err != nil:
		return err
	case i == 0:
		return adminapi.Error{Code: adminapi.CodeConflict, Text: fmt.Sprintf("this host signs with %s: `hotdesk key use` another one first, on every host", args[0])}
	}
	return c.saveKeys(remarks, slices.Delete(keys, i, i+1))
}
