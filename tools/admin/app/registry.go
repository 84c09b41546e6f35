package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/program"
)

func (c *command) registryStatus(ctx context.Context, _ []string) error {
	var r adminapi.RegistryStatus
	if err := c.client().ask(ctx, "GET", "/registry", nil, &r); err != nil {
		return err
	}
	return c.print(r, func(w io.Writer) { registryRows(w, r) })
}

func (c *command) registryWatch(ctx context.Context, _ []string) error {
	body, err := c.client().open(ctx, "GET", "/registry/watch", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, adminapi.MaxBody)
	for lines.Scan() {
		if c.asJSON {
			fmt.Fprintf(c.stdout, "%s\n", lines.Bytes())
			continue
		}
		var r adminapi.RegistryStatus
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		registryRows(c.stdout, r)
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return c.client().away(err)
	}
	return nil
}

func (c *command) registryExport(ctx context.Context, args []string) error {
	text, err := c.client().raw(ctx, "GET", "/registry/export", nil)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		_, err = c.stdout.Write(text)
		return err
	}
	return writeWhole(args[0], text, 0o600)
}

// writeWhole makes a file appear whole, or stay as it was.
func writeWhole(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".hotdesk-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: err.Error()}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, adminapi.MaxText+1))
	if err != nil {
		return nil, err
	}
	if _, err := adminapi.ParseText(b); err != nil { // names lines sooner than the server
		return nil, adminapi.Invalid{Text: path + ": " + err.Error()}
	}
	return b, nil
}

func (c *command) registryImport(ctx context.Context, args []string) error {
	b, err := readText(args[0])
	if err != nil {
		return err
	}
	return c.done(ctx, "POST", "/registry/import", b)
}

func (c *command) registryDiff(ctx context.Context, args []string) error {
	var text []byte
	rev, err := strconv.ParseUint(args[0], 10, 63)
	switch {
	case err != nil && len(args) == 2:
		return program.Usagef("registry diff: %q is no revision: `hotdesk registry history` lists them", args[0])
	case err != nil:
		b, err := readText(args[0])
		if err != nil {
			return err
		}
		text, err = c.client().raw(ctx, "POST", "/registry/diff", b)
		if err != nil {
			return err
		}
	default:
		path := fmt.Sprintf("/registry/diff?from=%d", rev)
		if len(args) == 2 {
			to, err := strconv.ParseUint(args[1], 10, 63)
			if err != nil {
				return program.Usagef("registry diff: %q is no revision", args[1])
			}
			path += fmt.Sprintf("&to=%d", to)
		}
		if text, err = c.client().raw(ctx, "GET", path, nil); err != nil {
			return err
		}
	}
	_, err = c.stdout.Write(text)
	return err
}

func (c *command) registryHistory(ctx context.Context, args []string) error {
	n := 20
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
			return program.Usagef("registry history: %q is no count", args[0])
		}
	}
	var all []adminapi.Change
	if err := c.client().ask(ctx, "GET", fmt.Sprintf("/registry/history?limit=%d", n), nil, &all); err != nil {
		return err
	}
	return c.print(all, func(w io.Writer) {
		row(w, "REV", "WHEN", "WHO", "HOST", "RECORDS", "WHAT")
		for _, x := range all {
			row(w, x.Rev, at(x.When), x.Who, x.Host, x.Records, x.Op)
		}
	})
}

func (c *command) registryRollback(ctx context.Context, args []string) error {
	rev, err := strconv.ParseUint(args[0], 10, 63)
	if err != nil {
		return program.Usagef("registry rollback: %q is no revision: `hotdesk registry history` lists them", args[0])
	}
	return c.done(ctx, "POST", "/registry/rollback", adminapi.Rollback{Rev: rev})
}

func registryPost(what string) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, _ []string) error {
		return c.done(ctx, "POST", "/registry/"+what, nil)
	}
}
