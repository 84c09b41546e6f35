// Package live shows how far a run of the fleet is: some lines that are drawn
// anew where somebody sits at a terminal, one line now and then elsewhere.
//
// Source: ECMA-48 for the two control sequences, CUU and ED.
//
// Invariant: what is written meanwhile stands above the lines, whole.
//
// The package reads no clock. A View is safe for concurrent use. Limit:
// maxTroubles are named.
package live

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/tools/fleet/internal/figures"
)

const (
	maxTroubles = 3
	barWidth    = 24
	leastWidth  = 40
)

// A Frame is how a run stands.
type Frame struct {
	Scenario   string
	At, Lasts  time.Duration
	Terminals  int // that are there
	Up         int // that have a server
	Cards      int // that are in
	Pictures   int // of them with their session's picture
	Looks      int // pictures that were judged
	Faults     int
	Violations int
	Rates      map[string]float64     // counts a second, lately
	Counts     map[string]int         // of the whole run
	Lately     map[string]figures.Row // of series
	Wall       string                 // address of the page, "": none
}

// troubles are what went wrong, most often first.
func (f Frame) troubles() (all []string, total int) {
	for name, n := range f.Counts {
		if figures.Trouble(name) {
			total += n
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		if d := f.Counts[b] - f.Counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, name := range all {
		all[i] = fmt.Sprintf("%d %s", f.Counts[name], name)
	}
	return all[:min(len(all), maxTroubles)], total
}

// Line is a frame for a file.
func (f Frame) Line() string {
	_, errors := f.troubles()
	return fmt.Sprintf("%6.0f s  %d terminals up, %d cards in, %d pictures; a second: %.1f frames, %.1f keys; echo %s; %d errors, %d faults, %d violations",
		f.At.Seconds(), f.Up, f.Cards, f.Pictures, f.Rates[figures.Frames], f.Rates[figures.Keys], short(f.Lately[figures.Echo]), errors, f.Faults, f.Violations)
}

// Lines are a frame for a person.
func (f Frame) Lines() []string {
	done := int(barWidth * min(1, f.At.Seconds()/max(f.Lasts.Seconds(), .001)))
	named, errors := f.troubles()
	lines := []string{
		fmt.Sprintf("%-11s [%s%s] %.0f of %.0f s", f.Scenario, strings.Repeat("#", done), strings.Repeat(".", barWidth-done), f.At.Seconds(), f.Lasts.Seconds()),
		fmt.Sprintf("terminals   %d of %d have a server; %d cards in, %d with their picture, %d wait", f.Up, f.Terminals, f.Cards, f.Pictures, max(0, f.Cards-f.Pictures)),
		fmt.Sprintf("cards       %.0f a minute; to a new session's picture %s, to one that was there %s", 60*f.Rates[figures.CardsIn], short(f.Lately[figures.CardNew]), short(f.Lately[figures.CardAgain])),
		fmt.Sprintf("keys        %.1f a second; to the picture %s", f.Rates[figures.Keys], short(f.Lately[figures.Echo])),
		fmt.Sprintf("frames      %.1f a second; %d pictures judged, %d violations", f.Rates[figures.Frames], f.Looks, f.Violations),
		fmt.Sprintf("errors      %s", strings.Join(append([]string{fmt.Sprint(errors)}, named...), "; ")),
	}
	if f.Faults > 0 {
		lines = append(lines, fmt.Sprintf("faults      %d; to all pictures %s", f.Faults, short(f.Lately[figures.Recovery])))
	}
	if f.Wall != "" {
		lines = append(lines, "wall        "+f.Wall)
	}
	return lines
}

func short(r figures.Row) string {
	if r.N == 0 {
		return "-"
	}
	return fmt.Sprintf("p50 %.3g p99 %.3g ms", r.P50, r.P99)
}

// A View is where frames are shown.
type View struct {
	out   io.Writer
	width int // of the terminal; 0: none is there

	mu    sync.Mutex
	shown []string
	half  []byte // a line that is being written
}

// New makes a view on out.
func New(out io.Writer) *View {
	v := &View{out: out}
	if f, ok := out.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			v.width = max(leastWidth, int(size.Col))
		}
	}
	return v
}

// Person says that somebody watches.
func (v *View) Person() bool { return v.width > 0 }

// Show shows a frame.
func (v *View) Show(f Frame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.Person() {
		fmt.Fprintln(v.out, f.Line())
		return
	}
	v.draw(nil, f.Lines())
}

// draw puts text above the lines. v.mu is held.
func (v *View) draw(text []byte, lines []string) {
	var b bytes.Buffer
	if n := len(v.shown); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", n)
	}
	b.Write(text)
	v.shown = nil
	for _, l := range lines {
		// A line that is wrapped would be two to go up.
		if r := []rune(l); len(r) >= v.width {
			l = string(r[:v.width-1])
		}
		v.shown = append(v.shown, l)
		b.WriteString(l + "\n")
	}
	_, _ = v.out.Write(b.Bytes()) // nobody to tell it to
}

// Write writes what is not of a frame.
func (v *View) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.Person() {
		return v.out.Write(p)
	}
	v.half = append(v.half, p...)
	if n := bytes.LastIndexByte(v.half, '\n'); n >= 0 {
		v.draw(v.half[:n+1], v.shown)
		v.half = append([]byte(nil), v.half[n+1:]...)
	}
	return len(p), nil
}

// End leaves what was shown last where it is.
func (v *View) End() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown = nil
}

// Rates are how counts changed in a time, a second.
func Rates(before, now map[string]int, took time.Duration) map[string]float64 {
	rates := map[string]float64{}
	for name := range now {
		rates[name] = float64(now[name]-before[name]) / max(took.Seconds(), .001)
	}
	return rates
}
