package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Result is one repetition of a workload with a peer.
type Result struct {
	Rep              int
	Geom, Peer, Work string
	AppS, DoneS      float64            // the program's end; the terminal's last update
	Down, Up         int64              // payload bytes that reached and left the terminal
	CPU              float64            // seconds of the server's side: X and encoder
	CPUBy            map[string]float64 // the same by process
	Updates          int64
	UPS              float64
	LatMS            []float64 `json:",omitempty"`
	P50, P99         float64   `json:",omitempty"`
	Near             float64   `json:",omitempty"` // ms until a new screen is nearly right, p50
	Lost             int       `json:",omitempty"`
	PSNR             float64   `json:",omitempty"` // the worst picture's, of R, G and B; 999: exact
	Luma             float64   `json:",omitempty"` // the same, of the luma
	PSS              float64   // MiB of the server's side, afterwards
	Note             string    `json:",omitempty"`
	Failed           bool      `json:",omitempty"`
}

// ours reports whether Hotdesk was measured, for which more is a failure.
func (r *Result) ours() bool { return r.Peer == plainBuild || r.Peer == videoBuild }

// A peer is a running session with a terminal that shows it.
type peer interface {
	key(letter int) // presses and lets go of a letter, 0 is a
	pointer(x, y int)
	bytes() (down, up int64) // at the terminal, so far
	updates() int64
	last() time.Time             // of the last update
	image() []byte               // B G R X, a copy of what the terminal shows
	rows(y0, y1 int, pix []byte) // the same of some rows, to where they are in pix
	arm()                        // begins to look for a change
	wait(time.Duration) (time.Time, bool)
	pids() []int // of the server's side
	err() error
	again() (time.Duration, error) // connects once more: how long till the first full picture
	stop()
}

type bench struct {
	w, h         int
	works, peers []string
	keys         int
	log          io.Writer
	json         *json.Encoder
	results      []Result

	dir    string            // for what is made here
	builds map[string]string // session programs, by peer
	pages  [][]byte          // what pages shows
	clip   [][]byte          // what video shows
	flips  map[string][][]byte
}

var errStopped = errors.New("interrupted")

// all runs everything in turn, and every other time backwards, so that what
// changes on the machine meanwhile meets all peers alike.
func (b *bench) all(reps int, stop <-chan os.Signal) error {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	var err error
	if b.dir, err = os.MkdirTemp(base, "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.prepare(); err != nil {
		return err
	}
	for rep := 1; rep <= reps; rep++ {
		slices.Reverse(b.peers)
		for _, w := range b.works {
			for _, p := range b.peers {
				select {
				case <-stop:
					return errStopped
				default:
				}
				r := Result{Rep: rep, Geom: fmt.Sprintf("%dx%d", b.w, b.h), Peer: p, Work: w}
				if err := b.one(&r); err != nil {
					return fmt.Errorf("%s %s: %w", w, p, err)
				}
				b.results = append(b.results, r)
				if b.json != nil {
					if err := b.json.Encode(r); err != nil {
						return err
					}
				}
				fmt.Fprintf(b.log, "%d %-8s %-18s %9d B down %7d up  cpu %.3f %v  ups %5.1f  p50 %.2f p99 %.2f  psnr %.1f pss %.0f %s\n",
					rep, w, p, r.Down, r.Up, r.CPU, r.CPUBy, r.UPS, r.P50, r.P99, r.PSNR, r.PSS, r.Note)
			}
		}
	}
	return nil
}

func (b *bench) prepare() error {
	for _, p := range b.peers {
		if p != plainBuild && p != videoBuild {
			continue
		}
		b.builds[p] = filepath.Join(b.dir, "session"+strings.TrimPrefix(p, plainBuild))
		c := exec.Command("go", "build", "-o", b.builds[p], "hotdesk/server/session")
		if p == videoBuild {
			c = exec.Command("go", "build", "-tags=video", "-o", b.builds[p], "hotdesk/server/session")
			c.Env = append(os.Environ(), "GOEXPERIMENT=simd")
		}
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", p, err, out)
		}
	}
	for _, w := range b.works {
		var frames [][]byte
		switch w {
		case "pages", "pages-first":
			if b.pages == nil {
				b.pages = photos(b.w, b.h, pageCount)
			}
			frames = b.pages
		case "video":
			b.clip = clip()
			frames = b.clip
		case "flip-photo":
			frames = photos(b.w, b.h, flips)
		case "flip-text":
			frames = textPages(b.w, b.h, flips)
		case "attach":
			frames = clip()[:1]
			w = "still"
		default:
			continue
		}
		if strings.HasPrefix(w, "flip-") {
			if b.flips == nil {
				b.flips = map[string][][]byte{}
			}
			b.flips[w] = frames
		}
		f, err := os.Create(filepath.Join(b.dir, w))
		if err != nil {
			return err
		}
		for _, p := range frames {
			if _, err := f.Write(p); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) one(r *Result) error {
	x, err := b.open(r.Peer, r.Work)
	if err != nil {
		return err
	}
	defer x.stop()
	if err := x.run("xsetroot", "-solid", "#335577"); err != nil {
		return err
	}
	settle(x.peer, 500*time.Millisecond, 5*time.Second)
	switch r.Work {
	case "typing":
		err = b.typing(r, x)
	case "pages", "pages-first":
		err = b.show(r, x)
	case "flip-photo", "flip-text":
		err = b.flipping(r, x)
	case "idle":
		err = b.idle(r, x)
	case "attach":
		if r.Peer == floor {
			return nil // nobody attaches to it
		}
		err = b.attaching(r, x)
	default:
		err = b.programs(r, x)
	}
	if err == nil {
		err = x.err()
	}
	for _, p := range x.pids() {
		r.PSS += pss(p)
	}
	return err
}

// settle waits until nothing has come for d, at most limit.
func settle(p peer, d, limit time.Duration) {
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > d && time.Since(p.last()) > d {
			return
		}
	}
}

// percentile of v, which it sorts.
func percentile(v []float64, p float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(math.Ceil(p*float64(len(v))))-1)]
}

func median(rs []Result, f func(Result) float64) float64 {
	var v []float64
	for _, r := range rs {
		v = append(v, f(r))
	}
	return percentile(v, 0.5)
}

// table prints medians, and in brackets the ratio to TigerVNC of this run.
func table(out io.Writer, results []Result) {
	of := func(work, peer string) (rs []Result) {
		for _, r := range results {
			if r.Work == work && r.Peer == peer {
				rs = append(rs, r)
			}
		}
		return rs
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "work\tpeer\tbytes down\t/T\t/TL\tCPU s\t/T\t/TL\tof it X\ttime s\tnear ms\tp50 ms\tp99 ms\tupdates/s\tPSS MiB\tPSNR\tluma")
	for _, w := range works {
		for _, p := range []string{floor, plainBuild, videoBuild, before, tiger, tigerExact} {
			rs := of(w, p)
			if len(rs) == 0 {
				continue
			}
			ratio := func(f func(Result) float64, to string) string {
				base := median(of(w, to), f)
				if base == 0 {
					return "-"
				}
				return fmt.Sprintf("%.2f", median(rs, f)/base)
			}
			down := func(r Result) float64 { return float64(r.Down) }
			cpu := func(r Result) float64 { return r.CPU }
			x := func(r Result) float64 { return r.CPUBy["Xvfb"] + r.CPUBy["Xtigervnc"] }
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%s\t%.3f\t%s\t%s\t%.3f\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.0f\t%.1f\t%.1f\n", w, p,
				median(rs, down), ratio(down, "tigervnc"), ratio(down, "tigervnc-lossless"),
				median(rs, cpu), ratio(cpu, "tigervnc"), ratio(cpu, "tigervnc-lossless"), median(rs, x),
				median(rs, ended), median(rs, near),
				median(rs, func(r Result) float64 { return r.P50 }), median(rs, func(r Result) float64 { return r.P99 }),
				median(rs, func(r Result) float64 { return r.UPS }), median(rs, func(r Result) float64 { return r.PSS }),
				median(rs, colour), median(rs, func(r Result) float64 { return r.Luma }))
		}
	}
	t.Flush()
}
