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
	"fmt"
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
	Took time.Duration // until all pictures were right again; 0: not within patience
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

// Rows are all series in short, and Counts all counts.
func (b *Book) Rows() (rows map[string]Row, counts map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows = map[string]Row{}
	for name, all := range b.series {
		rows[name] = row(all)
	}
	return rows, maps.Clone(b.counts)
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
	Faults     int                 `json:"faults"`
	Looks      int                 `json:"looks"`    // pictures that were judged
	Sessions   int                 `json:"sessions"` // that were seen
	Violations int                 `json:"violations"`
	Kinds      map[oracle.Kind]int `json:"kinds,omitempty"`
	Series     map[string]Row      `json:"series"`
	Counts     map[string]int      `json:"counts"`
	Memory     map[string]Memory   `json:"memory,omitempty"`
}

// Write writes everything, the sum last; it completes the sum.
func (b *Book) Write(w io.Writer, sum *Sum, kept []oracle.Violation) error {
	sum.Is = "sum"
	sum.Series, sum.Counts = b.Rows()
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
		if err := enc.Encode(map[string]any{"is": "fault", "at": f.At.Seconds(), "what": f.What, "recovered_ms": ms(f.Took)}); err != nil {
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

// Table prints a sum, beside an older one where there is one.
func (s *Sum) Table(w io.Writer, old *Sum) {
	fmt.Fprintf(w, "%-36s %8s %9s %9s %9s %9s\n", "milliseconds", "number", "p50", "p90", "p99", "worst")
	for _, name := range Order {
		r, ok := s.Series[name]
		if !ok {
			continue
		}
		r.print(w, name)
		if old != nil && old.Series[name].N > 0 {
			old.Series[name].print(w, "  before")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Counts)) {
		fmt.Fprintf(w, "%-36s %8d", name, s.Counts[name])
		if old != nil {
			fmt.Fprintf(w, "   before %d", old.Counts[name])
		}
		fmt.Fprintln(w)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Memory)) {
		m := s.Memory[name]
		fmt.Fprintf(w, "%-36s %8d  %8.1f MB %8.1f MB each %7.1f s CPU", name, m.Processes, m.MB, m.MB/float64(max(1, m.Processes)), m.CPU)
		if old != nil && old.Memory[name].Processes > 0 {
			fmt.Fprintf(w, "   before %.1f MB, %.1f s", old.Memory[name].MB, old.Memory[name].CPU)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s: %d people, %d terminals, %d hosts, %.0f s, seed %d: %d faults, %d sessions, %d pictures judged, %d violations\n",
		s.Scenario, s.People, s.Terminals, s.Hosts, s.Seconds, s.Seed, s.Faults, s.Sessions, s.Looks, s.Violations)
}

func (r Row) print(w io.Writer, name string) {
	fmt.Fprintf(w, "%-36s %8d %9.1f %9.1f %9.1f %9.1f\n", name, r.N, r.P50, r.P90, r.P99, r.Max)
}
