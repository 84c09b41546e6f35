package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	endToEnd = "./tools/e2e"
	// scripts is its test whose subtests are the files of testdata.
	scripts = "TestScripts"
	// storm is one that the race detector takes minutes for: it runs with those
	// that have tags, and with -long here too.
	storm = "TestCardStorm"
	// emulated is what the names of tests begin with whose terminals have an emulated
	// processor, which takes one of ours: they run first, and one at a time.
	emulated = "TestVM"
	// atOnce is how many of its tests run at the same time: they wait more than
	// they work.
	atOnce = 3
)

// others are the packages whose tests have no stage of their own.
func others(ctx context.Context, c config) ([]string, error) {
	out, err := command(ctx, "go", "list", "./...").Output()
	if err != nil {
		return nil, err
	}
	var list []string
	for p := range strings.Lines(string(out)) {
		p = strings.TrimSpace(p)
		if is := func(own string) bool { return strings.HasSuffix(p, strings.TrimPrefix(own, ".")) }; !is(endToEnd) && (c.long || !slices.ContainsFunc(partly, is)) {
			list = append(list, p)
		}
	}
	return list, nil
}

// endToEndTests runs each end-to-end test in a process of its own, some at the
// same time and in an order of chance. What one prints is shown whole when it
// failed.
func endToEndTests(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp("", "hotdesk-e2e")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "e2e.test")
	if err := goTool(ctx, c, slices.Concat([]string{"test"}, race, []string{"-c", "-o", binary, endToEnd})...); err != nil {
		return err
	}
	names, err := testNames(ctx, c, binary)
	if err != nil {
		return err
	}
	seed := rand.Uint64()
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	fmt.Fprintf(c.out, "order %d\n", seed)
	limit, workers := "10m", atOnce
	if c.long {
		limit, workers = "170m", 1 // figures are taken
	}
	return runTests(ctx, c, binary, names, limit, workers)
}

// loginTests runs those of the tag pam, the end-to-end ones in the same way.
func loginTests(ctx context.Context, c config) error {
	const parent, modules = "./server/parent", "./server/session/keeper/pam"
	dir, err := os.MkdirTemp("", "hotdesk-logins")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "e2e.test")
	if err := goTool(ctx, c, "test", "-vet=off", "-tags=pam", "-c", "-o", binary, endToEnd); err != nil {
		return err
	}
	limit, workers := "8m", atOnce
	if c.long {
		workers = 1 // figures are taken
	}
	return errors.Join(runTests(ctx, c, binary, taggedTests("pam", endToEnd), limit, workers),
		goTest(ctx, c, "-tags=pam", "-timeout=8m", "-run=^("+strings.Join(taggedTests("pam", parent, modules), "|")+")$", parent, modules))
}

// runTests runs tests of a test binary, each in a process of its own, so many at
// the same time.
func runTests(ctx context.Context, c config, binary string, names []string, limit string, workers int) error {
	isEmulated := func(n string) bool { return strings.HasPrefix(n, emulated) }
	queue := make(chan []string, len(names)+1) // of what runs one after another
	queue <- slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !isEmulated(n) })
	for _, n := range slices.DeleteFunc(slices.Clone(names), isEmulated) {
		queue <- []string{n}
	}
	close(queue)
	var mu sync.Mutex
	var failed []string
	run := func(n string) {
		began := time.Now()
		out, used, err := one(ctx, c, binary, n, limit)
		mu.Lock()
		defer mu.Unlock()
		verdict := "ok  "
		if err != nil {
			verdict, failed = "FAIL", append(failed, n)
			fmt.Fprintf(c.out, "%s", out)
		}
		fmt.Fprintf(c.out, "%s\t%s\t%.3fs\t%.1fs of CPU\n", verdict, n, time.Since(began).Seconds(), used.Seconds())
	}
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for some := range queue {
				for _, n := range some {
					run(n)
				}
			}
		})
	}
	running.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d failed: %s", len(failed), len(names), strings.Join(failed, " "))
	}
	return ctx.Err()
}

// testNames are the tests of a test binary, and the scripts of those that have
// them.
func testNames(ctx context.Context, c config, binary string) ([]string, error) {
	cmd := command(ctx, binary, "-test.list=.")
	cmd.Dir = endToEnd
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the tests: %w", err)
	}
	var names []string
	for n := range strings.FieldsSeq(string(out)) {
		if n != scripts && (c.long || n != storm) {
			names = append(names, n)
		}
	}
	files, err := filepath.Glob(filepath.Join(endToEnd, "testdata", "*.txt"))
	if err == nil && (len(names) == 0 || len(files) == 0) {
		err = errors.New("no end-to-end test found")
	}
	for _, f := range files {
		names = append(names, scripts+"/"+strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	return names, err
}

// one runs a test, or one subtest of a test. It tells what processor time that took,
// with all programs of the test that have ended before it.
func one(ctx context.Context, c config, binary, name, limit string) (said []byte, used time.Duration, err error) {
	pattern := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	cmd := command(ctx, binary, "-test.run="+pattern, "-test.timeout="+limit)
	cmd.Dir = endToEnd
	if c.long {
		cmd.Env = append(os.Environ(), "HOTDESK_LONG=1")
	}
	out, err := cmd.CombinedOutput()
	if p := cmd.ProcessState; p != nil {
		used = p.UserTime() + p.SystemTime()
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err == nil && bytes.Contains(out, []byte("no tests to run")) || err != nil && !exited {
		return out, used, errors.Join(errors.New("it did not run"), err)
	}
	return out, used, err
}
