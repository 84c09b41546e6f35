// Package app is `hotdesk`, the command line of administrators: it asks the
// gateway of this host over the admin API and prints tables for people or JSON
// for programs.
//
// Source: design section 5; protocol/adminapi.
//
// Exit codes: the constants below. Secrets are read from files and standard
// input, never from the command line.
//
// What needs no gateway (setup, key, audit) works on files and runs as root.
package app

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/program"
	"hotdesk/server/audit"
)

// Exit codes, for scripts. Only ever appended to.
const (
	ExitOK       = program.ExitOK
	ExitFailed   = program.ExitError
	ExitUsage    = program.ExitUsage
	ExitNotFound = 3 // there is no such session, record, revision
	ExitRefused  = 4 // what was asked for cannot be, or the caller may not
	ExitConflict = 5 // someone else was first, or it is in another state
	ExitAway     = 6 // the gateway, the group manager or the registry does not answer
	ExitNotYet   = 7 // this version cannot
	ExitWarnings = 8 // status, audit verify: something is wrong, and was printed
)

// A command is one run of the program.
type command struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	local    bool
	runtime  string
	state    string
	asJSON   bool
	deadline time.Duration
	reason   string
	since    string
	query    adminapi.AuditQuery
	setup    setup
}

// A verb is one thing that the program does.
type verb struct {
	words string // "session list"
	args  string // for help
	help  string
	least int // arguments
	most  int // -1: any number
	run   func(*command, context.Context, []string) error
}

func verbs() []verb {
	v := []verb{
		{"status", "", "how this host does, and what is wrong", 0, 0, (*command).status},
		{"group", "", "the hosts of the group", 0, 0, (*command).group},
		{"session list", "", "the sessions of the group; with -host NAME of one host", 0, 0, (*command).sessionList},
		{"session show", "ID", "one session; the first digits of its id are enough", 1, 1, (*command).sessionShow},
		{"session end", "ID", "end a session: its programs are stopped", 1, 1, sessionDo("end")},
		{"session detach", "ID", "take a session off its terminal; it runs on", 1, 1, sessionDo("detach")},
		{"session lock", "ID", "hide it until its user has logged in", 1, 1, sessionDo("lock")},
		{"session message", "ID TEXT", "have the user read something", 2, 2, sessionDo("message")},
		{"terminal list", "", "the terminals that are connected to the group or have a name; with -host NAME of one host", 0, 0, (*command).terminalList},
		{"terminal show", "ID|NAME", "one terminal", 1, 1, (*command).terminalShow},
		{"terminal name", "ID NAME [location=TEXT] [key=HASH]", "give a terminal a name, and say which key is its own: the host's log has it", 2, 4, (*command).terminalName},
		{"terminal forget", "ID", "forget its key, and send away the terminal that has it: one of its id with another key may come, and after a minute that one again", 1, 1, (*command).terminalForget},
		{"terminal remove", "ID", "forget its name", 1, 1, remove(adminapi.KindTerminal)},
		{"host online", "", "take new sessions", 0, 0, host("online")},
		{"host offline", "", "take no new sessions; those that are here stay", 0, 0, host("offline")},
		{"host drain", "[-deadline TIME]", "as offline; at the deadline, or at once, sessions that are here end", 0, 0, host("drain")},
		{"registry status", "", "where the registry is and how it does", 0, 0, (*command).registryStatus},
		{"registry watch", "", "a line at every news of it, until interrupted", 0, 0, (*command).registryWatch},
		{"registry export", "[FILE]", "write it as one text file", 0, 1, (*command).registryExport},
		{"registry import", "FILE", "make it what the file says, as one change", 1, 1, (*command).registryImport},
		{"registry diff", "FILE|REV [REV]", "what an import of FILE would change, or what changed since REV", 1, 2, (*command).registryDiff},
		{"registry history", "[COUNT]", "the last changes", 0, 1, (*command).registryHistory},
		{"registry rollback", "REV", "bring the records of a revision back, as a new one", 1, 1, (*command).registryRollback},
		{"registry adopt", "", "make this host, which follows another, the registry", 0, 0, registryPost("adopt")},
		{"registry accept", "", "take the registry's changes where this host's copy has others", 0, 0, registryPost("accept")},
		{"audit", "", "as audit list", 0, 0, (*command).auditList},
		{"audit list", "[DIR|FILE...]", "who did what, of all hosts by time (-since, -token, -user, -what, -host); with arguments or -state of files", 0, -1, (*command).auditList},
		{"audit verify", "[DIR|FILE...]", "hold the files to their chain", 0, -1, (*command).auditVerify},
		{"setup", "", "make this the first host of a group: account, keys, authority, configuration", 0, 0, (*command).setupFirst},
		{"setup invite", "", "let one further host join: prints the line to paste there", 0, 0, (*command).setupInvite},
		{"setup join", "", "join a group: reads the line from standard input", 0, 0, (*command).setupJoin},
		{"key list", "", "the keys of the group on this host; the first signs", 0, 0, (*command).keyList},
		{"key rotate", "", "make the next key; prints what is to be done on the other hosts", 0, 0, (*command).keyRotate},
		{"key show", "ID", "print a key, a secret, for the next host's key add", 1, 1, (*command).keyShow},
		{"key add", "", "take a key that another host made, from standard input", 0, 0, (*command).keyAdd},
		{"key use", "ID", "sign with a key that all hosts have", 1, 1, (*command).keyUse},
		{"key drop", "ID", "forget a key that no host signs with", 1, 1, (*command).keyDrop},
	}
	v = append(v, verb{"policy explain", "TOKEN TERMINAL [USER]", "what would happen now, and which rule decides; USER as if logged in", 2, 3, (*command).policyExplain})
	for _, s := range adminapi.Schemas {
		if s.Kind == adminapi.KindTerminal {
			continue
		}
		k := string(s.Kind)
		v = append(v,
			verb{k + " list", "", "records: " + s.Help, 0, 0, records(s.Kind)},
			verb{k + " show", "NAME", "one record", 1, 1, record(s.Kind)},
			verb{k + " add", "NAME [FIELD=VALUE...]", "register: fields " + fields(s), 1, -1, put(s.Kind, true)},
			verb{k + " set", "NAME FIELD=VALUE...", "change fields; FIELD= takes one away", 2, -1, put(s.Kind, false)},
			verb{k + " remove", "NAME", "forget it", 1, 1, remove(s.Kind)},
		)
		if s.Kind == adminapi.KindToken || s.Kind == adminapi.KindUser {
			v = append(v,
				verb{k + " disable", "NAME", "no session for it, until it is enabled", 1, 1, disable(s.Kind, "yes")},
				verb{k + " enable", "NAME", "the reverse", 1, 1, disable(s.Kind, "")})
		}
		if s.Kind == adminapi.KindToken {
			v = append(v, verb{"token alias", "TOKEN OTHER", "TOKEN, a second card, opens the sessions of OTHER", 2, 2, (*command).alias})
		}
	}
	return v
}

func fields(s adminapi.Schema) string {
	var all []string
	for _, f := range s.Fields {
		all = append(all, f.Name+" ("+f.Help+")")
	}
	return strings.Join(all, "; ")
}

// Command is the program's flag set and usage.
func Command() *program.Command {
	c, _ := (&command{stdout: io.Discard, stderr: io.Discard}).program()
	return c
}

func (c *command) program() (*program.Command, *error) {
	fs := flag.NewFlagSet("hotdesk", flag.ContinueOnError)
	fs.BoolVar(&c.local, "local", false, "ask the server that runs with -local and no -runtime")
	fs.StringVar(&c.runtime, "runtime", "", "`DIR` of the server's sockets (empty: as server)")
	fs.StringVar(&c.state, "state", "", "`DIR` of keys and certificates (empty: as server)")
	fs.BoolVar(&c.asJSON, "json", false, "print JSON")
	fs.DurationVar(&c.deadline, "deadline", 0, "of host drain: `TIME` until sessions end (0: at once)")
	fs.StringVar(&c.reason, "reason", "", "`TEXT` for the audit, and for the user where one is told")
	fs.StringVar(&c.since, "since", "", "of audit list: `TIME` from which on, as 15:04, 2006-01-02, '2006-01-02 15:04' or 90m for the last so many")
	fs.StringVar(&c.query.Token, "token", "", "of audit list: of that `TOKEN` only")
	fs.StringVar(&c.query.User, "user", "", "of audit list: of that `USER` or admin only")
	fs.StringVar(&c.query.What, "what", "", "of audit list: that `WORD` only: "+strings.Join(audit.Whats(), ", "))
	c.setup.flags(fs)
	var last error
	var usage []string
	for _, v := range verbs() {
		usage = append(usage, strings.TrimSpace(v.words+" "+v.args)+"  # "+v.help)
	}
	usage = append(usage, "help  # this")
	codes := fmt.Sprintf("exit codes: %d done; %d failed; %d wrong arguments; %d not found; %d refused; %d someone else was first; %d no answer; %d not in this version; %d status or audit found something",
		ExitOK, ExitFailed, ExitUsage, ExitNotFound, ExitRefused, ExitConflict, ExitAway, ExitNotYet, ExitWarnings)
	p := &program.Command{
		Name:    "hotdesk",
		Purpose: "shows and changes what the servers of a Hotdesk group do; flags may stand anywhere; " + codes,
		Usage:   strings.Join(usage, "\n"),
		Flags:   fs,
	}
	p.Run = func(ctx context.Context, args []string) error {
		last = c.do(ctx, fs, args)
		return last
	}
	return p, &last
}

// Main is the program.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "help" {
		args = []string{"-h"}
	}
	c := &command{stdin: stdin, stdout: stdout, stderr: stderr}
	p, last := c.program()
	code := program.Main(p, args, stdout, stderr)
	if code == ExitFailed {
		code = exitCode(*last)
	}
	return code
}

// errWarnings is what is wrong, and has been printed.
var errWarnings = errors.New("look at the warnings above")

func exitCode(err error) int {
	if errors.Is(err, errWarnings) {
		return ExitWarnings
	}
	if _, ok := errors.AsType[adminapi.Invalid](err); ok {
		return ExitRefused
	}
	e, _ := errors.AsType[adminapi.Error](err)
	switch e.Code {
	case adminapi.CodeNotFound:
		return ExitNotFound
	case adminapi.CodeInvalid, adminapi.CodeDenied, adminapi.CodeTooLarge:
		return ExitRefused
	case adminapi.CodeConflict:
		return ExitConflict
	case adminapi.CodeAway:
		return ExitAway
	case adminapi.CodeNotYet:
		return ExitNotYet
	}
	return ExitFailed
}

// do finds the verb and runs it.
func (c *command) do(ctx context.Context, fs *flag.FlagSet, args []string) error {
	var words []string
	for len(args) > 0 { // flags may stand anywhere
		if args[0] == "--" {
			words = append(words, args[1:]...)
			break
		}
		if strings.HasPrefix(args[0], "-") && len(args[0]) > 1 {
			if err := fs.Parse(args); err != nil {
				return program.Usagef("%v", err)
			}
			args = fs.Args()
			continue
		}
		words = append(words, args[0])
		args = args[1:]
	}
	if len(words) == 0 {
		return program.Usagef("what is to be done? `hotdesk help` lists it")
	}
	all := verbs()
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		i := slices.IndexFunc(all, func(v verb) bool { return v.words == name })
		if i < 0 {
			continue
		}
		v, rest := all[i], words[n:]
		if len(rest) < v.least || v.most >= 0 && len(rest) > v.most {
			return program.Usagef("usage: hotdesk %s", strings.TrimSpace(v.words+" "+v.args))
		}
		// What a script found nothing for must not stand for whatever there is.
		if len(rest) > 0 && rest[0] == "" {
			return program.Usagef("the first argument is empty: usage: hotdesk %s", v.words+" "+v.args)
		}
		if c.setup.host != "" && !hasHost(v.words) {
			return program.Usagef("hotdesk %s is about the host whose server answers, and has no -host: run it there", v.words)
		}
		return v.run(c, ctx, rest)
	}
	var near []string
	for _, v := range all {
		if first, second, _ := strings.Cut(v.words, " "); first == words[0] {
			near = append(near, second)
		}
	}
	if len(near) > 0 {
		return program.Usagef("hotdesk %s: want one of: %s", words[0], strings.Join(near, ", "))
	}
	return program.Usagef("unknown %q: `hotdesk help` lists what there is", words[0])
}

// hasHost reports whether -host means something to a verb.
func hasHost(words string) bool {
	return slices.Contains([]string{"session", "audit", "setup"}, strings.Fields(words)[0]) || words == "terminal list" || words == "terminal show"
}

func (c *command) runtimeDir() string { return cmp.Or(c.runtime, program.RuntimeDir(c.local)) }
func (c *command) stateDir() string   { return cmp.Or(c.state, program.StateDir(c.local)) }

func (c *command) client() *client {
	return newClient(filepath.Join(c.runtimeDir(), adminapi.Socket))
}

// needRoot refuses what others cannot do, before anything is half done.
func (c *command) needRoot() error {
	if !c.local && os.Geteuid() != 0 {
		name := "you"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		return adminapi.Error{Code: adminapi.CodeDenied, Text: "this needs root, and " + name + " is not: use sudo"}
	}
	return nil
}
