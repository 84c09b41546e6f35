// Package app is the fleet as a program: it starts hosts, terminals and people,
// breaks things, judges every picture and what is left at the end, and tells what
// came of it.
//
// Source: packages scenario, crowd, oracle, harm, remains, figures, live, wall, report.
//
// Invariants: the exit code is 0 only where no violation was found in the whole
// time; nothing that a run started outlives it. A run that a signal ends, or a
// fault that cannot be mended, has its figures too.
package app

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"hotdesk/protocol/program"
	"hotdesk/tools/fleet/internal/desk"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/harm"
	"hotdesk/tools/fleet/internal/report"
	"hotdesk/tools/fleet/internal/scenario"
)

// Config is one run; each field is a flag.
type Config struct {
	Scenario string
	People   int // -1: as the scenario says
	Resting  int // -1: as the scenario says
	Hosts    int // 0: as the scenario says
	Lasts    time.Duration
	Soak     time.Duration // faults for so long, at the scenario's own pace; 0: no soak
	Seed     uint64
	Faults   bool
	Every    time.Duration
	Enough   int      // faults; 0: as many as there is time for
	Kinds    []string // of faults, nil: all
	DHCP     int      // terminals that have their address by DHCP; -1: some, with Faults where that is possible
	Upgrade  string   // folder of programs for the fault of that kind, "": the same ones
	JSON     string
	HTML     string
	Wall     string
	Bin      string
	Keep     string
	Size     string
	Verbose  bool

	Out io.Writer
}

// flags makes the flag set of c.
func flags(c *Config, list *bool) *flag.FlagSet {
	fl := flag.NewFlagSet("fleet", flag.ContinueOnError)
	fl.StringVar(&c.Scenario, "scenario", "office", "`NAME` of what people do; -list tells the names")
	fl.BoolVar(list, "list", false, "tell the scenarios, and stop")
	fl.IntVar(&c.People, "n", -1, "`NUMBER` of people, each with a card (default: as the scenario says)")
	fl.IntVar(&c.Resting, "resting", -1, "`NUMBER` of terminals at which nobody is (default: as the scenario says)")
	fl.IntVar(&c.Hosts, "hosts", 0, "`NUMBER` of session servers (default: as the scenario says)")
	fl.DurationVar(&c.Lasts, "duration", 0, "`TIME` that people are there; the scenario's times are scaled to it (default: as the scenario says)")
	fl.DurationVar(&c.Soak, "soak", 0, "`TIME` to break things for, in place of -duration and -faults; the scenario's times stay as they are")
	fl.Uint64Var(&c.Seed, "seed", 0, "`NUMBER` that repeats a run's choices (default: a new one, which is printed)")
	fl.BoolVar(&c.Faults, "faults", false, "break things meanwhile")
	fl.DurationVar(&c.Every, "every", 3*time.Second, "with -faults: mean `TIME` from one fault's end to the next one")
	fl.IntVar(&c.Enough, "enough", 0, "with -faults: `NUMBER` of faults with which the run is over before its time (0: none)")
	fl.Func("kinds", "with -faults: `KINDS` of faults with commas, each in its turn (default: all, at random: "+strings.Join(harm.Names(), ", ")+")", func(s string) error {
		c.Kinds = strings.Split(s, ",")
		return nil
	})
	fl.IntVar(&c.DHCP, "dhcp", -1, "`NUMBER` of terminals that have address and server from a real DHCP server, each in a network namespace of its own; needs root (default: with -faults as root 3, otherwise none)")
	fl.StringVar(&c.Upgrade, "upgrade", "", "with -faults: `DIR` of another version's programs that hosts are upgraded to (empty: they are replaced by the same ones)")
	fl.StringVar(&c.JSON, "json", "", "`FILE` for the figures, an object a line, the last one sums up (empty: none)")
	fl.StringVar(&c.HTML, "html", "", "`FILE` for a page with plots of the figures (empty: none)")
	fl.StringVar(&c.Wall, "wall", "", "`ADDRESS:PORT` on loopback for a page with a small picture of every terminal; port 0 is a free one (empty: none)")
	fl.StringVar(&c.Bin, "bin", "", "`DIR` of built programs (empty: they are built)")
	fl.StringVar(&c.Keep, "keep", "", "`DIR` to which the programs' logs are copied at the end (empty: none)")
	fl.StringVar(&c.Size, "size", "1280x1024", "`WIDTHxHEIGHT` of the terminals' screens")
	fl.BoolVar(&c.Verbose, "v", false, "tell each fault; terminals log to fleet.log of -keep")
	return fl
}

// errWrong is what a run with violations ends with.
var errWrong = errors.New("what was seen is not what must be seen; see above")

// errStopped is what a run ends with that a signal has ended.
var errStopped = errors.New("stopped before its time; the figures are those so far")

// Command is the program `fleet`.
func Command() *program.Command { return command(io.Discard) }

func command(stdout io.Writer) *program.Command {
	c := Config{Out: stdout}
	list := false
	return &program.Command{
		Name:    "fleet",
		Purpose: "runs many emulated terminals and the people at them against real programs, breaks things meanwhile, and judges every picture",
		Usage:   "[flags]\ncompare [-html FILE] FILE.json...",
		Flags:   flags(&c, &list),
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return program.Usagef("unknown argument %q", args[0])
			}
			if list {
				return tellScenarios(stdout)
			}
			if c.Seed == 0 {
				c.Seed = rand.Uint64N(1 << 32)
			}
			sum, err := Run(ctx, c)
			switch {
			case err != nil:
			case sum.Violations > 0:
				err = errWrong
			case sum.Stopped:
				err = errStopped
			}
			return err
		},
	}
}

// Scenarios are the names of all.
func Scenarios() []string { return scenario.Names() }

// tellScenarios says what each does.
func tellScenarios(w io.Writer) error {
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-12s %s (%d people, %d terminals at rest, %v)\n", name, s.Purpose, s.People, s.Resting, s.Lasts)
	}
	return nil
}

// Main is the program, or within a session of it the desk.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "desk" {
		return program.Main(deskCommand(), args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "compare" {
		return program.Main(compareCommand(stdout), args[1:], stdout, stderr)
	}
	return program.Main(command(stdout), args, stdout, stderr)
}

// deskCommand is what a session of the fleet runs.
func deskCommand() *program.Command {
	return &program.Command{
		Name:    "fleet desk",
		Purpose: "paints a session's screen so that a fleet knows it again; started in sessions, not by hand",
		Flags:   flag.NewFlagSet("desk", flag.ContinueOnError),
		Run:     func(ctx context.Context, _ []string) error { return desk.Run(ctx) },
	}
}

// compareCommand shows what runs measured, side by side.
func compareCommand(stdout io.Writer) *program.Command {
	fl := flag.NewFlagSet("compare", flag.ContinueOnError)
	page := fl.String("html", "", "`FILE` for a page with plots (empty: none)")
	return &program.Command{
		Name:    "fleet compare",
		Purpose: "shows what runs measured, side by side",
		Usage:   "[-html FILE] FILE.json...",
		Flags:   fl,
		Run: func(_ context.Context, files []string) error {
			if len(files) == 0 || len(files) > report.MaxRuns {
				return program.Usagef("%d files of figures; 1 to %d", len(files), report.MaxRuns)
			}
			var runs []*figures.Run
			for _, f := range files {
				r, err := figures.Open(f)
				if err != nil {
					return err
				}
				runs = append(runs, r)
			}
			figures.Table(stdout, runs)
			return writePage(*page, runs)
		},
	}
}

// writePage writes the report.
func writePage(file string, runs []*figures.Run) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	if err := report.Write(&b, runs); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
