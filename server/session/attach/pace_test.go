package attach

import (
	"testing"
	"time"

	"hotdesk/server/session/encode"
)

// A link of rate bytes a second and rtt takes frames of size bytes, one every
// period; each is acknowledged when it has crossed.
func paced(rate float64, rtt, period time.Duration, size, frames int) (p pace, end time.Time) {
	now := time.Unix(1000, 0)
	free := now
	for seq := uint32(1); seq <= uint32(frames); seq++ {
		p.sends(now, seq, size)
		if free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(float64(size) / rate * float64(time.Second)))
		if end = free.Add(rtt); end.After(now.Add(period)) {
			now = end
		} else {
			now = now.Add(period)
		}
		p.hears(end, seq, rtt)
	}
	return p, end
}

func TestPaceLearnsTheLink(t *testing.T) {
	for _, c := range []struct {
		rate float64
		slow bool
	}{{30e3, true}, {125e3, true}, {1e6, true}, {5e6, false}, {100e6, false}} {
		p, _ := paced(c.rate, 50*time.Millisecond, 20*time.Millisecond, 8000, 50)
		if slow := p.rate > 0; slow != c.slow || slow && (p.rate < c.rate*0.9 || p.rate > c.rate*1.1) {
			t.Errorf("%.0f bytes a second are taken for %.0f", c.rate, p.rate)
		}
	}
	if p, _ := paced(30e3, time.Millisecond, 20*time.Millisecond, leastSample-1, 50); p.rate != 0 || p.known {
		t.Error("small frames told something")
	}
}

// A near link is slow when two frames in a row took long, not when the
// terminal had something else to do.
func TestPaceNear(t *testing.T) {
	const rtt = time.Millisecond
	for _, c := range []struct {
		name string
		took []time.Duration // by frames of 4000 bytes
		slow bool
	}{
		{"at once", []time.Duration{rtt, rtt, rtt}, false},
		{"one late", []time.Duration{rtt, 60 * rtt, rtt, 60 * rtt, rtt}, false},
		{"a little late, all of them", []time.Duration{20 * rtt, 20 * rtt, 20 * rtt}, false},
		{"a little late after a late one", []time.Duration{60 * rtt, 20 * rtt, 60 * rtt}, false},
		{"two late", []time.Duration{60 * rtt, 60 * rtt}, true},
	} {
		var p pace
		now := time.Unix(1000, 0)
		for i, took := range c.took {
			p.sends(now, uint32(i+1), 4000)
			p.hears(now.Add(took), uint32(i+1), rtt)
			now = now.Add(time.Second)
		}
		if slow := p.rate > 0; slow != c.slow {
			t.Errorf("%s: %.0f bytes a second", c.name, p.rate)
		}
	}
	if p, _ := paced(125e3, rtt, 20*time.Millisecond, 8000, 10); p.rate < 110e3 || p.rate > 140e3 {
		t.Errorf("1 Mbit/s nearby is taken for %.0f bytes a second", p.rate)
	}
}

// On a slow link what moves takes its share and then waits; on a quick one, and
// where pictures are exact, nothing is held.
func TestPaceTerms(t *testing.T) {
	motion := encode.Terms{Motion: true}
	p, end := paced(125e3, 50*time.Millisecond, 20*time.Millisecond, 8000, 50)
	idle := end.Add(10 * time.Second)
	got := p.terms(motion, idle, time.Minute, 0)
	if got.Now != time.Minute || got.Hold || got.Budget < 4500 || got.Budget > 5500 || got.First {
		t.Errorf("idle and slow: %+v", got)
	}
	if got := p.terms(encode.Terms{}, idle, time.Minute, 0); got != (encode.Terms{Now: time.Minute}) {
		t.Errorf("exact: %+v", got)
	}
	p.sends(idle, 51, 3750)
	if got := p.terms(motion, idle.Add(10*time.Millisecond), 0, 1); !got.Hold {
		t.Errorf("right after a frame: %+v", got)
	}
	if d, _ := p.late(idle.Add(10*time.Millisecond), 1); d < 55*time.Millisecond || d > 75*time.Millisecond {
		t.Errorf("late by %v; 3750 bytes take 30 ms, and more than as long is left for others", d)
	}
	p.hears(idle.Add(time.Second), 51, 50*time.Millisecond) // it waited in a queue
	p.sends(idle.Add(time.Second), 52, 100)
	if _, ack := p.late(idle.Add(2*time.Second), 1); !ack {
		t.Error("a long queue is not waited for")
	}
	quick, end := paced(100e6, time.Millisecond, 20*time.Millisecond, 8000, 50)
	if got := quick.terms(motion, end, time.Minute, 2); got != (encode.Terms{Now: time.Minute, Motion: true}) {
		t.Errorf("quick: %+v", got)
	}
	far := pace{rtt: 30 * time.Millisecond}
	if got := far.terms(motion, end, 0, 0); !got.First || got.Budget != firstBudget {
		t.Errorf("far and not known: %+v", got)
	}
}

func TestPacePatient(t *testing.T) {
	for _, c := range []struct {
		p    pace
		want bool
	}{{pace{}, false}, {pace{rtt: far - 1}, true}, {pace{rtt: far}, false}, {pace{rtt: far - 1, rate: 1e5}, false}} {
		if got := c.p.patient(); got != c.want {
			t.Errorf("round trip %v, rate %.0f: %v", c.p.rtt, c.p.rate, got)
		}
	}
}
