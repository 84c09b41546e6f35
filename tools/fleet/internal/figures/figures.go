// Package figures keeps what a run measures, and makes lines of JSON and a
// table of it.
//
// Source: this project's own. A file of figures is JSON, an object a line: each
// has "is", and the last one sums up ("is": "sum").
//
// Invariants: of each series that has more than maxSamples, those that are kept
// for drawing are evenly spread; quantiles are of all of them.
//
// The package reads no clock. A Book is safe for concurrent use.
package figures

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"hotdesk/tools/fleet/internal/oracle"
)

// maxSamples bounds what is written of one series.
const maxSamples = 4000

// Series that a run measures.
const (
	CardNew   = "card in to picture, new session"
	CardAgain = "card in to picture, session there"
	Echo      = "key to picture"
	Gap       = "picture stood still" // with the card in
	PowerOn   = "power on to screen"
	Recovery  = "fault to all pictures"
)

// Counts that are no trouble.
const (
	Frames   = "frames" // changes of a terminal's picture that were looked at
	CardsIn  = "cards in"
	Keys     = "keys typed"
	Answered = "servers' questions answered with Return"
	Void     = "faults without effect" // there was nothing to break
)

// Trouble says that what is counted by that name should not happen.
func Trouble(count string) bool {
	return !slices.Contains([]string{Frames, CardsIn, Keys, Answered, Void}, count)
}

// Order is that of the tables.
var Order = []string{CardNew, CardAgain, Echo, Gap, PowerOn, Recovery}

// A Sample is one measurement.
type Sample struct {
	At, Took time.Duration
}

// A Book collects.
type Book struct {
	mu      sync.Mutex
	series  map[string][]Sample
	counts  map[string]int
	seconds map[string][]int // by second of the run
	faults  []Fault
}

// A Fault is what was broken.
type Fault struct {
	At   time.Duration
	What string
	// Effect is by what it was seen that it took effect.
	Effect string
	Took   time.Duration // until all pictures were right again; 0: not within patience
}

// New returns an empty one.
func New() *Book {
	return &Book{series: map[string][]Sample{}, counts: map[string]int{}, seconds: map[string][]int{}}
}

// Add adds a measurement.
func (b *Book) Add(series string, at, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.series[series] = append(b.series[series], Sample{at, took})
}

// Count counts something.
func (b *Book) Count(what string, at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what]++
	n := int(max(0, at) / time.Second)
	s := b.seconds[what]
	for len(s) <= n {
		s = append(s, 0)
	}
	s[n]++
	b.seconds[what] = s
}

// Fault notes a fault.
func (b *Book) Fault(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, f)
	if f.Took > 0 {
		b.series[Recovery] = append(b.series[Recovery], Sample{f.At, f.Took})
	}
}

// A Row is one series in short, in milliseconds.
type Row struct {
	N                  int
	P50, P90, P99, Max float64
}

func row(all []Sample) Row {
	if len(all) == 0 {
		return Row{}
	}
	t := make([]time.Duration, len(all))
	for i, s := range all {
		t[i] = s.Took
	}
	slices.Sort(t)
	at := func(p float64) float64 { return ms(t[min(int(p*float64(len(t))), len(t)-1)]) }
	return Row{len(t), at(.5), at(.9), at(.99), ms(t[len(t)-1])}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Lately are the series in short, but for what was added before from.
func (b *Book) Lately(from map[string]int) map[string]Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := map[string]Row{}
	for name, all := range b.series {
		rows[name] = row(all[min(from[name], len(all)):])
	}
	return rows
}

// Lengths is how many measurements there are of each series.
func (b *Book) Lengths() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for name, all := range b.series {
		n[name] = len(all)
	}
	return n
}

// Counts are all counts so far.
func (b *Book) Counts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.counts)
}

// Faults is how many there were.
func (b *Book) Faults() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.faults)
}

// Memory is what processes of one kind took.
type Memory struct {
	Processes int     `json:"processes"`
	MB        float64 `json:"mb"`  // PSS of all of them
	CPU       float64 `json:"cpu"` // seconds, user and system
}

// A Sum is the last line of a file.
type Sum struct {
	Is         string              `json:"is"`
	Scenario   string              `json:"scenario"`
	People     int                 `json:"people"`
	Terminals  int                 `json:"terminals"`
	Hosts      int                 `json:"hosts"`
	Seed       uint64              `json:"seed"`
	Seconds    float64             `json:"seconds"`
	Stopped    bool                `json:"stopped,omitempty"` // before its time, by a signal or by a fault that could not be mended
	Faults     int                 `json:"faults"`
	Looks      int                 `json:"looks"`    // pictures that were judged
	Sessions   int                 `json:"sessions"` // that were seen
	Violations int                 `json:"violations"`
	Kinds      map[oracle.Kind]int `json:"kinds,omitempty"`
	Series     map[string]Row      `json:"series"`
	Counts     map[string]int      `json:"counts"`
	Memory     map[string]Memory   `json:"memory,omitempty"`
	Machine    string              `json:"machine,omitempty"` // what it ran on, and how busy that was
}

// Write writes everything, the sum last; it completes the sum.
func (b *Book) Write(w io.Writer, sum *Sum, kept []oracle.Violation) error {
	sum.Is = "sum"
	sum.Series, sum.Counts = b.Lately(nil), b.Counts()
	sum.Faults = b.Faults()
	b.mu.Lock()
	defer b.mu.Unlock()
	enc := json.NewEncoder(w)
	for _, name := range slices.Sorted(maps.Keys(b.series)) {
		all := b.series[name]
		var points [][2]float64
		for i := range min(len(all), maxSamples) {
			s := all[i*len(all)/min(len(all), maxSamples)]
			points = append(points, [2]float64{s.At.Seconds(), ms(s.Took)})
		}
		if err := enc.Encode(map[string]any{"is": "series", "name": name, "points": points}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.seconds)) {
		if err := enc.Encode(map[string]any{"is": "seconds", "name": name, "counts": b.seconds[name]}); err != nil {
			return err
		}
	}
	for _, f := range b.faults {
		if err := enc.Encode(map[string]any{"is": "fault", "at": f.At.Seconds(), "what": f.What, "effect": f.Effect, "recovered_ms": ms(f.Took)}); err != nil {
			return err
		}
	}
	for _, v := range kept {
		if err := enc.Encode(map[string]any{"is": "violation", "at": v.At.Seconds(), "terminal": v.Terminal, "kind": v.Kind, "text": v.Text}); err != nil {
			return err
		}
	}
	return enc.Encode(sum)
}
