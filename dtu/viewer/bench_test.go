package viewer_test

import (
	"context"
	"image"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hotdesk/dtu/screen"
	"hotdesk/dtu/viewer"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/server/session/attach/attachtest"
)

// desktop draws what compresses like one: areas of one colour with text-like
// noise in a part of them, and one photograph.
func desktop(s *attachtest.Source, photo float64) {
	r := rand.New(rand.NewPCG(1, 2))
	s.Change(image.Rect(0, 0, 1280, 1024), func(p *draw.Pixmap) {
		for y := range p.H {
			row := p.Row(y, 0, p.W)
			for x := range p.W {
				px := row[x*4 : x*4+3]
				px[0], px[1], px[2] = 0x60, 0x50, 0x40
				if x > 100 && x < 900 && y > 80 && y < 700 {
					px[0], px[1], px[2] = 0xff, 0xff, 0xff
					if y%16 < 10 && r.IntN(4) == 0 {
						px[0], px[1], px[2] = 0, 0, 0
					}
				}
				if float64(y) > float64(p.H)*(1-photo) {
					v := r.Uint32()
					px[0], px[1], px[2] = byte(v), byte(v>>8), byte(v>>16)
				}
			}
		}
	})
}

func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(ms(.5), "p50-ms")
	b.ReportMetric(ms(.9), "p90-ms")
	b.ReportMetric(ms(.99), "p99-ms")
	b.ReportMetric(ms(1), "worst-ms")
}

// BenchmarkFirstPicture is from Dial to Drawn at 1280x1024.
func BenchmarkFirstPicture(b *testing.B) {
	for _, x := range []struct {
		name  string
		photo float64
	}{{"desktop", 0}, {"photo", 0.3}} {
		b.Run(x.name, func(b *testing.B) {
			e := newEnd(b, nil, loopback(0))
			s := newShown(1280, 1024)
			desktop(s.source, x.photo)
			var all, dialled []time.Duration
			for b.Loop() {
				b.StopTimer()
				scr := screen.New(1280, 1024)
				s.spec.Gen++
				c := e.config(s.spec, scr)
				b.StartTimer()
				start := time.Now()
				v, err := viewer.Dial(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				dialled = append(dialled, time.Since(start))
				<-v.Drawn()
				all = append(all, time.Since(start))
				b.StopTimer()
				v.Close("done")
				<-v.Done()
				<-s.attached
				<-s.detached
				b.StartTimer()
			}
			report(b, all)
			slices.Sort(dialled)
			b.ReportMetric(float64(dialled[len(dialled)/2].Microseconds())/1000, "dial-p50-ms")
		})
	}
}

// echo changes a pixel for each key.
type echo struct {
	*attachtest.Sink
	source *attachtest.Source
	n      byte
}

func (e *echo) Key(uint16, bool) {
	e.n++
	e.source.Dot(int(e.n), 5, e.n|1)
}

// BenchmarkEcho is from a key's Send to the changed pixel's frame drawn. Each
// key comes after rest.
func BenchmarkEcho(b *testing.B) {
	e := newEnd(b, nil, loopback(0))
	s := newShown(1280, 1024)
	desktop(s.source, 0)
	s.spec.Sink = &echo{s.sink, s.source, 0}
	scr := screen.New(1280, 1024)
	c := e.config(s.spec, scr)
	w := watched{c.Decoder, make(chan uint32, 100)}
	c.Decoder = w
	v := dial(b, c)
	<-w.frames
	var all []time.Duration
	rest := time.NewTicker(20 * time.Millisecond)
	defer rest.Stop()
	for b.Loop() {
		b.StopTimer()
		<-rest.C
		b.StartTimer()
		start := time.Now()
		v.Send(input.Record{Type: input.Key, Usage: 4, Down: true})
		<-w.frames
		all = append(all, time.Since(start))
	}
	report(b, all)
}
