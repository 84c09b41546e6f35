package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/program"
)

// print writes v as JSON, or has people's form written.
func (c *command) print(v any, people func(w io.Writer)) error {
	if c.asJSON {
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	people(w)
	return w.Flush()
}

func row(w io.Writer, cells ...any) {
	for i, x := range cells {
		s := fmt.Sprint(x)
		if s == "" {
			s = "-"
		}
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, s)
	}
	fmt.Fprintln(w)
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (c *command) status(ctx context.Context, _ []string) error {
	var s adminapi.Status
	if err := c.client().ask(ctx, "GET", "/status", nil, &s); err != nil {
		return err
	}
	err := c.print(s, func(w io.Writer) {
		row(w, "host", s.Host)
		row(w, "version", s.Version)
		row(w, "sessions", s.Sessions)
		row(w, "terminals", s.Terminals)
		row(w, "authority", s.Authority)
		row(w, "certificate", "until "+at(s.CertUntil))
		registryRows(w, s.Registry)
		if s.Group != nil {
			row(w, "group", fmt.Sprintf("%s, %d other hosts trusted, %d of them down", s.Group.State, s.Group.Trusted, s.Group.Down))
		}
		for _, x := range s.Warnings {
			row(w, "WARNING", x)
		}
	})
	if err == nil && len(s.Warnings) > 0 {
		err = errWarnings
	}
	return err
}

func registryRows(w io.Writer, r adminapi.RegistryStatus) {
	if r.Mode == "" {
		row(w, "registry", "none")
		return
	}
	how := "connected"
	if !r.Connected {
		how = "AWAY"
	}
	row(w, "registry", fmt.Sprintf("%s, %s since %s, revision %d, %d records", r.Mode, how, at(r.Since), r.Rev, r.Records))
	if r.Error != "" {
		row(w, "", r.Error)
	}
}

func (c *command) group(ctx context.Context, _ []string) error {
	var t local.Table
	if err := c.client().ask(ctx, "GET", "/group", nil, &t); err != nil {
		return err
	}
	return c.print(t, func(w io.Writer) {
		row(w, "HOST", "ADDRESS", "STATE", "SESSIONS", "LIMIT", "CPUS", "LOAD", "FREE", "SEEN", "NOTES")
		for _, h := range t.Hosts {
			var notes []string
			for _, n := range []struct {
				is   bool
				text string
			}{{!h.Trusted, "not trusted " + h.Why}, {h.Stopped, "stopped"}, {h.Down && !h.Stopped, "down"}, {h.Suspect, "suspect"}, {h.Duplicate != "", h.Duplicate}, {h.Control == 0, "no gateway"}} {
				if n.is {
					notes = append(notes, strings.TrimSpace(n.text))
				}
			}
			row(w, h.Host, dotted(h.Addr), h.State, h.Sessions, h.Limit, h.CPUs, fmt.Sprintf("%.2f", float64(h.Load)/100), fmt.Sprintf("%d MiB", h.Free), fmt.Sprintf("%d s", h.LastSeen), strings.Join(notes, ", "))
		}
	})
}

// dotted turns eight hex digits into an address.
func dotted(hex string) string {
	var b [4]int
	if n, err := fmt.Sscanf(hex, "%02x%02x%02x%02x", &b[0], &b[1], &b[2], &b[3]); n != 4 || err != nil {
		return hex
	}
	return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
}

// onHost is the query of what is meant of one host, "" for all.
func (c *command) onHost() string {
	if c.setup.host == "" {
		return ""
	}
	return "?host=" + url.QueryEscape(c.setup.host)
}

// missing names the hosts whose part is not there, after the others' was
// printed.
func (c *command) missing(all []adminapi.Missing) error {
	for _, m := range all {
		name := m.Host
		if m.Addr != "" {
			name += " (" + m.Addr + ")"
		}
		fmt.Fprintf(c.stderr, "hotdesk: without %s: %s\n", name, m.Why)
	}
	if len(all) > 0 {
		return errWarnings
	}
	return nil
}

func (c *command) sessions(ctx context.Context) (all adminapi.GroupSessions, err error) {
	err = c.client().ask(ctx, "GET", "/group/sessions"+c.onHost(), nil, &all)
	return all, err
}

func (c *command) sessionList(ctx context.Context, _ []string) error {
	all, err := c.sessions(ctx)
	if err != nil {
		return err
	}
	err = c.print(all.Sessions, func(w io.Writer) {
		row(w, "ID", "TOKEN", "USER", "STATE", "TERMINAL", "LAST", "HOST")
		for _, s := range all.Sessions {
			row(w, s.ID, s.Token, s.User, s.State, s.Terminal, at(s.Last), s.Host)
		}
	})
	return cmp.Or(err, c.missing(all.Missing))
}

// find returns the session whose id begins so.
func (c *command) find(ctx context.Context, id string) (adminapi.Session, error) {
	g, err := c.sessions(ctx)
	if err != nil {
		return adminapi.Session{}, err
	}
	all := slices.DeleteFunc(g.Sessions, func(s adminapi.Session) bool { return !strings.HasPrefix(string(s.ID), id) })
	switch len(all) {
	case 0:
		_ = c.missing(g.Missing) // it may be there
		return adminapi.Session{}, adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("no session has an id that begins with %q: `hotdesk session list` shows them", id)}
	case 1:
		return all[0], nil
	}
	return adminapi.Session{}, adminapi.Invalid{Text: fmt.Sprintf("%d sessions have ids that begin with %q: give more digits", len(all), id)}
}

func (c *command) sessionShow(ctx context.Context, args []string) error {
	s, err := c.find(ctx, args[0])
	if err != nil {
		return err
	}
	return c.print(s, func(w io.Writer) {
		row(w, "id", s.ID)
		row(w, "token", s.Token)
		row(w, "user", s.User)
		row(w, "state", s.State)
		row(w, "terminal", s.Terminal)
		row(w, "last", at(s.Last))
		row(w, "host", s.Host)
	})
}

func sessionDo(what string) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		s, err := c.find(ctx, args[0])
		if err != nil {
			return err
		}
		if len(args) > 1 {
			c.reason = args[1]
		}
		return c.done(ctx, "POST", "/sessions/"+string(s.ID)+"/"+what+"?host="+url.QueryEscape(s.Host), adminapi.Reason{Reason: c.reason})
	}
}

// done asks for a change and prints what came of it.
func (c *command) done(ctx context.Context, method, path string, in any) error {
	var d adminapi.Done
	if err := c.client().ask(ctx, method, path, in, &d); err != nil {
		return err
	}
	return c.print(d, func(w io.Writer) {
		if d.Rev != d.Before {
			fmt.Fprintf(w, "revision %d\n", d.Rev)
		}
		if d.Text != "" {
			fmt.Fprintln(w, d.Text)
		}
	})
}

func (c *command) terminals(ctx context.Context) (all adminapi.GroupTerminals, err error) {
	err = c.client().ask(ctx, "GET", "/group/terminals"+c.onHost(), nil, &all)
	return all, err
}

func (c *command) terminalList(ctx context.Context, _ []string) error {
	all, err := c.terminals(ctx)
	if err != nil {
		return err
	}
	err = c.print(all.Terminals, func(w io.Writer) {
		row(w, "ID", "NAME", "LOCATION", "CONNECTED", "ADDRESS", "TOKEN", "SESSION", "HOST")
		for _, t := range all.Terminals {
			row(w, t.ID, t.Name, t.Location, yesNo(t.Connected), t.Addr, t.Token, t.Session, t.Host)
		}
	})
	return cmp.Or(err, c.missing(all.Missing))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *command) terminalShow(ctx context.Context, args []string) error {
	g, err := c.terminals(ctx)
	if err != nil {
		return err
	}
	all := g.Terminals
	i := slices.IndexFunc(all, func(t adminapi.TerminalState) bool { return string(t.ID) == args[0] })
	if i < 0 { // names are people's matter: several may have the same
		named := func(t adminapi.TerminalState) bool { return t.Name == args[0] }
		i = slices.IndexFunc(all, named)
		if i >= 0 && slices.ContainsFunc(all[i+1:], named) {
			return adminapi.Invalid{Text: fmt.Sprintf("more than one terminal has the name %q: give an id, as `hotdesk terminal list` shows it", args[0])}
		}
	}
	if i < 0 {
		_ = c.missing(g.Missing) // it may be there
		return adminapi.Error{Code: adminapi.CodeNotFound, Text: fmt.Sprintf("no terminal %q is connected or has a name: `hotdesk terminal list` shows them", args[0])}
	}
	t := all[i]
	return c.print(t, func(w io.Writer) {
		row(w, "id", t.ID)
		row(w, "name", t.Name)
		row(w, "location", t.Location)
		row(w, "connected", yesNo(t.Connected))
		row(w, "address", t.Addr)
		row(w, "token", t.Token)
		row(w, "session", t.Session)
		row(w, "host", t.Host)
		row(w, "key", t.Key)
		row(w, "shown key", t.Shown)
	})
}

func (c *command) terminalName(ctx context.Context, args []string) error {
	fields, err := adminapi.ParseFields(append([]string{"name=" + args[1]}, args[2:]...))
	if err != nil {
		return err
	}
	path := recordPath(adminapi.KindTerminal, args[0])
	err = c.done(ctx, "POST", path, adminapi.RecordRequest{Fields: fields})
	if exitCode(err) == ExitNotFound { // the first name of it
		err = c.done(ctx, "POST", path, adminapi.RecordRequest{Fields: fields, Create: true})
	}
	return err
}

func (c *command) terminalForget(ctx context.Context, args []string) error {
	return c.done(ctx, "DELETE", "/group/terminals/"+url.PathEscape(args[0])+"/key", nil)
}

func host(what string) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, _ []string) error {
		if c.deadline < 0 {
			return program.Usagef("-deadline %v: it is a time from now, as 30m", c.deadline)
		}
		q := local.StateRequest{State: what, Within: int64(c.deadline.Round(time.Second) / time.Second)}
		if what == "drain" {
			q.State = local.Offline
			if q.Within == 0 {
				q.State = local.Down
			}
		}
		var s local.State
		if err := c.client().ask(ctx, "POST", "/host/state", q, &s); err != nil {
			return err
		}
		return c.print(s, func(w io.Writer) { fmt.Fprintln(w, s) })
	}
}

func recordPath(k adminapi.Kind, name string) string {
	return "/records/" + string(k) + "/" + url.PathEscape(name)
}

func records(k adminapi.Kind) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, _ []string) error {
		var all []adminapi.Record
		if err := c.client().ask(ctx, "GET", "/records/"+string(k), nil, &all); err != nil {
			return err
		}
		s, _ := adminapi.SchemaOf(k)
		return c.print(all, func(w io.Writer) {
			head := []any{"NAME"}
			for _, f := range s.Fields {
				head = append(head, strings.ToUpper(f.Name))
			}
			row(w, head...)
			for _, r := range all {
				cells := []any{r.Name}
				for _, f := range s.Fields {
					cells = append(cells, r.Fields[f.Name])
				}
				row(w, cells...)
			}
		})
	}
}

func record(k adminapi.Kind) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		var r adminapi.Record
		if err := c.client().ask(ctx, "GET", recordPath(k, args[0]), nil, &r); err != nil {
			return err
		}
		return c.print(r, func(w io.Writer) { fmt.Fprintf(w, "%s\n", r.AppendText(nil)) })
	}
}

func put(k adminapi.Kind, create bool) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		fields, err := adminapi.ParseFields(args[1:])
		if err != nil {
			return err
		}
		return c.done(ctx, "POST", recordPath(k, args[0]), adminapi.RecordRequest{Fields: fields, Create: create})
	}
}

func remove(k adminapi.Kind) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		return c.done(ctx, "DELETE", recordPath(k, args[0]), nil)
	}
}

func disable(k adminapi.Kind, value string) func(*command, context.Context, []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		return c.done(ctx, "POST", recordPath(k, args[0]), adminapi.RecordRequest{Fields: map[string]string{"disabled": value}})
	}
}

// alias registers a second card, or changes one that is registered.
func (c *command) alias(ctx context.Context, args []string) error {
	fields := map[string]string{"alias": args[1]}
	path := recordPath(adminapi.KindToken, args[0])
	err := c.done(ctx, "POST", path, adminapi.RecordRequest{Fields: fields})
	if exitCode(err) == ExitNotFound {
		err = c.done(ctx, "POST", path, adminapi.RecordRequest{Fields: fields, Create: true})
	}
	return cmp.Or(err)
}
