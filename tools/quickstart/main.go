// Command quickstart shows the main job on this machine: two hosts' worth of
// programs, two emulated terminals, and cards to move a live desktop between
// them. It installs what is missing, builds, starts everything on loopback
// addresses and ends it all again; with -tour DIR it does the same unattended
// and checks the pixels of each step.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/quickstart/demo"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fl := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fl.SetOutput(stderr)
	tour := fl.String("tour", "", "run unattended, check each step's pixels and write a screenshot of each to `DIR`")
	moves := fl.Int("moves", 0, "with -tour: move the card this many times more and print how long a move takes")
	failover := fl.Int("failover", 0, "let a host die this many times of each death, and print how long a terminal is without its desktop")
	network := fl.Bool("net", false, "with -failover: on hosts and a terminal that are network namespaces, one of the deaths being a cable pulled; needs root")
	listen := fl.String("listen", "127.0.0.1:0", "`ADDR:PORT` of the page with both terminals")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fl.NArg() > 0 {
		fmt.Fprintf(stderr, "quickstart: unknown argument %q; -h lists the flags\n", fl.Arg(0))
		return 2
	}
	if *network && *failover == 0 {
		fmt.Fprintln(stderr, "quickstart: -net goes with -failover N")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := prepare(ctx, stdout, !*network, func(l *lab.Lab) error {
		if *failover > 0 && *network {
			return demo.FailoverNet(ctx, l, *failover, stdout)
		}
		if *failover > 0 {
			return demo.Failover(ctx, l, *failover, stdout)
		}
		if *tour != "" {
			return demo.Tour(ctx, l, *tour, *moves, stdout)
		}
		return demo.Page(ctx, l, *listen, stdout)
	})
	if err != nil {
		fmt.Fprintf(stderr, "quickstart: %v\n", err)
		return 1
	}
	return 0
}

// prepare installs, builds, makes the account, if it is wanted, and the lab,
// runs do, and takes away what it made.
func prepare(ctx context.Context, out io.Writer, demoAccount bool, do func(*lab.Lab) error) error {
	need := debian.Session
	if !demoAccount { // namespaces
		need = slices.Concat(need, []string{"iproute2"})
	}
	if err := debian.Need(ctx, out, need...); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hotdesk")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // the account passes through, no more
		return err
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(out, "building the programs")
	if err := lab.Build(ctx, root, bin); err != nil {
		return err
	}
	who := &account.Account{}
	if demoAccount {
		if who, err = account.Demo(ctx, out); err != nil {
			return err
		}
		defer who.Remove()
	}
	l, err := lab.New(lab.Config{Bin: bin, Dir: filepath.Join(dir, "lab"), UID: who.UID, GID: who.GID, Home: who.Home})
	if err != nil {
		return err
	}
	return do(l)
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the repository: go run ./tools/quickstart")
		}
		dir = filepath.Dir(dir)
	}
}
