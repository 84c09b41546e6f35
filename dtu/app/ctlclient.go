package app

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hotdesk/dtu/backend"
	"hotdesk/protocol/program"
	"hotdesk/protocol/rpc"
)

// ctlFlags are the flags of `dtu ctl`; they may stand before and after the
// command.
type ctlFlags struct {
	socket     string
	json, bare bool
	timeout    time.Duration
}

// CtlCommand is the program `dtu ctl`.
func CtlCommand() *program.Command { return ctlCommand(io.Discard) }

func ctlCommand(stdout io.Writer) *program.Command {
	var f ctlFlags
	fs := flag.NewFlagSet("dtu ctl", flag.ContinueOnError)
	fs.StringVar(&f.socket, "socket", "", "control `SOCKET` of the terminal: -ctl of dtu, or what its ready line says")
	fs.BoolVar(&f.json, "json", false, "status and cards: print JSON")
	fs.BoolVar(&f.bare, "bare", false, "screenshot: without the pointer")
	fs.DurationVar(&f.timeout, "timeout", 30*time.Second, "wait: give up after `TIME`; conditions are "+conditionHelp)
	return &program.Command{
		Name:    "dtu ctl",
		Purpose: "does at a terminal what hands can do",
		Usage: `-socket SOCKET insert CARD
-socket SOCKET remove
-socket SOCKET cards [-json]
-socket SOCKET type TEXT
-socket SOCKET key CHORD              such as ctrl+alt+t, Return, f5
-socket SOCKET click X Y [BUTTON]     1 left, 2 middle, 3 right
-socket SOCKET move X Y
-socket SOCKET screenshot FILE.png [-bare]
-socket SOCKET hash                   SHA-256 of the picture without the pointer
-socket SOCKET status [-json]
-socket SOCKET wait CONDITION... [-timeout TIME]
-socket SOCKET power-cycle
-socket SOCKET accept [FINGERPRINT]   trust the group whose fingerprint the screen shows
-socket SOCKET decline                do not, and ask about the next`,
		Flags: fs,
		Run: func(ctx context.Context, args []string) error {
			args, err := interleaved(fs, args)
			if err != nil {
				return err
			}
			return ctlRun(ctx, f, args, stdout)
		},
	}
}

// interleaved takes flags that stand after arguments. What follows "type" is
// text.
func interleaved(fs *flag.FlagSet, args []string) ([]string, error) {
	var plain []string
	for len(args) > 0 {
		plain = append(plain, args[0])
		if plain[0] == "type" {
			return append(plain, args[1:]...), nil
		}
		if err := fs.Parse(args[1:]); err != nil {
			return nil, program.Usagef("%v", err)
		}
		args = fs.Args()
	}
	return plain, nil
}

// ctlRun carries out one command.
func ctlRun(ctx context.Context, f ctlFlags, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return program.Usagef("no command")
	}
	op, r, err := request(f, args[0], args[1:])
	if err != nil {
		return err
	}
	if f.socket == "" {
		return program.Usagef("no -socket; dtu's ready line has it as ctl=")
	}
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		return fmt.Errorf("%w; is the terminal running?", err)
	}
	c := rpc.New(conn, nil)
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx) }()
	defer func() { c.Close(); <-served }()
	var out json.RawMessage
	if err := c.Call(ctx, op, r, &out); err != nil {
		return err
	}
	return show(f, op, out, stdout)
}

// request makes the request of a command.
func request(f ctlFlags, cmd string, args []string) (op string, r ctlRequest, err error) {
	want := func(least, most int, form string) {
		if len(args) < least || len(args) > most {
			err = program.Usagef("it is: %s %s", cmd, form)
		}
	}
	number := func(i int) int {
		if err != nil || i >= len(args) {
			return 0
		}
		n, e := strconv.Atoi(args[i])
		if e != nil {
			err = program.Usagef("%s: %q is not a number", cmd, args[i])
		}
		return n
	}
	one := func() string {
		if err != nil {
			return ""
		}
		return args[0]
	}
	switch cmd {
	case "insert":
		want(1, 1, "CARD")
		return opInsert, ctlRequest{Name: one()}, err
	case "remove":
		want(0, 0, "")
		return opRemove, r, err
	case "cards":
		want(0, 0, "[-json]")
		return opCards, r, err
	case "type":
		want(1, 1<<10, "TEXT")
		return opType, ctlRequest{Text: strings.Join(args, " ")}, err
	case "key":
		want(1, 1, "CHORD")
		return opKey, ctlRequest{Name: one()}, err
	case "click":
		want(2, 3, "X Y [BUTTON]")
		r = ctlRequest{X: number(0), Y: number(1), Button: 1}
		if len(args) == 3 {
			if r.Button = number(2); r.Button == 0 {
				err = program.Usagef("click: button 0; there are 1 left, 2 middle, 3 right")
			}
		}
		return opPointer, r, err
	case "move":
		want(2, 2, "X Y")
		return opPointer, ctlRequest{X: number(0), Y: number(1)}, err
	case "screenshot":
		want(1, 1, "FILE.png [-bare]")
		file, e := filepath.Abs(one())
		if err == nil {
			err = e
		}
		return opScreenshot, ctlRequest{Name: file, Bare: f.bare}, err
	case "accept":
		want(0, 1, "[FINGERPRINT]")
		if len(args) == 1 {
			r.Name = args[0]
		}
		return opAccept, r, err
	case "decline":
		want(0, 0, "")
		return opDecline, r, err
	case "hash":
		want(0, 0, "")
		return opHash, r, err
	case "status":
		want(0, 0, "[-json]")
		return opStatus, r, err
	case "wait":
		want(1, 32, "CONDITION... [-timeout TIME]")
		return opWait, ctlRequest{Conditions: args, Timeout: f.timeout}, err
	case "power-cycle":
		want(0, 0, "")
		return opPowerCycle, r, err
	}
	return "", r, program.Usagef("unknown command %q", cmd)
}

// show prints what a request brought.
func show(f ctlFlags, op string, out json.RawMessage, w io.Writer) error {
	switch {
	case op == opStatus && !f.json:
		var s Status
		if err := rpc.Decode(out, &s); err != nil {
			return err
		}
		fmt.Fprintf(w, "state     %s\n", s.State)
		if s.Code != 0 {
			fmt.Fprintf(w, "code      %d %s: %s\n", s.Code, s.Title, s.Text)
		}
		control := "down"
		if s.Control {
			control = "up"
		}
		fmt.Fprintf(w, "server    %v, control %s\ntoken     %s\nsession   %s gen %d\ncard      %s\nterminal  %s, %dx%d, layout %s\n",
			s.Server, control, s.Token, s.Session, s.Gen, s.Card, s.Terminal, s.Width, s.Height, s.Layout)
	case op == opCards && !f.json:
		var cards []backend.CardInfo
		if err := rpc.Decode(out, &cards); err != nil {
			return err
		}
		for _, c := range cards {
			mark := ""
			if c.Inserted {
				mark = " (in)"
			}
			fmt.Fprintf(w, "%s%s\n", c.Name, mark)
		}
	case op == opHash:
		var h string
		if err := rpc.Decode(out, &h); err != nil {
			return err
		}
		fmt.Fprintln(w, h)
	case op == opStatus || op == opCards:
		fmt.Fprintf(w, "%s\n", out)
	}
	return nil
}
