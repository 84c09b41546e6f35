package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The test binary is also a run of one stage, whose program starts others, and
// the go command, which is killed above it.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "stage":
		heed()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(runStages(ctx, config{out: os.Stdout}, []stage{
			{"one", func(ctx context.Context, c config) error {
				cmd := command(ctx, "sh", "-c", os.Args[1])
				cmd.Stdout = c.out
				return cmd.Run()
			}},
			{"two", func(context.Context, config) error { panic("not after the end") }},
		}))
	case "go":
		cmd := exec.Command(os.Args[1], os.Args[2:]...)
		cmd.Args[0] = "stage"
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if cmd.Run() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A run that is ended leaves none of its programs, wherever these have gone:
// whether the signal comes to it, or to the go run above it, which passes none on.
func TestEndLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	goRun := filepath.Join(dir, "go") // by that name it is known
	if err := os.Symlink(self, goRun); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe") // where a shell waits without a program
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	programs := fmt.Sprintf(`setsid sh -c 'echo up $$; exec sleep 1000' & setsid sh -c 'trap "echo orderly; exit" TERM; echo up $$; read x <> %s' & wait`, pipe)
	for name, c := range map[string]struct {
		program, first string
		args           []string
		sig            syscall.Signal
	}{
		"asked":       {self, "stage", []string{programs}, syscall.SIGTERM},
		"interrupted": {self, "stage", []string{programs}, syscall.SIGINT},
		"go run":      {goRun, "go", []string{self, programs}, syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(c.program, c.args...)
			cmd.Args[0] = c.first
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd.Stdout, cmd.Stderr = w, w
			err = cmd.Start()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			var pids, said []string
			lines := bufio.NewScanner(r)
			for len(pids) < 2 && lines.Scan() {
				if pid, ok := strings.CutPrefix(lines.Text(), "up "); ok {
					pids = append(pids, pid)
				}
			}
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			for lines.Scan() { // until whoever could write has ended
				said = append(said, lines.Text())
			}
			if err := cmd.Wait(); err == nil {
				t.Error("it passed")
			}
			if !slices.Contains(said, "orderly") {
				t.Errorf("none was asked: %q", said)
			}
			for _, pid := range pids {
				stat, _ := os.ReadFile("/proc/" + pid + "/stat")
				if len(stat) > 0 && !bytes.Contains(stat, []byte(") Z ")) {
					t.Errorf("it is there: %s", stat)
				}
			}
		})
	}
}

// What a tag adds is found, by where it stands.
func TestTaggedTests(t *testing.T) {
	got := taggedTests("pam", "../e2e", "../../server/parent")
	for _, want := range []string{"TestPAM", "TestHandedLogin", "TestLoginTakenOver"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	if slices.Contains(got, "TestScripts") {
		t.Error("one without a tag is")
	}
}
