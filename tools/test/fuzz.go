package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// target is a fuzz target: a function of a package.
type target struct{ name, folder string }

var fuzzName = regexp.MustCompile(`^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// targets are found in the files, so that none is forgotten.
func targets() ([]target, error) {
	var list []target
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			if m := fuzzName.FindStringSubmatch(sc.Text()); m != nil {
				list = append(list, target{m[1], "./" + filepath.Dir(p)})
			}
		}
		return sc.Err()
	})
	if err == nil && len(list) == 0 {
		err = errors.New("no fuzz target found")
	}
	return list, err
}

// fuzz runs each target for a few seconds, a minute with -long. Each works with
// one processor, so that two are under way: building one fills the other's
// processor.
func fuzz(ctx context.Context, c config) error {
	length := "2s"
	if c.long {
		length = "60s"
	}
	list, err := targets()
	if err != nil {
		return err
	}
	queue := make(chan target, len(list))
	for _, t := range list {
		queue <- t
	}
	close(queue)
	var mu sync.Mutex
	var failed []string
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for t := range queue {
				out, err := command(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+length, "-parallel=1", t.folder).CombinedOutput()
				ended := err == nil || deadline(string(out))
				mu.Lock()
				if !ended {
					failed = append(failed, t.name)
					fmt.Fprintf(c.out, "%s", out)
				}
				fmt.Fprintf(c.out, "%s\t%s\t%s\n", map[bool]string{true: "ok  ", false: "FAIL"}[ended], t.folder, t.name)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d failed: %s", len(failed), len(list), strings.Join(failed, " "))
	}
	return ctx.Err()
}

var ranOut = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([0-9.]+s\)\n {4}context deadline exceeded\nFAIL\n`)

// deadline tells whether the only fault told is that the time given was over: a
// race of the fuzzing engine with its own clock, mended in Go 1.27
// (golang/go#75804). A fault found names the input that it wrote.
func deadline(out string) bool {
	return ranOut.MatchString(out) && strings.Count(out, "--- FAIL") == 1 && !strings.Contains(out, "Failing input")
}
