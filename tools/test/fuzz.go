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

var fuzzName = regexp.MustCompile(`^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// targets are the fuzz targets of each folder that has some, found in the files, so
// that none is forgotten.
func targets() (map[string][]string, error) {
	list := map[string][]string{}
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
				folder := filepath.Dir(p)
				list[folder] = append(list[folder], m[1])
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
	cache, err := command(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	found := filepath.Join(strings.TrimSpace(string(cache)), "fuzz") // where go test -fuzz keeps it
	dir, err := os.MkdirTemp("", "hotdesk-fuzz")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	queue := make(chan string, len(list))
	for folder := range list {
		queue <- folder
	}
	close(queue)
	var mu sync.Mutex
	var failed []string
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for folder := range queue {
				binary := filepath.Join(dir, strings.ReplaceAll(folder, "/", "-")+".test")
				said, noBinary := command(ctx, "go", "test", "-c", "-fuzz=.", "-o", binary, "./"+folder).CombinedOutput()
				for _, name := range list[folder] {
					out, err := said, noBinary
					if err == nil {
						cmd := command(ctx, binary, "-test.run=^$", "-test.fuzz=^"+name+"$", "-test.fuzztime="+length, "-test.parallel=1",
							"-test.fuzzcachedir="+filepath.Join(found, "hotdesk", folder))
						cmd.Dir = folder
						if out, err = cmd.CombinedOutput(); err != nil && deadline(string(out)) {
							err = nil
						}
					}
					mu.Lock()
					verdict := "ok  "
					if err != nil {
						verdict, failed = "FAIL", append(failed, name)
						fmt.Fprintf(c.out, "%s%v\n", out, err)
					}
					fmt.Fprintf(c.out, "%s\t./%s\t%s\n", verdict, folder, name)
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d failed: %s", len(failed), strings.Join(failed, " "))
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
