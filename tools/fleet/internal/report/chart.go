package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Size of a chart, and of its margins, in the units of its view box.
const (
	width, height             = 620, 250
	left, right, top, bottom  = 58, 14, 12, 30
	innerWidth, innerHeight   = width - left - right, height - top - bottom
	maxDots                   = 1500 // of a curve
	dotted, solid, dashed     = "dots", "solid", "dashed"
	large                     = "dots large"
	leastMS, leastCount       = 0.1, 1.0
	percentLow, percentHigh   = 0.0, 3.3 // the scale of percentiles: -log10 of the rest
	ticksWanted, bucketsOfRun = 6, 60
)

// A curve is one line, or dots, of a chart.
type curve struct {
	run    int // whose colour it has
	style  string
	name   string
	points [][2]float64
}

// A mark is an upright line at a time.
type mark struct {
	run  int
	x    float64
	text string
	bad  bool
}

// A tick is a place of an axis, and its word.
type tick struct {
	at   float64
	word string
}

// A scale says where on a chart a value is, 0 to 1.
type scale struct {
	at    func(v float64) float64
	ticks []tick
}

// linear is a scale from 0 to most.
func linear(most float64, unit string) scale {
	most = max(most, leastCount)
	step := math.Pow(10, math.Floor(math.Log10(most/ticksWanted)))
	for _, f := range []float64{1, 2, 5, 10} {
		if step*f*ticksWanted >= most {
			step *= f
			break
		}
	}
	s := scale{at: func(v float64) float64 { return v / most }}
	for v := 0.0; v <= most*1.0001; v += step {
		s.ticks = append(s.ticks, tick{v, fmt.Sprintf("%g%s", math.Round(v*1000)/1000, unit)})
	}
	return s
}

// milliseconds is a logarithmic scale that has all values on it.
func milliseconds(curves []curve) scale {
	low, high := math.Inf(1), leastMS
	for _, c := range curves {
		for _, p := range c.points {
			low, high = min(low, max(p[1], leastMS)), max(high, p[1])
		}
	}
	from := math.Floor(math.Log10(min(low, high)))
	to := max(math.Ceil(math.Log10(high)), from+1)
	s := scale{at: func(v float64) float64 { return (math.Log10(max(v, leastMS)) - from) / (to - from) }}
	for e := from; e <= to; e++ {
		v := math.Pow(10, e)
		word := fmt.Sprintf("%g ms", v)
		if v >= 1000 {
			word = fmt.Sprintf("%g s", v/1000)
		}
		s.ticks = append(s.ticks, tick{v, word})
	}
	return s
}

// percentiles is the scale on which each nine takes as much room.
func percentiles() scale {
	s := scale{at: func(v float64) float64 { return (min(v, percentHigh) - percentLow) / (percentHigh - percentLow) }}
	for _, p := range []string{"0", "50", "90", "99", "99.9"} {
		var v float64
		fmt.Sscan(p, &v)
		s.ticks = append(s.ticks, tick{nines(v / 100), p + " %"})
	}
	return s
}

// nines is where a share is on that scale.
func nines(share float64) float64 { return -math.Log10(max(1-share, 1e-9)) }

// byPercentile makes a curve's points of samples.
func byPercentile(points [][2]float64) (out [][2]float64) {
	took := make([]float64, 0, len(points))
	for _, p := range points {
		took = append(took, p[1])
	}
	slices.Sort(took)
	last := math.Inf(-1)
	for i, v := range took {
		x := nines(float64(i) / float64(len(took)))
		if x-last > (percentHigh-percentLow)/400 || i == len(took)-1 {
			out = append(out, [2]float64{x, v})
			last = x
		}
	}
	return out
}

// overTime makes the points of a quantile of samples, piece by piece of a time.
func overTime(points [][2]float64, lasts, quantile float64) (out [][2]float64) {
	piece := max(lasts/bucketsOfRun, 1)
	buckets := map[int][]float64{}
	most := 0
	for _, p := range points {
		n := int(p[0] / piece)
		buckets[n], most = append(buckets[n], p[1]), max(most, n)
	}
	for n := 0; n <= most; n++ {
		all := buckets[n]
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		out = append(out, [2]float64{(float64(n) + .5) * piece, all[min(int(quantile*float64(len(all))), len(all)-1)]})
	}
	return out
}

// rate makes the points of a count a second. What is left of the last second
// is none.
func rate(seconds []int, lasts float64) (out [][2]float64) {
	piece := max(int(lasts/bucketsOfRun), 1)
	seconds = seconds[:min(len(seconds), max(1, int(lasts)))]
	for at := 0; at < len(seconds); at += piece {
		sum, n := 0, min(piece, len(seconds)-at)
		for _, v := range seconds[at : at+n] {
			sum += v
		}
		out = append(out, [2]float64{float64(at) + float64(n)/2, float64(sum) / float64(n)})
	}
	return out
}

// draw makes the chart as SVG.
func draw(label string, x, y scale, curves []curve, marks []mark) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(label))
	px := func(v float64) float64 { return left + innerWidth*min(max(x.at(v), 0), 1) }
	py := func(v float64) float64 { return top + innerHeight*(1-min(max(y.at(v), 0), 1)) }
	for _, t := range y.ticks {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, left, py(t.at), width-right, left-7, py(t.at)+4, t.word)
	}
	for _, t := range x.ticks {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %dV%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(t.at), top, height-bottom, px(t.at), height-bottom+18, t.word)
	}
	for _, m := range marks {
		class := "mark"
		if m.bad {
			class = "mark bad"
		}
		fmt.Fprintf(&b, `<path class="%s r%d" d="M%.1f %dV%d"><title>%s</title></path>`, class, m.run, px(m.x), top, height-bottom, template.HTMLEscapeString(m.text))
	}
	for _, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		fmt.Fprintf(&b, `<path class="curve %s r%d" d="`, c.style, c.run)
		step := 1
		if c.style == dotted || c.style == large {
			step = max(1, (len(c.points)+maxDots-1)/maxDots)
		}
		for i := 0; i < len(c.points); i += step {
			p := c.points[i]
			switch {
			case c.style == dotted || c.style == large:
				fmt.Fprintf(&b, "M%.1f %.1fh0", px(p[0]), py(p[1]))
			case i == 0:
				fmt.Fprintf(&b, "M%.1f %.1f", px(p[0]), py(p[1]))
			default:
				fmt.Fprintf(&b, "L%.1f %.1f", px(p[0]), py(p[1]))
			}
		}
		fmt.Fprintf(&b, `"><title>%s</title></path>`, template.HTMLEscapeString(c.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
