// Package remains looks at what a run has left behind: in programs that have
// worked all the time, in their logs, and on the machine.
//
// A program that has nothing to do any longer must not have more open, and more
// under way, than one that has just been started. So a caller takes a Program of
// it as it is, has it end by SIGQUIT, by which Go programs write what each of
// their goroutines does, and does the same with the one that comes after it.
//
// Source: design section 8 (what stays after a program ends); the runtime's
// tracebacks; log/slog's TextHandler.
//
// Invariants: what is told of a program names what there is more of, so that one
// knows where to look.
//
// The package reads no clock. Limits: maxLine of a line of log; maxTold things
// of a kind are told.
package remains

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// spare is how much more of a kind means nothing: a connection that is just being
// made, a timer that has not run.
const spare = 3

// A Margin is what a program that has worked may have more than a fresh one.
type Margin struct {
	Each int     // of each kind, beside spare: it may do for what it has begun what others do not do for what they have found
	MB   float64 // it does not give back at once what terminals took
}

// heap is by how many times a program may be larger than a fresh one, beside its
// Margin: a collector lets a heap grow to twice what is needed, and a race
// detector remembers of all that was ever used.
const heap = 3

// maxTold bounds what is told of one program.
const maxTold = 5

// A Program is what one has open and under way.
type Program struct {
	Descriptors map[string]int // by kind; nil: they cannot be seen
	Goroutines  map[string]int // by the function that they began with
	MB          float64        // PSS
}

func (p Program) String() string {
	sum := func(all map[string]int) (n int) {
		for _, of := range all {
			n += of
		}
		return n
	}
	return fmt.Sprintf("%d descriptors, %d goroutines, %.0f MB", sum(p.Descriptors), sum(p.Goroutines), p.MB)
}

// Descriptors counts a process's, by kind.
func Descriptors(pid int) (map[string]int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("remains: %w", err)
	}
	n := map[string]int{}
	for _, e := range all {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it was just closed
		}
		n[kind(to)]++
	}
	return n, nil
}

// kind is a descriptor's: a file counts under its name, as one that is opened
// again and again is one too many.
func kind(to string) string {
	if name, _, ok := strings.Cut(to, ":["); ok {
		return name // socket, pipe
	}
	return to
}

// Goroutines counts those of a traceback, by the function that they began with.
func Goroutines(traceback string) map[string]int {
	n := map[string]int{}
	first := "" // of the goroutine that is read; the last one seen is the first that was called
	inside := false
	end := func() {
		if inside && first != "" {
			n[first]++
		}
		first, inside = "", false
	}
	for line := range strings.Lines(traceback) {
		line = strings.TrimPrefix(strings.TrimRight(line, "\n"), said)
		switch {
		case strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, "]:"):
			end()
			inside = true
		case line == "":
			end()
		case !inside || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "created by "):
		default:
			if f := function(line); f != "" && !strings.HasPrefix(f, "runtime.") && !strings.HasPrefix(f, "sync.") {
				first = f
			}
		}
	}
	end()
	return n
}

// function is the name in a line of a traceback: hotdesk/x.(*T).f.func1(0x1, 0x2).
func function(line string) string {
	if i := strings.LastIndexByte(line, '('); i > 0 && strings.HasSuffix(line, ")") {
		return line[:i]
	}
	return ""
}

// Leaks tells what an old program has more of than a fresh one.
func Leaks(old, fresh Program, may Margin) (told []string) {
	more := func(what string, old, fresh map[string]int) {
		names := slices.SortedFunc(maps.Keys(old), func(a, b string) int { return old[b] - fresh[b] - old[a] + fresh[a] })
		for i, name := range names {
			if old[name] <= fresh[name]+spare+may.Each || i == maxTold {
				break
			}
			told = append(told, fmt.Sprintf("%d %s %s, and a fresh one %d", old[name], what, name, fresh[name]))
		}
	}
	if fresh.Descriptors != nil {
		more("descriptors", old.Descriptors, fresh.Descriptors)
	}
	if fresh.Goroutines != nil {
		more("goroutines", old.Goroutines, fresh.Goroutines)
	}
	if fresh.MB > 0 && old.MB > heap*fresh.MB+may.MB {
		told = append(told, fmt.Sprintf("%.0f MB, and a fresh one %.0f", old.MB, fresh.MB))
	}
	return told
}
