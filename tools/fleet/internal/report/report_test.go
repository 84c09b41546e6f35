package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"hotdesk/tools/fleet/internal/figures"
)

func run(name string) *figures.Run {
	r := &figures.Run{Name: name, Points: map[string][][2]float64{}, Seconds: map[string][]int{}}
	r.Sum = figures.Sum{Scenario: "<typist>", Seconds: 60, Series: map[string]figures.Row{figures.Echo: {N: 100, P50: 1.5, P99: 163}}}
	for n := range 100 {
		p := [2]float64{float64(n) * .6, float64(n + 1)}
		r.Points[figures.Echo] = append(r.Points[figures.Echo], p)
		r.Points[figures.CardNew] = append(r.Points[figures.CardNew], p)
	}
	r.Seconds["screen: No <session>"] = []int{0, 3}
	r.Seconds[figures.Keys] = []int{9, 9}
	r.Faults = []figures.Broken{{At: 5, What: "host killed", Took: 900}}
	r.Violations = []float64{30}
	return r
}

// The page is whole in itself, and what a file says is text on it.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, []*figures.Run{run("before"), run("after")}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "http:", "https:", "src=", "@import", "url(", "<typist>", "<session>", "NaN"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{"before: " + figures.CardNew, "after: p99", "host killed at 5.0 s, recovered after 900 ms", ">violation<", ">163<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for n := 0; ; n++ {
		_, rest, ok := strings.Cut(page, "<svg ")
		if !ok {
			if n < 5 {
				t.Errorf("only %d drawings", n)
			}
			break
		}
		svg, after, _ := strings.Cut(rest, "</svg>")
		d := xml.NewDecoder(strings.NewReader("<svg " + svg + "</svg>"))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v: %s", err, svg)
			}
		}
		page = after
	}
	for _, n := range []int{0, MaxRuns + 1} {
		if err := Write(io.Discard, make([]*figures.Run, n)); err == nil {
			t.Errorf("%d runs: no error", n)
		}
	}
	// A run in which nothing was measured has a page too.
	if err := Write(io.Discard, []*figures.Run{{Name: "empty"}}); err != nil {
		t.Error(err)
	}
}

func TestCurves(t *testing.T) {
	r := run("x")
	by := byPercentile(r.Points[figures.Echo])
	if first, last := by[0], by[len(by)-1]; first != [2]float64{0, 1} || last[1] != 100 || math.Abs(last[0]-2) > 1e-9 {
		t.Errorf("by percentile from %v to %v", first, last)
	}
	if all := overTime(r.Points[figures.Echo], 60, .5); len(all) != 60 || all[0] != [2]float64{.5, 2} {
		t.Errorf("over time: %d, %v", len(all), all[0])
	}
	if all := rate([]int{4, 6, 8, 0, 1}, 120); len(all) != 3 || all[0] != [2]float64{1, 5} || all[2] != [2]float64{4.5, 1} {
		t.Errorf("rate: %v", all)
	}
	if s := linear(300, " s"); s.ticks[len(s.ticks)-1].word != "300 s" || len(s.ticks) > 8 || s.at(150) != .5 {
		t.Errorf("ticks: %+v", s.ticks)
	}
	if s := milliseconds([]curve{{points: [][2]float64{{0, 3}, {0, 2500}}}}); s.ticks[0].word != "1 ms" || s.ticks[len(s.ticks)-1].word != "10 s" {
		t.Errorf("ticks: %+v", s.ticks)
	}
}
