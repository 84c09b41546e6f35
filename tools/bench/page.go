package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// writePage writes what was measured as a page in Markdown, with the day and the
// machine.
func writePage(file string, results []Result) error {
	var t, g bytes.Buffer
	table(&t, results)
	goalTable(&g, results)
	reps := 0
	for _, r := range results {
		reps = max(reps, r.Rep)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Measured\n\nMade by `go run ./tools/bench -page`, %s, on %s (%d cores), %s, %s; medians of at most %d repetitions.\n",
		time.Now().UTC().Format(time.DateOnly), processor(), runtime.NumCPU(), load(), runtime.Version(), reps)
	b.WriteString("T is TigerVNC as its viewer asks on a LAN, TL its lossless mode, floor an X server that is only looked at. Hotdesk encrypts, the others do not.\n")
	b.WriteString("`pages` and `flip` are exact, `pages-first` and `video` near and exact when they rest; of `pages-first` the bytes and the CPU are those of the first pass. PSNR of `pages` is the worst page's, of `video` the mean.\n")
	fmt.Fprintf(&b, "\n%s\n```\n%s```\n", g.Bytes(), t.Bytes())
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

// load says how busy the machine was: figures of CPU and time depend on it.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(b), " ")
	return "load " + one
}
