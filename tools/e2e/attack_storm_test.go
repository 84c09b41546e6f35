package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/protocol/rpc"
	"hotdesk/tools/internal/lab"
)

// A hand is what `dtu ctl` is to a terminal, without a process for each move.
type hand struct{ conn *rpc.Conn }

func newHand(t *testing.T, ctx context.Context, term *lab.Terminal) hand {
	t.Helper()
	nc, err := net.Dial("unix", term.Socket())
	if err != nil {
		t.Fatal(err)
	}
	h := hand{rpc.New(nc, nil)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.conn.Serve(ctx) })
	t.Cleanup(func() { h.conn.Close(); serving.Wait() })
	return h
}

func (h hand) insert(ctx context.Context, card string) error {
	return h.conn.Call(ctx, "insert", map[string]string{"name": card}, nil)
}

func (h hand) remove(ctx context.Context) error { return h.conn.Call(ctx, "remove", nil, nil) }

// Eighty card pulls (HOTDESK_LONG: two thousand), down to a millisecond apart, at two terminals of two
// hosts, with the same two cards in both: afterwards each card has one session,
// with its picture, and nothing is left over.
func TestAttackStorm(t *testing.T) {
	f := newFort(t)
	south, err := f.lab.Host(f.ctx, "south")
	if south != nil {
		f.hosts["south"] = south
	}
	f.must(err)
	other, err := f.lab.Terminal(f.ctx, "other", "-server", south.Addr, "-size", small)
	f.must(err)
	terminals := map[string]*lab.Terminal{"card1": f.good, "card2": other}
	colours := map[string]string{"card1": "2a7f62", "card2": "6a3d7c"}
	ctl := func(card string, args ...string) {
		t.Helper()
		_, err := terminals[card].Ctl(f.ctx, args...)
		f.must(err)
	}
	ctl("card2", "insert", "card2")
	ctl("card2", "wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	_, err = other.Rest(f.ctx, patience)
	f.must(err)
	pixel := func(card, colour string) {
		t.Helper()
		ctl(card, "wait", "-timeout", patience.String(), "picture", corner+colour)
	}
	for card, colour := range colours {
		ctl(card, "type", "xsetroot -solid '#"+colour+"'\n")
		pixel(card, colour)
		ctl(card, "remove")
	}
	before := f.sessionsOf(t)

	seed, began := rand.Uint64(), time.Now()
	pulls := 40
	if os.Getenv("HOTDESK_LONG") != "" {
		pulls = 1000
	}
	var storms sync.WaitGroup
	for n, term := range []*lab.Terminal{f.good, other} {
		h := newHand(t, f.ctx, term)
		rnd := rand.New(rand.NewPCG(seed, uint64(n)))
		storms.Go(func() {
			for i := range pulls {
				most := 1 + 60*(pulls-i)/pulls // milliseconds
				gap := func() { <-time.After(time.Duration(1+rnd.IntN(most)) * time.Millisecond) }
				if err := h.insert(f.ctx, fmt.Sprintf("card%d", 1+rnd.IntN(2))); err != nil {
					t.Errorf("pull %d: %v", i, err)
				}
				gap()
				if err := h.remove(f.ctx); err != nil {
					t.Errorf("pull %d: %v", i, err)
				}
				gap()
			}
		})
	}
	storms.Wait()
	over := time.Now()
	for card, colour := range colours {
		ctl(card, "insert", card)
		pixel(card, colour)
	}
	t.Logf("seed %d: %d pulls in %v, both pictures %v after the last", seed, 2*pulls,
		over.Sub(began).Round(time.Millisecond), time.Since(over).Round(time.Millisecond))
	for card := range colours { // and each hears its own keyboard
		ctl(card, "type", "xsetroot -solid '#10"+colours[card][2:]+"'\n")
		pixel(card, "10"+colours[card][2:])
	}
	after := f.sessionsOf(t)
	if fmt.Sprint(after) != fmt.Sprint(before) || len(after) != 2 {
		t.Errorf("sessions before the storm %v, after it %v", before, after)
	}
	for _, program := range []string{"Xvfb", "keeper"} {
		if n := f.running(program); n != 2 {
			t.Errorf("%d processes %s run, want one for each session", n, program)
		}
	}
}

// sessionsOf maps the tokens that have sessions to these.
func (f *fort) sessionsOf(t *testing.T) map[alp.Token]alp.SessionID {
	t.Helper()
	all := map[alp.Token]alp.SessionID{}
	for _, h := range f.hosts {
		ids, err := h.Sessions()
		f.must(err)
		for _, id := range ids {
			st, _, err := h.Keeper(f.ctx, id)
			f.must(err)
			if all[st.Token] != "" {
				t.Errorf("%s has two sessions, %s and %s", st.Token, all[st.Token], id)
			}
			all[st.Token] = id
		}
	}
	return all
}

// running counts the lab's processes with that word among their first two.
func (f *fort) running(word string) int {
	f.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	f.must(err)
	n := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		args := strings.Split(string(b), "\x00")
		if err != nil || len(args) < 2 || !strings.Contains(string(b), filepath.Base(f.lab.Dir)) {
			continue
		}
		if filepath.Base(args[0]) == word || args[1] == word {
			n++
		}
	}
	return n
}

// Of the tickets of a token that came and went, none is left.
func TestAttackTicketsLeft(t *testing.T) {
	f := newFort(t)
	f.during(func() {
		r := f.rogue(1, "")
		var offers []alp.ConnInf
		for range 40 {
			offers = append(offers, r.offered("simple.attack"))
			r.say(r.event("simple.attack", true))
		}
		for _, c := range append(offers, r.offered("simple.attack"))[20:] {
			m, err := f.greet(r.at(c), home, r.hello(c))
			if c.TokenSeq == r.seq {
				f.must(err)
				m.cut()
				continue
			}
			app, ok := errors.AsType[*quic.ApplicationError](err)
			if !ok || native.CloseCode(app.ErrorCode) != native.CloseTicket {
				t.Errorf("the ticket of number %d is good still: %v", c.Gen, err)
			}
		}
	})
}
