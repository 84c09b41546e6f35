// Command test runs everything that CI runs and prints how long each stage
// took: formatting, vet, staticcheck, builds, tests under the race detector,
// fuzz seeds and a few seconds of each fuzz target, benchmarks once, the tour.
//
// It installs what it needs by name through apt and the Go tool, and leaves the
// work tree as it was. The exit code is 0 only if every stage passed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/vm"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type config struct {
	long   bool
	update bool
	only   string
	out    io.Writer
}

type stage struct {
	name string
	run  func(ctx context.Context, c config) error
}

func run(args []string, stdout, stderr io.Writer) int {
	c := config{out: stdout}
	fl := flag.NewFlagSet("test", flag.ContinueOnError)
	fl.SetOutput(stderr)
	fl.BoolVar(&c.long, "long", false, "the long versions: more random runs, a minute of each fuzz target, all measurements")
	fl.BoolVar(&c.update, "update", false, "rewrite the generated reference pages and recorded outputs, then stop")
	fl.StringVar(&c.only, "stage", "", "run only the stages whose name contains `TEXT`")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fl.NArg() > 0 {
		fmt.Fprintf(stderr, "test: unknown argument %q\n", fl.Arg(0))
		return 2
	}
	heed()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.update {
		if err := goTool(ctx, c, "test", "-count=1", "./tools/internal/check", "-update"); err != nil {
			fmt.Fprintf(stderr, "test: %v\n", err)
			return 1
		}
		return 0
	}
	stages := []stage{
		{"packages", packages},
		{"gofmt", gofmt},
		{"go vet", vet},
		{"go fix", func(ctx context.Context, c config) error { return goTool(ctx, c, "fix", "-diff", "./...") }},
		{"staticcheck", func(ctx context.Context, c config) error { return goTool(ctx, c, "tool", "staticcheck", "./...") }},
		{"static build", staticBuild},
		{"tests, race", tests},
		{"group, encoder", inPart},
		{"end to end, race", endToEndTests},
		{"tests, tags", func(ctx context.Context, c config) error {
			if err := goTest(ctx, c, "-tags=pcsc,usb", "-timeout=5m", "./smartcard/...", "./server/session/media"); err != nil {
				return err
			}
			return goTest(ctx, c, "-tags=pcsc", "-timeout=5m", "-run=^("+strings.Join(append(taggedTests("pcsc", endToEnd), storm), "|")+")$", endToEnd)
		}},
		{"tests, video", vectors},
		{"tests, logins", loginTests},
		{"codecs, 32 bit", codecs386},
		{"fuzz", fuzz},
		{"benchmarks once", func(ctx context.Context, c config) error {
			return goTest(ctx, c, "-run=^$", "-bench=.", "-benchtime=1x", "./...")
		}},
		{"tour", tour},
		{"failover", failover},
		{"work tree clean", clean},
	}
	return runStages(ctx, c, slices.DeleteFunc(stages, func(s stage) bool { return !strings.Contains(s.name, c.only) }))
}

// runStages runs them one after the other, until ctx ends: then nothing of them is
// left.
func runStages(ctx context.Context, c config, stages []stage) int {
	type result struct {
		name string
		took time.Duration
		err  error
	}
	var results []result
	failed := false
	begin := time.Now()
	for _, s := range stages {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(c.out, "== %s\n", s.name)
		t := time.Now()
		err := s.run(ctx, c)
		if err != nil {
			failed = true
			fmt.Fprintf(c.out, "%s: %v\n", s.name, err)
		}
		results = append(results, result{s.name, time.Since(t), err})
	}
	if ctx.Err() != nil {
		if left := ending.Finish(endTime); len(left) > 0 {
			fmt.Fprintf(c.out, "killed, as they did not end within %v: %s\n", endTime, strings.Join(left, ", "))
		}
	}
	fmt.Fprintf(c.out, "\n%-18s %8s  %s\n", "stage", "seconds", "result")
	for _, r := range results {
		verdict := "passed"
		if r.err != nil {
			verdict = "FAILED"
		}
		fmt.Fprintf(c.out, "%-18s %8.1f  %s\n", r.name, r.took.Seconds(), verdict)
	}
	fmt.Fprintf(c.out, "%-18s %8.1f\n", "all", time.Since(begin).Seconds())
	if failed || ctx.Err() != nil {
		return 1
	}
	return 0
}

func packages(ctx context.Context, c config) error {
	need := slices.Concat(debian.Session, debian.Browser, debian.DHCP, debian.Cards, debian.USB, debian.Machine, debian.Logins, []string{"gcc", "libc6-dev", "nftables", "xauth"})
	if err := debian.Need(ctx, c.out, need...); err != nil {
		return err
	}
	_, err := vm.Debian(ctx) // fetched here, so that no test waits for it
	return err
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	// Not the go command alone, which passes no SIGTERM on; nor its group: tests'
	// programs have their own.
	cmd.Cancel = ending.Ask
	cmd.WaitDelay = endTime
	return cmd
}

// endTime is how long what runs may take to end when it is asked to.
const endTime = 20 * time.Second

// ending is that of all that runs, where we are to end before it.
var ending lab.Ending

// heed has go run's end be ours: it ends at a SIGTERM, and passes none on.
func heed() {
	parent := os.Getppid()
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)); err != nil || string(name) != "go\n" {
		return
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0) // without it, as without a SIGTERM
	if os.Getppid() != parent {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}
}

func goTool(ctx context.Context, c config, args ...string) error {
	cmd := command(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	return cmd.Run()
}

// goTest runs tests; vet has a stage of its own.
func goTest(ctx context.Context, c config, args ...string) error {
	return goTool(ctx, c, append([]string{"test", "-vet=off"}, args...)...)
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)

// taggedTests are the tests that a tag adds to folders, found in the files, so that
// none is forgotten.
func taggedTests(tag string, folders ...string) (names []string) {
	for _, folder := range folders {
		files, _ := filepath.Glob(filepath.Join(folder, "*_test.go")) // the pattern is right
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || !bytes.HasPrefix(text, []byte("//go:build "+tag+"\n")) {
				continue // go test says what is wrong with it
			}
			for _, m := range testName.FindAllSubmatch(text, -1) {
				names = append(names, string(m[1]))
			}
		}
	}
	return names
}

// race has the race detector in everything but scrypt, which makes the group's key in
// each group manager that starts: a second and more of each under the detector, a
// tenth of one without. Its memory is its own.
var race = []string{"-race", "-gcflags=golang.org/x/crypto/scrypt=-race=false"}

func gofmt(ctx context.Context, c config) error {
	out, err := command(ctx, "gofmt", "-l", ".").CombinedOutput()
	if err == nil && len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("not formatted; run gofmt -w on:\n%s", out)
	}
	return err
}

func vet(ctx context.Context, c config) error {
	if err := goTool(ctx, c, "vet", "./..."); err != nil {
		return err
	}
	return goTool(ctx, c, "vet", "-tags=usb,pcsc,pam", "./...")
}

// staticBuild shows that a bare machine can build: no cgo.
func staticBuild(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp("", "hotdesk-static")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := command(ctx, "go", "build", "-o", dir+"/", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = c.out, c.out
	return cmd.Run()
}

// partly are too long for the race detector: it sees a part of each test (-short), and
// all of them run without it. With -long they are among the others.
var partly = []string{"./groupmgr/simulate", "./server/session/encode"}

func tests(ctx context.Context, c config) error {
	packages, err := others(ctx, c)
	if err != nil {
		return err
	}
	cmd := command(ctx, "go", slices.Concat([]string{"test", "-vet=off"}, race, []string{"-shuffle=on", "-timeout=20m"}, packages)...)
	if c.long {
		cmd = command(ctx, "go", slices.Concat([]string{"test", "-count=1", "-vet=off"}, race, []string{"-shuffle=on", "-timeout=170m"}, packages)...)
		cmd.Env = append(os.Environ(), "HOTDESK_LONG=1")
	}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	return cmd.Run()
}

func inPart(ctx context.Context, c config) error {
	if c.long {
		return nil
	}
	return errors.Join(goTest(ctx, c, slices.Concat(race, []string{"-short", "-shuffle=on", "-timeout=10m"}, partly)...),
		goTest(ctx, c, append([]string{"-shuffle=on", "-timeout=10m"}, partly...)...))
}

// vectors tests what the tag video makes quicker, and that it does the same.
func vectors(ctx context.Context, c config) error {
	length := "2s"
	if c.long {
		length = "60s"
	}
	for _, args := range [][]string{
		{"vet", "-tags=video", "./protocol/draw/cosine", "./protocol/draw/planes"},
		{"test", "-vet=off", "-tags=video", "-timeout=5m", "./protocol/draw/...", "./dtu/screen", "./server/session/encode"},
		{"test", "-vet=off", "-tags=video", "-run=^$", "-fuzz=^FuzzPlain$", "-fuzztime=" + length, "./protocol/draw/cosine"},
	} {
		cmd := command(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "GOEXPERIMENT=simd")
		cmd.Stdout, cmd.Stderr = c.out, c.out
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

// codecs386 shows that no codec leans on 64-bit integers. Where the kernel runs no
// 32-bit programs that is only looked at as far as the compiler sees it.
func codecs386(ctx context.Context, c config) error {
	run := func(args ...string) *exec.Cmd {
		cmd := command(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=386")
		cmd.Stdout, cmd.Stderr = c.out, c.out
		return cmd
	}
	dir, err := os.MkdirTemp("", "hotdesk-386")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	probe := filepath.Join(dir, "probe")
	if err := run("test", "-c", "-o", probe, "./protocol/vendoropt").Run(); err != nil {
		return err
	}
	if err := command(ctx, probe, "-test.run=^$").Run(); errors.Is(err, syscall.ENOEXEC) {
		fmt.Fprintln(c.out, "this kernel runs no 32-bit programs: the codecs are built and vetted for them, and not tested")
		return run("vet", "./protocol/...").Run()
	}
	return run("test", "./protocol/...").Run()
}

func tour(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp("", "hotdesk-tour")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return goTool(ctx, c, "run", "./tools/quickstart", "-tour", dir)
}

// failover measures hosts' deaths on a network of its own: all those that the
// figures are of with -long, and one of each otherwise.
func failover(ctx context.Context, c config) error {
	deaths := "1"
	if c.long {
		deaths = "50"
	}
	return goTool(ctx, c, "run", "./tools/quickstart", "-failover", deaths, "-net")
}

// clean shows that the tests write nothing into the work tree.
func clean(ctx context.Context, c config) error {
	out, err := command(ctx, "git", "status", "--porcelain").CombinedOutput()
	if err != nil {
		return fmt.Errorf("git status: %w: %s", err, out)
	}
	if len(out) > 0 && os.Getenv("CI") != "" {
		return fmt.Errorf("changed by the tests:\n%s", out)
	}
	return nil
}
