// Package program is the border between a Hotdesk program and the person who
// runs it: one flag set that is also the configuration file, help text, exit
// codes and the two-step stop.
//
// Source: the conventions of design section 6 and of the flag package.
//
// Invariants:
//  1. Whatever can be set by a flag can be set by a line "flag = value" of the
//     file named by -config, and nothing else can; the command line wins.
//  2. An unknown key, a bad value and a stray argument are errors that name
//     the file and the line.
//  3. The first SIGINT or SIGTERM cancels the context that Main hands to run
//     (drain); the second cancels the one behind Abort.
//
// It opens the configuration file and listens for signals; apart from that it
// does no I/O. Limit: MaxConfig bytes of configuration.
package program

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// MaxConfig bounds a configuration file, in bytes.
const MaxConfig = 1 << 20

// Exit codes that every program uses.
const (
	ExitOK    = 0 // done, or stopped as asked
	ExitError = 1 // it ran and failed
	ExitUsage = 2 // flags, configuration or arguments are wrong; nothing ran
)

// A Command is one program: its flag set and what it does.
type Command struct {
	Name    string        // as typed, for example "groupmgr"
	Purpose string        // one sentence, for help and reference
	Usage   string        // argument forms, one a line, without the program name
	Flags   *flag.FlagSet // every flag; "config" is added by Run
	Run     func(ctx context.Context, args []string) error
}

// UsageError is an error of the caller's: reported with a pointer to -h, exit
// code ExitUsage.
type UsageError struct{ Text string }

func (e UsageError) Error() string { return e.Text }

// Usagef makes a UsageError.
func Usagef(format string, a ...any) error { return UsageError{fmt.Sprintf(format, a...)} }

type abortKey struct{}

// Abort returns a channel that is closed at the second stop signal: what still
// drains then gives up. Outside Main it never closes.
func Abort(ctx context.Context) <-chan struct{} {
	if c, ok := ctx.Value(abortKey{}).(context.Context); ok {
		return c.Done()
	}
	return nil
}

// Main parses args (without the program's name), runs c and returns the exit
// code. Help goes to stdout, errors to stderr.
func Main(c *Command, args []string, stdout, stderr io.Writer) int {
	rest, err := c.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(stdout)
		return ExitOK
	}
	if err == nil {
		abort, cancelAbort := context.WithCancel(context.Background())
		defer cancelAbort()
		ctx, stop := context.WithCancel(context.WithValue(abort, abortKey{}, abort))
		defer stop()
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		defer signal.Stop(signals)
		go func() {
			for _, cancel := range []context.CancelFunc{stop, cancelAbort} {
				select {
				case <-signals:
					cancel()
				case <-abort.Done():
					return
				}
			}
		}()
		err = c.Run(ctx, rest)
	}
	if err == nil {
		return ExitOK
	}
	// A program's own package may have said its name already.
	text := strings.TrimPrefix(err.Error(), c.Name+": ")
	fmt.Fprintf(stderr, "%s: %s\n", c.Name, text)
	if _, ok := errors.AsType[UsageError](err); ok {
		fmt.Fprintf(stderr, "%s: '%s -h' lists the flags\n", c.Name, c.Name)
		return ExitUsage
	}
	return ExitError
}

func (c *Command) parse(args []string) ([]string, error) {
	fs := c.Flags
	fs.Init(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	file := ""
	if fs.Lookup("config") == nil {
		fs.StringVar(&file, "config", "", "`FILE` with lines 'flag = value' for any of these flags; the command line wins")
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, UsageError{err.Error()}
	}
	if file == "" {
		return fs.Args(), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, Usagef("-config: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, Usagef("-config: %v", err)
	}
	if len(text) > MaxConfig {
		return nil, Usagef("-config %s: larger than %d bytes", file, MaxConfig)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return fs.Args(), ReadConfig(fs, file, string(text), given)
}

// ReadConfig sets flags of fs from the text of a configuration file, but for
// those in given. Blank lines and lines that begin with # are passed over.
// name stands in errors.
func ReadConfig(fs *flag.FlagSet, name, text string, given map[string]bool) error {
	seen := map[string]int{}
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, MaxConfig)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			return Usagef("%s:%d: not 'flag = value': %q", name, n, line)
		case key == "config" || fs.Lookup(key) == nil:
			return Usagef("%s:%d: unknown key %q", name, n, key)
		case seen[key] != 0:
			return Usagef("%s:%d: %q stands already in line %d", name, n, key, seen[key])
		}
		seen[key] = n
		if given[key] {
			continue
		}
		if err := fs.Set(key, value); err != nil {
			return Usagef("%s:%d: %s: %v", name, n, key, err)
		}
	}
	return sc.Err()
}

func (c *Command) help(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n\nusage:\n", c.Name, c.Purpose)
	for line := range strings.Lines(c.Usage) {
		fmt.Fprintf(w, "  %s %s", c.Name, line)
	}
	fmt.Fprint(w, "\n\nflags:\n")
	c.Flags.VisitAll(func(f *flag.Flag) {
		arg, text := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  -%s", f.Name)
		if arg != "" {
			fmt.Fprintf(w, " %s", arg)
		}
		fmt.Fprintf(w, "\n        %s", text)
		if f.DefValue != "" && f.DefValue != "false" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// Reference returns the program's reference page in Markdown, made from the
// same flag set as its help.
func (c *Command) Reference() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n<!-- generated from the flag set; go run ./tools/test -update rewrites it -->\n\n%s\n\n```\n", c.Name, c.Purpose)
	for line := range strings.Lines(c.Usage) {
		fmt.Fprintf(&b, "%s %s", c.Name, line)
	}
	b.WriteString("\n```\n\nEach flag is also a key of the file given by `-config FILE` (lines `flag = value`).\n\n| flag | meaning | default |\n|---|---|---|\n")
	c.Flags.VisitAll(func(f *flag.Flag) {
		arg, text := flag.UnquoteUsage(f)
		def := f.DefValue
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `-%s` | %s | %s |\n", strings.TrimSpace(f.Name+" "+arg), strings.ReplaceAll(text, "|", "\\|"), def)
	})
	return b.String()
}
