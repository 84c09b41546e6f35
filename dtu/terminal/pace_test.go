package terminal

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

// TestStormIsPaced: of a thousand pulls a millisecond apart a server hears a
// bounded number, each token that it hears of is removed again, and the card
// that stays in is presented soon.
func TestStormIsPaced(t *testing.T) {
	w := newWorld()
	w.step(PowerOn{})
	w.step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
	w.step(ControlUp{w.control})
	lines, in, last := 0, 1, "" // ControlUp presented the pseudo token
	note := func(out []Action) {
		for _, a := range w.note(out) {
			s, ok := a.(Send)
			if !ok {
				continue
			}
			lines++
			if s.Message.Command != alp.CmdInfoReq {
				continue
			}
			r, err := alp.ParseInfoReq(s.Message)
			if err != nil {
				t.Fatal(err)
			}
			if r.Remove {
				in--
			} else {
				in++
			}
			if in < 0 || in > 1 {
				t.Fatalf("%d tokens are presented at once", in)
			}
			last = string(r.Token())
		}
	}
	until := func(end time.Time) {
		for next := w.m.Next(); !next.IsZero() && !next.After(end); next = w.m.Next() {
			w.now = later(w.now, next)
			note(w.m.Tick(w.now))
		}
		w.now = end
	}
	began := w.now
	const pulls = 1000
	for n := 1; n <= pulls; n++ {
		note(w.m.Step(w.now, CardIn{n}))
		note(w.m.Step(w.now, CardRead{Card: n, Type: "simple", ID: fmt.Sprintf("%016x", n)}))
		until(w.now.Add(time.Millisecond))
		if n < pulls {
			note(w.m.Step(w.now, CardOut{n}))
			until(w.now.Add(time.Millisecond))
		}
	}
	took := w.now.Sub(began).Seconds()
	if most := int(3 * (presentBurst + took*presentRate + 2)); lines > most {
		t.Errorf("%d lines in %.0f s, want at most %d", lines, took, most)
	}
	until(w.now.Add(time.Second / presentRate))
	if want := fmt.Sprintf("simple.%016x", pulls); last != want {
		t.Errorf("presented last: %s, want %s", last, want)
	}
}
