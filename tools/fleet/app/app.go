// Package app is the fleet as a program: it starts hosts, terminals and people,
// breaks things, judges every picture, and tells what came of it.
//
// Source: packages scenario, crowd, oracle, harm, figures.
//
// Invariants: the exit code is 0 only where no violation was found; nothing
// that a run started outlives it.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"hotdesk/tools/fleet/internal/desk"
	"hotdesk/tools/fleet/internal/scenario"
)

// Config is one run; each field is a flag.
type Config struct {
	Scenario string
	People   int // -1: as the scenario says
	Resting  int // -1: as the scenario says
	Hosts    int // 0: as the scenario says
	Lasts    time.Duration
	Seed     uint64
	Faults   bool
	Every    time.Duration
	JSON     string
	Compare  string
	Bin      string
	Keep     string
	Size     string
	Verbose  bool

	Out io.Writer
}

// Main is the program.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) == 1 && args[0] == "desk" {
		if err := desk.Run(ctx); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		return 0
	}
	c := Config{Out: stdout}
	list := false
	fl := flag.NewFlagSet("fleet", flag.ContinueOnError)
	fl.SetOutput(stderr)
	fl.StringVar(&c.Scenario, "scenario", "office", "`NAME` of what people do; -list tells the names")
	fl.BoolVar(&list, "list", false, "tell the scenarios, and stop")
	fl.IntVar(&c.People, "n", -1, "`NUMBER` of people, each with a card (default: as the scenario says)")
	fl.IntVar(&c.Resting, "resting", -1, "`NUMBER` of terminals at which nobody is (default: as the scenario says)")
	fl.IntVar(&c.Hosts, "hosts", 0, "`NUMBER` of session servers (default: as the scenario says)")
	fl.DurationVar(&c.Lasts, "duration", 0, "`TIME` that people are there; the scenario's times are scaled to it (default: as the scenario says)")
	fl.Uint64Var(&c.Seed, "seed", 0, "`NUMBER` that repeats a run's choices (default: a new one, which is printed)")
	fl.BoolVar(&c.Faults, "faults", false, "break things meanwhile")
	fl.DurationVar(&c.Every, "every", 3*time.Second, "with -faults: mean `TIME` from one fault's end to the next one")
	fl.StringVar(&c.JSON, "json", "", "`FILE` for the figures, an object a line, the last one sums up")
	fl.StringVar(&c.Compare, "compare", "", "`FILE` of -json of an earlier run, to be printed beside this one's")
	fl.StringVar(&c.Bin, "bin", "", "`DIR` of built programs (empty: they are built)")
	fl.StringVar(&c.Keep, "keep", "", "`DIR` to which the programs' logs are copied at the end")
	fl.StringVar(&c.Size, "size", "1280x1024", "`WIDTHxHEIGHT` of the terminals' screens")
	fl.BoolVar(&c.Verbose, "v", false, "tell each fault; terminals log to fleet.log of -keep")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fl.NArg() > 0 {
		fmt.Fprintf(stderr, "fleet: unknown argument %q; -h lists the flags\n", fl.Arg(0))
		return 2
	}
	if list {
		for _, name := range scenario.Names() {
			s, err := scenario.Load(name)
			if err != nil {
				fmt.Fprintf(stderr, "fleet: %v\n", err)
				return 1
			}
			fmt.Fprintf(stdout, "%-12s %s (%d people, %d terminals at rest, %v)\n", name, s.Purpose, s.People, s.Resting, s.Lasts)
		}
		return 0
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1 << 32)
	}
	sum, err := Run(ctx, c)
	if err != nil {
		fmt.Fprintf(stderr, "fleet: %v\n", err)
		return 1
	}
	if sum.Violations > 0 {
		return 1
	}
	return 0
}
