package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A goal is what a figure of Hotdesk's should be, mostly beside a peer's in the
// same run.
type goal struct {
	work, what string
	figure     func(Result) float64
	peer       string  // whose figure ours is divided by; empty: none
	most       float64 // 0: least counts
	least      float64
}

func down(r Result) float64   { return float64(r.Down) }
func spent(r Result) float64  { return r.CPU }
func half(r Result) float64   { return r.P50 }
func slow(r Result) float64   { return r.P99 }
func rate(r Result) float64   { return r.UPS }
func ended(r Result) float64  { return r.AppS }
func near(r Result) float64   { return r.Near }
func colour(r Result) float64 { return r.PSNR }

const (
	floor       = "none"
	plainBuild  = "hotdesk"
	videoBuild  = "hotdesk-video" // with the tag video
	before      = "before"        // Hotdesk, as it was built earlier
	tiger       = "tigervnc"
	tigerExact  = "tigervnc-lossless"
	millisecond = " ms"
)

var goals = func() []goal {
	g := []goal{
		{"typing", "echo p50", half, floor, 2, 0},
		{"typing", "echo p99", slow, floor, 3, 0},
		{"typing", "bytes a key", func(r Result) float64 { return float64(r.Down) / float64(max(len(r.LatMS)+r.Lost, 1)) }, "", 100, 0},
		{"typing", "CPU", spent, tiger, 1, 0},
		{"scrollp", "bytes", down, tiger, 0.55, 0},
		{"scrollp", "CPU", spent, tiger, 1, 0},
		{"drag", "bytes", down, tiger, 0.8, 0},
		{"drag", "CPU", spent, tiger, 1, 0},
		{"drag", "updates/s", rate, "", 0, 55},
		{"scroll", "time", ended, floor, 1.05, 0},
		{"scroll", "bytes", down, tiger, 1, 0},
		{"scroll", "updates/s", rate, "", 0, 55},
		{"pages", "bytes", down, tigerExact, 0.8, 0},
		{"pages", "CPU", spent, tigerExact, 0.5, 0},
		{"pages-first", "bytes", down, tiger, 0.25, 0},
		{"pages-first", "CPU", spent, tiger, 1, 0},
		{"pages-first", "dB", colour, "", 0, 35},
		{"flip-photo", "near" + millisecond, near, "", 12, 0},
		{"flip-photo", "exact" + millisecond, half, "", 25, 0},
		{"flip-text", "exact" + millisecond, half, "", 8, 0},
		{"video", "bytes", down, tiger, 0.6, 0},
		{"video", "CPU", spent, tiger, 4, 0},
		{"video", "dB", colour, "", 0, 36},
		{"idle", "PSS MiB", func(r Result) float64 { return r.PSS }, "", 40, 0},
		{"idle", "% of a core", func(r Result) float64 { return 100 * r.CPU / idleFor.Seconds() }, "", 0.05, 0},
		{"attach", "time", half, tiger, 1.0 / 3, 0},
	}
	for _, w := range works {
		if x11tests[w] != "" {
			g = append(g, goal{w, "time", ended, floor, 1.05, 0}, goal{w, "bytes", down, tiger, 1, 0})
		}
	}
	return g
}()

// videoGoals are those of Hotdesk built with the tag video.
var videoGoals = []goal{
	{"video", "bytes", down, tiger, 0.5, 0},
	{"video", "CPU", spent, tiger, 2, 0},
	{"video", "dB", colour, "", 0, 38},
	{"pages-first", "CPU", spent, tiger, 1, 0},
}

// A verdict is a goal that was measured, and what came of it.
type verdict struct {
	goal
	ours, theirs float64 // medians; theirs is 0 where nothing is divided
	met          bool
}

// value is what the goal is about.
func (v verdict) value() float64 {
	if v.peer == "" {
		return v.ours
	}
	return v.ours / v.theirs
}

// wanted is what value should be.
func (v verdict) wanted() string {
	if v.most == 0 {
		return fmt.Sprintf(">= %.2f", v.least)
	}
	return fmt.Sprintf("<= %.2f", v.most)
}

// short are the names of those that figures are divided by.
var short = map[string]string{floor: "floor", tiger: "T", tigerExact: "TL"}

// verdicts are those of the goals for which there are figures.
func verdicts(results []Result) []verdict {
	of := func(work, peer string) (rs []Result) {
		for _, r := range results {
			if r.Work == work && r.Peer == peer {
				rs = append(rs, r)
			}
		}
		return rs
	}
	var list []verdict
	for i, g := range slices.Concat(goals, videoGoals) {
		build := plainBuild
		if i >= len(goals) {
			build = videoBuild
			g.what += ", tag video"
		}
		rs := of(g.work, build)
		if len(rs) == 0 {
			continue
		}
		v := verdict{goal: g, ours: median(rs, g.figure)}
		if g.peer != "" {
			if v.theirs = median(of(g.work, g.peer), g.figure); v.theirs == 0 {
				continue
			}
		}
		v.met = v.value() <= g.most
		if g.most == 0 {
			v.met = v.value() >= g.least
		}
		list = append(list, v)
	}
	return list
}

// judge prints each goal that was measured, and what came of it.
func judge(out io.Writer, results []Result) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\t\tmeasured\twanted\t")
	for _, v := range verdicts(results) {
		beside := ""
		if v.peer != "" {
			beside = " " + short[v.peer]
		}
		fmt.Fprintf(t, "%s\t%s\t%.2f%s\t%s\t%s\n", v.work, v.what, v.value(), beside, v.wanted(), map[bool]string{true: "met", false: "NOT met"}[v.met])
	}
	t.Flush()
}

// goalTable is the same in Markdown, with what was divided.
func goalTable(out io.Writer, results []Result) {
	fmt.Fprintln(out, "| work | measure | Hotdesk | beside it | ratio | goal | |\n|---|---|---|---|---|---|---|")
	for _, v := range verdicts(results) {
		theirs, ratio := "", ""
		if v.peer != "" {
			theirs, ratio = short[v.peer]+" "+figure(v.theirs), fmt.Sprintf("%.2f", v.value())
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", v.work, v.what, figure(v.ours), theirs, ratio, v.wanted(), map[bool]string{true: "met", false: "**missed**"}[v.met])
	}
}

// figure is v with three digits that count, or all before the point.
func figure(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
