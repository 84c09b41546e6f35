// Command bench measures what a session costs and how quick it is: bytes that
// reach the terminal, CPU of the server's side, latency, updates. It runs the
// same programs in a session of Hotdesk (the real media process and decoder,
// encrypted) and, where installed, of TigerVNC, in turn and on loopback, and
// prints medians and ratios.
//
// Peers: none, the floor (an X server and somebody who looks at its screen);
// hotdesk, and hotdesk-video, built with the tag video; tigervnc (as its viewer asks on a LAN: JPEG) and
// tigervnc-lossless, which do not encrypt. What they need from Debian is said
// when it is missing. FIGURES.md has what was measured, and what each technique
// brought.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// works are the workloads in the order in which they run.
var works = []string{"typing", "scrollp", "scroll", "drag", "pages", "pages-first", "flip-photo", "flip-text", "video", "idle", "attach",
	"x-rect500", "x-rect10", "x-ftext", "x-aa10text", "x-copywinwin500", "x-scroll500", "x-putimage500", "x-shmput500"}

// usual are the workloads that run when none is named.
const usual = "typing,scrollp,drag,pages,pages-first,video"

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 1 && args[0] == insideWord { // a program of a workload
		if err := inside(args[1], args[2:]); err != nil {
			fmt.Fprintln(stderr, "bench:", args[1]+":", err)
			return 1
		}
		return 0
	}
	fl := flag.NewFlagSet("bench", flag.ContinueOnError)
	fl.SetOutput(stderr)
	peers := fl.String("peers", "hotdesk,tigervnc,tigervnc-lossless", "systems to measure, `LIST` with commas: none (the floor), hotdesk, hotdesk-video, and as far as installed tigervnc, tigervnc-lossless")
	work := fl.String("work", usual, "workloads, `LIST` with commas, or all: "+strings.Join(works, ", "))
	reps := fl.Int("reps", 3, "repetitions; the table shows medians")
	geom := fl.String("geom", "1280x1024", "screen, `WxH`")
	file := fl.String("json", "", "append each result to `FILE`, one JSON object a line")
	md := fl.String("page", "", "write tables, day and machine to `FILE` as Markdown")
	keys := fl.Int("keys", 70, "keys of a typing repetition")
	earlier := fl.String("before", "", "session program built earlier, `FILE`: measured too, as peer before")
	if err := fl.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	b := &bench{keys: *keys, log: stderr, builds: map[string]string{}}
	if n, _ := fmt.Sscanf(*geom, "%dx%d", &b.w, &b.h); n != 2 || b.w < 640 || b.h < 480 || b.w > 3840 || b.h > 2160 {
		fmt.Fprintf(stderr, "bench: -geom %q: want WxH, 640x480 to 3840x2160\n", *geom)
		return 2
	}
	if *work == "all" {
		*work = strings.Join(works, ",")
	}
	for w := range strings.SplitSeq(*work, ",") {
		if !slices.Contains(works, w) {
			fmt.Fprintf(stderr, "bench: no workload %q; there are %s\n", w, strings.Join(works, ", "))
			return 2
		}
		if x11tests[w] != "" && !installed("x11perf") {
			fmt.Fprintf(stderr, "bench: %s is left out; for it run: apt-get install x11-apps\n", w)
			continue
		}
		b.works = append(b.works, w)
	}
	for p := range strings.SplitSeq(*peers, ",") {
		switch {
		case p == plainBuild || p == videoBuild || p == floor:
			for _, need := range []string{"Xvfb", "xterm", "xsetroot"} {
				if !installed(need) {
					fmt.Fprintf(stderr, "bench: %s is missing; run: apt-get install xvfb xterm x11-xserver-utils\n", need)
					return 1
				}
			}
		case p != "tigervnc" && p != "tigervnc-lossless":
			fmt.Fprintf(stderr, "bench: no peer %q; there are none, hotdesk, hotdesk-video, tigervnc, tigervnc-lossless\n", p)
			return 2
		case !installed("Xtigervnc"):
			fmt.Fprintf(stderr, "bench: %s is left out; for it run: apt-get install tigervnc-standalone-server\n", p)
			continue
		}
		b.peers = append(b.peers, p)
	}
	if *earlier != "" {
		if _, err := os.Stat(*earlier); err != nil {
			fmt.Fprintf(stderr, "bench: -before: %v\n", err)
			return 2
		}
		b.builds[before] = *earlier
		b.peers = append(b.peers, before)
	}
	if *file != "" {
		f, err := os.OpenFile(*file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		defer f.Close()
		b.json = json.NewEncoder(f)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := b.all(*reps, stop); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	table(stdout, b.results)
	judge(stdout, b.results)
	if *md != "" {
		if err := writePage(*md, b.results); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
	}
	for _, r := range b.results {
		if r.Note != "" {
			fmt.Fprintf(stdout, "%s %s rep %d: %s\n", r.Work, r.Peer, r.Rep, r.Note)
		}
		if r.Failed {
			defer fmt.Fprintf(stderr, "bench: %s %s rep %d failed\n", r.Work, r.Peer, r.Rep)
		}
	}
	if slices.ContainsFunc(b.results, func(r Result) bool { return r.Failed }) {
		return 1
	}
	return 0
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
