package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/program"
	"hotdesk/server/admin"
	"hotdesk/server/audit"
)

// chains are the audits that the arguments name: a directory is one, and so are
// files of one directory, in the order of their names. Without arguments those
// of the state directory are meant.
func (c *command) chains(args []string) (map[string][]string, []string, error) {
	if len(args) == 0 {
		dirs, err := filepath.Glob(filepath.Join(c.stateDir(), "gateway*", "audit"))
		if err != nil {
			return nil, nil, err
		}
		if len(dirs) == 0 {
			return nil, nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("there is no audit in %s, or it may not be read: run this as root, name the server's -state, or the files", c.stateDir())}
		}
		args = dirs
	}
	chains := map[string][]string{}
	var order []string
	for _, a := range args {
		st, err := os.Stat(a)
		if err != nil {
			return nil, nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: err.Error()}
		}
		files, dir := []string{a}, filepath.Dir(a)
		if st.IsDir() {
			if files, err = audit.Files(a); err != nil {
				return nil, nil, err
			}
			dir = a
		}
		if chains[dir] == nil {
			order = append(order, dir)
		}
		chains[dir] = append(chains[dir], files...)
	}
	return chains, order, nil
}

func (c *command) readAudit(args []string) (all [][]audit.Entry, read map[string]*audit.Verifier, order []string, err error) {
	chains, order, err := c.chains(args)
	if err != nil {
		return nil, nil, nil, err
	}
	read = map[string]*audit.Verifier{}
	for _, dir := range order {
		v := &audit.Verifier{}
		for _, path := range chains[dir] {
			f, err := os.Open(path)
			if err != nil {
				return nil, nil, nil, err
			}
			err = v.Read(path, f)
			f.Close()
			if err != nil {
				return nil, nil, nil, err
			}
		}
		read[dir] = v
		all = append(all, v.Entries)
	}
	return all, read, order, nil
}

// auditList asks the group, or reads files where some are named or no server
// answers.
func (c *command) auditList(ctx context.Context, args []string) (err error) {
	if c.query.Since, err = sinceWhen(c.since, time.Now()); err != nil {
		return err
	}
	if w := c.query.What; w != "" && !slices.Contains(audit.Whats(), w) {
		return program.Usagef("-what %q: it is one of %s", w, strings.Join(audit.Whats(), ", "))
	}
	if len(args) == 0 && c.state == "" {
		var g adminapi.GroupAudit
		v := c.query.Values()
		if c.setup.host != "" {
			v.Set("host", c.setup.host)
		}
		err := c.client().ask(ctx, "GET", "/group/audit?"+v.Encode(), nil, &g)
		if exitCode(err) != ExitAway {
			if err == nil {
				err = c.printAudit(g.Entries)
			}
			if err == nil && g.Cut {
				fmt.Fprintln(c.stderr, "hotdesk: older entries are left out: ask with -since, or name the files")
			}
			return cmp.Or(err, c.missing(g.Missing))
		}
		fmt.Fprintf(c.stderr, "hotdesk: %v\nhotdesk: this is what the files here say\n", err)
	}
	all, read, order, err := c.readAudit(args)
	if err != nil {
		return err
	}
	entries := []adminapi.AuditEntry{}
	for _, e := range audit.Merge(all...) {
		if x := admin.Shown(e); c.query.Fits(x) && (c.setup.host == "" || x.Host == c.setup.host) {
			entries = append(entries, x)
		}
	}
	err = c.printAudit(entries)
	for _, dir := range order {
		if v := read[dir]; err == nil && len(v.Faults) > 0 {
			fmt.Fprintf(c.stderr, "hotdesk: %s does not hold to its chain: see `hotdesk audit verify`\n", dir)
			err = errWarnings
		}
	}
	return err
}

func (c *command) printAudit(all []adminapi.AuditEntry) error {
	return c.print(all, func(w io.Writer) {
		row(w, "WHEN", "HOST", "N", "WHAT", "WHO", "TOKEN", "TERMINAL", "ADDRESS", "SESSION", "TEXT")
		for _, e := range all {
			text := e.Text
			if e.After != e.Before && e.What != audit.Refuse { // what was refused changed nothing
				text += fmt.Sprintf(" (revision %d -> %d)", e.Before, e.After)
			}
			row(w, at(e.When), e.Host, e.N, e.What, e.Who, e.Token, e.Terminal, e.Addr, e.Session, text)
		}
	})
}

// sinceWhen reads -since, in local time.
func sinceWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if t, err := time.ParseInLocation("15:04", s, now.Location()); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location()), nil
	}
	for _, form := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, program.Usagef("-since %q is no time: write 90m, 7d, 15:04, 2006-01-02 or '2006-01-02 15:04'", s)
}

// verified is what verify found of one chain.
type verified struct {
	Dir     string   `json:"dir"`
	Entries int      `json:"entries"`
	First   uint64   `json:"first"`
	Last    uint64   `json:"last"`
	Hash    string   `json:"hash"`
	Torn    bool     `json:"torn,omitempty"`
	Faults  []string `json:"faults"`
}

func (c *command) auditVerify(_ context.Context, args []string) error {
	_, read, order, err := c.readAudit(args)
	if err != nil {
		return err
	}
	var out []verified
	for _, dir := range order {
		v := read[dir]
		out = append(out, verified{dir, len(v.Entries), v.First, v.Last, v.Hash, v.Torn, append([]string{}, v.Faults...)})
	}
	err = c.print(out, func(w io.Writer) {
		for _, v := range out {
			fmt.Fprintf(w, "%s: entries %d to %d, last hash %s\n", v.Dir, v.First, v.Last, v.Hash)
			if v.First > 1 {
				fmt.Fprintf(w, "  entries before %d are not among these files\n", v.First)
			}
			if v.Torn {
				fmt.Fprintln(w, "  the last line is torn: an entry is just being written, or a crash tore it; the server names it at its next start")
			}
			for _, f := range v.Faults {
				fmt.Fprintf(w, "  FAULT %s\n", f)
			}
		}
	})
	if err == nil && slices.ContainsFunc(out, func(v verified) bool { return len(v.Faults) > 0 }) {
		err = errWarnings
	}
	return err
}
