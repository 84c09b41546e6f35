// Package report makes a page of what runs of the fleet measured, one run or
// several side by side.
//
// Source: package figures, whose files it shows.
//
// Invariants:
//  1. The page is whole in itself: no script, and nothing is loaded.
//  2. What stands in the tables is of all measurements; curves are of those that
//     a file keeps.
//
// The package does no I/O and reads no clock. Limit: MaxRuns of a page.
package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"hotdesk/tools/fleet/internal/figures"
)

// MaxRuns is how many runs have a colour.
const MaxRuns = 4

//go:embed page.html
var page string

var parsed = template.Must(template.New("page").Parse(page))

// A view is what the page is made of.
type view struct {
	Title  string
	Runs   []*figures.Run
	Series []table
	Counts []table
	Memory []table
	Charts []chart
}

// A table is a row of the page's tables for each run.
type table struct {
	Name string
	Rows []row
}

type row struct {
	Run   int
	Cells []string
}

// A chart is a picture with what it says.
type chart struct {
	Title, Text string
	Keys        []key
	SVG         template.HTML
}

// A key says what a curve is.
type key struct {
	Run         int
	Style, Name string
}

// Dots says that no line is drawn.
func (k key) Dots() bool { return k.Style == dotted || k.Style == large }

// Write writes the page.
func Write(w io.Writer, runs []*figures.Run) error {
	if len(runs) == 0 || len(runs) > MaxRuns {
		return fmt.Errorf("report: %d runs, 1 to %d have room on a page", len(runs), MaxRuns)
	}
	v := view{Title: runs[0].Sum.Scenario, Runs: runs}
	for _, r := range runs[1:] {
		if r.Sum.Scenario != runs[0].Sum.Scenario {
			v.Title = "several scenarios"
		}
	}
	v.tables()
	v.charts()
	return parsed.Execute(w, v)
}

// tables are all figures, run by run.
func (v *view) tables() {
	for _, name := range figures.Order {
		t := table{Name: name}
		for i, r := range v.Runs {
			if s, ok := r.Sum.Series[name]; ok {
				t.Rows = append(t.Rows, row{i, []string{fmt.Sprint(s.N), ms(s.P50), ms(s.P90), ms(s.P99), ms(s.Max)}})
			}
		}
		if len(t.Rows) > 0 {
			v.Series = append(v.Series, t)
		}
	}
	counts := map[string]bool{}
	programs := map[string]bool{}
	for _, r := range v.Runs {
		for name := range r.Sum.Counts {
			counts[name] = true
		}
		for name := range r.Sum.Memory {
			programs[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t := table{Name: name}
		for i, r := range v.Runs {
			t.Rows = append(t.Rows, row{i, []string{fmt.Sprint(r.Sum.Counts[name])}})
		}
		v.Counts = append(v.Counts, t)
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		t := table{Name: name}
		for i, r := range v.Runs {
			m := r.Sum.Memory[name]
			t.Rows = append(t.Rows, row{i, []string{fmt.Sprint(m.Processes), fmt.Sprintf("%.1f", m.MB), fmt.Sprintf("%.1f", m.MB/float64(max(1, m.Processes))), fmt.Sprintf("%.1f", m.CPU)}})
		}
		v.Memory = append(v.Memory, t)
	}
}

// ms writes milliseconds as far as they are worth reading.
func ms(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// charts are those that have something to show.
func (v *view) charts() {
	const tail = "each nine of the percentiles has as much room, so that the few slow ones are seen."
	v.percentiles("Card in to picture", "From the push to the first right picture; "+tail, figures.CardNew, figures.CardAgain)
	v.times("Card in to picture over time", "A dot is a card, a large one is of a new session.", func(r *figures.Run, i int) []curve {
		return []curve{
			{i, large, figures.CardNew, r.Points[figures.CardNew]},
			{i, dotted, figures.CardAgain, r.Points[figures.CardAgain]},
		}
	})
	v.percentiles("Key to picture", "From the key to the picture that shows it, decoded; "+tail, figures.Echo)
	v.times("Key to picture over time", "Half of the keys, and 99 of 100, were faster.", func(r *figures.Run, i int) []curve {
		all := r.Points[figures.Echo]
		return []curve{
			{i, solid, "p50", overTime(all, r.Sum.Seconds, .5)},
			{i, dashed, "p99", overTime(all, r.Sum.Seconds, .99)},
		}
	})
	v.rates("Frames", "Changes of all terminals' pictures, a second.", func(name string) bool { return name == figures.Frames })
	v.times("Failover", "Small dots: a picture with a card in that stood still. Large ones: from a fault until every picture was right again; upright lines are the faults.", func(r *figures.Run, i int) []curve {
		return []curve{
			{i, dotted, figures.Gap, r.Points[figures.Gap]},
			{i, large, figures.Recovery, r.Points[figures.Recovery]},
		}
	})
	v.percentiles("Power on to screen", "From the switch to the first screen of a server; "+tail, figures.PowerOn)
	v.rates("Errors", "Whatever went wrong, a second; upright red lines are violations.", figures.Trouble)
}

// percentiles adds a chart of the distribution of series; those after the first
// are dashed.
func (v *view) percentiles(title, text string, series ...string) {
	var curves []curve
	for i, r := range v.Runs {
		for k, name := range series {
			style := solid
			if k > 0 {
				style = dashed
			}
			if all := r.Points[name]; len(all) > 1 {
				curves = append(curves, curve{i, style, name, byPercentile(all)})
			}
		}
	}
	v.add(title, text, percentiles(), milliseconds(curves), curves, nil)
}

// times adds a chart of what took how long, when.
func (v *view) times(title, text string, make func(*figures.Run, int) []curve) {
	var curves []curve
	for i, r := range v.Runs {
		for _, c := range make(r, i) {
			if len(c.points) > 0 {
				curves = append(curves, c)
			}
		}
	}
	v.add(title, text, linear(v.lasts(), " s"), milliseconds(curves), curves, v.faults())
}

// rates adds a chart of counts a second; those that fit are added up.
func (v *view) rates(title, text string, fits func(string) bool) {
	var curves []curve
	most := 0.0
	marks := v.faults()
	for i, r := range v.Runs {
		var sum []int
		for name, seconds := range r.Seconds {
			if !fits(name) {
				continue
			}
			for len(sum) < len(seconds) {
				sum = append(sum, 0)
			}
			for k, n := range seconds {
				sum[k] += n
			}
		}
		if len(sum) == 0 {
			continue
		}
		// What does not happen to the end does not happen till the end.
		for len(sum) < int(r.Sum.Seconds) {
			sum = append(sum, 0)
		}
		points := rate(sum, r.Sum.Seconds)
		for _, p := range points {
			most = max(most, p[1])
		}
		curves = append(curves, curve{i, solid, strings.ToLower(title), points})
		for _, at := range r.Violations {
			marks = append(marks, mark{i, at, "violation", true})
		}
	}
	v.add(title, text, linear(v.lasts(), " s"), linear(most, ""), curves, marks)
}

func (v *view) lasts() (most float64) {
	for _, r := range v.Runs {
		most = max(most, r.Sum.Seconds)
	}
	return most
}

// faults are marks of what was broken.
func (v *view) faults() (marks []mark) {
	for i, r := range v.Runs {
		for _, f := range r.Faults {
			text := fmt.Sprintf("%s at %.1f s, recovered after %s ms", f.What, f.At, ms(f.Took))
			if f.Took == 0 {
				text = fmt.Sprintf("%s at %.1f s", f.What, f.At)
			}
			marks = append(marks, mark{i, f.At, text, false})
		}
	}
	return marks
}

func (v *view) add(title, text string, x, y scale, curves []curve, marks []mark) {
	if len(curves) == 0 {
		return
	}
	c := chart{Title: title, Text: text, SVG: draw(title, x, y, curves, marks)}
	for _, k := range curves {
		name := k.name
		if len(v.Runs) > 1 {
			name = v.Runs[k.run].Name + ": " + name
		}
		c.Keys = append(c.Keys, key{k.run, k.style, name})
	}
	v.Charts = append(v.Charts, c)
}
