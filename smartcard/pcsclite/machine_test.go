package pcsclite

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// desk is a Machine with its programs and a card that answers when told to.
type desk struct {
	t    testing.TB
	m    *Machine
	now  time.Time
	last Client
	got  map[Client][][]byte // not taken yet
	gone map[Client]string
	asks []Ask
	held bool
}

var (
	epoch = time.Unix(1_700_000_000, 0)
	cardA = []byte{0x3B, 0x80, 0x80, 0x01, 0x01} // T=0 and T=1
	fine  = []byte{0x90, 0x00}
)

func newDesk(t testing.TB) *desk {
	return &desk{t: t, m: New(Config{Reader: "R 00 00"}), now: epoch, got: map[Client][][]byte{}, gone: map[Client]string{}}
}

func (d *desk) act(actions []Action) {
	d.t.Helper()
	for _, a := range actions {
		switch a := a.(type) {
		case Send:
			if _, gone := d.gone[a.Client]; gone {
				d.t.Fatalf("sent to %d, which is gone", a.Client)
			}
			d.got[a.Client] = append(d.got[a.Client], a.Data)
		case Drop:
			d.gone[a.Client] = a.Reason
		case Ask:
			if len(d.asks) > 0 {
				d.t.Fatal("a second question while the card is at one")
			}
			if c := d.m.jobs[0].client; c != nil && d.m.lock != 0 && d.m.handles[d.m.lock].client != c {
				d.t.Fatalf("asked for %d in a transaction of %d", c.id, d.m.handles[d.m.lock].client.id)
			}
			d.asks = append(d.asks, a)
		case Hold:
			if a.On == d.held {
				d.t.Fatalf("hold %v twice", a.On)
			}
			d.held = a.On
		}
	}
}

func (d *desk) step(e Event) {
	d.t.Helper()
	d.act(d.m.Step(d.now, e))
}

func (d *desk) insert() {
	d.t.Helper()
	d.held, d.asks = false, nil
	d.step(Inserted{ATR: cardA})
}

func (d *desk) remove() {
	d.t.Helper()
	d.held, d.asks = false, nil
	d.step(Removed{})
}

// wait lets time pass.
func (d *desk) wait(dur time.Duration) {
	d.t.Helper()
	end := d.now.Add(dur)
	for next := d.m.Next(); !next.IsZero() && !next.After(end); next = d.m.Next() {
		d.now = next
		d.act(d.m.Tick(next))
	}
	d.now = end
}

// answer has the card answer what it was asked.
func (d *desk) answer(r Result, data []byte) Ask {
	d.t.Helper()
	if len(d.asks) != 1 {
		d.t.Fatal("the card was asked nothing")
	}
	a := d.asks[0]
	d.asks = nil
	d.step(Answered{Ask: a.Ask, Result: r, Data: data})
	return a
}

// ask sends a request that is not answered at once.
func (d *desk) ask(c Client, b Body) {
	d.t.Helper()
	d.step(Requested{c, b})
	if len(d.got[c]) != 0 {
		d.t.Fatalf("%T is answered at once: % x", b, d.got[c])
	}
}

// call sends a request and returns its answer.
func call[B Body](d *desk, c Client, b B) B {
	d.t.Helper()
	d.step(Requested{c, b})
	return taken(d, c, b)
}

// taken returns the answer to b.
func taken[B Body](d *desk, c Client, b B) B {
	d.t.Helper()
	if len(d.got[c]) == 0 {
		d.t.Fatalf("no answer to %T; gone: %q", b, d.gone[c])
	}
	data := d.got[c][0]
	d.got[c] = d.got[c][1:]
	rest, err := ParseBody(data, b)
	if err != nil {
		d.t.Fatal(err)
	}
	if tr, is := Body(b).(*Transmit); is {
		tr.Data = rest
	}
	return b
}

// program is a client with a context and a card handle.
type program struct {
	Client
	context, card uint32
}

// program connects one; share 0: without a handle.
func (d *desk) program(share uint32) program {
	d.t.Helper()
	d.last++
	p := program{Client: d.last}
	d.step(Opened{p.Client})
	call(d, p.Client, &Version{Major: Major, Minor: Minor})
	p.context = call(d, p.Client, &Establish{Scope: 2}).Context
	if share != 0 {
		c := call(d, p.Client, d.connect(p, share))
		if c.RV != Success {
			d.t.Fatalf("connect: %x", c.RV)
		}
		p.card = c.Card
	}
	return p
}

func (d *desk) connect(p program, share uint32) *Connect {
	return &Connect{Context: p.context, Reader: reader("R 00 00"), Share: share, Protocols: T0 | T1}
}

func apdu(p program, data ...byte) *Transmit {
	return &Transmit{Card: p.card, SendProtocol: T1, SendLength: uint32(len(data)), ReceiveLength: MaxTransfer, Data: data}
}

func (d *desk) want(what string, got, want uint32) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("%s: %08x, want %08x", what, got, want)
	}
}

func TestOtherVersions(t *testing.T) {
	d := newDesk(t)
	d.step(Opened{1})
	v := call(d, 1, &Version{Major: 4, Minor: 5})
	d.want("version 4.5", v.RV, ServiceStopped)
	d.want("minor", v.Minor, Minor)
	if why := d.gone[1]; !strings.Contains(why, "speaks protocol 4.5") || !strings.Contains(why, "speaks 4.4") {
		t.Errorf("the log says %q", why)
	}
	d.step(Opened{2})
	d.step(Requested{2, &Establish{}})
	if d.gone[2] == "" {
		t.Error("who says no version may go on")
	}
}

func TestForeignHandle(t *testing.T) {
	d := newDesk(t)
	d.insert()
	a, b := d.program(Shared), d.program(Shared)
	d.step(Requested{b.Client, &Status{Card: a.card}})
	if d.gone[b.Client] == "" || d.gone[a.Client] != "" {
		t.Errorf("gone: %v", d.gone)
	}
	d.want("a's status", call(d, a.Client, &Status{Card: a.card}).RV, Success)
}

func TestTransaction(t *testing.T) {
	d := newDesk(t)
	d.insert()
	a, b, c := d.program(Shared), d.program(Shared), d.program(0)
	d.want("a begins", call(d, a.Client, &Begin{Card: a.card}).RV, Success)
	if !d.held {
		t.Error("the terminal does not know")
	}
	d.want("b's exchange", call(d, b.Client, apdu(b, 0, 1, 2, 3)).RV, SharingViolation)

	// b waits, but not for ever; then it has its turn the moment a ends.
	d.ask(b.Client, &Begin{Card: b.card})
	d.wait(BeginWait)
	d.want("b begins in vain", taken(d, b.Client, &Begin{}).RV, SharingViolation)
	d.ask(b.Client, &Begin{Card: b.card})
	d.ask(c.Client, d.connect(c, Shared)) // as pcscd: waits without end
	d.wait(BeginWait / 2)
	d.ask(a.Client, apdu(a, 0, 1, 2, 3))
	d.answer(OK, fine)
	if got := taken(d, a.Client, &Transmit{}); got.RV != Success || !bytes.Equal(got.Data, fine) {
		t.Errorf("a's exchange: %x % x", got.RV, got.Data)
	}
	d.want("a ends", call(d, a.Client, &End{Card: a.card}).RV, Success)
	d.want("b begins", taken(d, b.Client, &Begin{}).RV, Success)
	if !d.m.Busy(c.Client) {
		t.Error("c is not waiting")
	}
	d.want("b ends", call(d, b.Client, &End{Card: b.card}).RV, Success)
	d.want("c connects", taken(d, c.Client, &Connect{}).RV, Success)
	if d.held {
		t.Error("the terminal is still held")
	}
}

// An owner that dies in its transaction, also in the middle of an exchange:
// the card is reset, and the others are told.
func TestOwnerDies(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprintf("in an exchange %v", asked), func(t *testing.T) {
			d := newDesk(t)
			d.insert()
			a, b := d.program(Shared), d.program(Shared)
			d.want("a begins", call(d, a.Client, &Begin{Card: a.card}).RV, Success)
			if asked {
				d.ask(a.Client, apdu(a, 0, 1, 2, 3))
			}
			d.ask(b.Client, &Begin{Card: b.card})
			d.step(Closed{a.Client})
			d.want("b begins", taken(d, b.Client, &Begin{}).RV, ResetCard)
			if asked {
				d.answer(OK, fine)
			}
			if k := d.answer(OK, nil).Kind; k != KindReset {
				t.Errorf("the card was asked %v", k)
			}
			if len(d.got[a.Client]) != 0 {
				t.Error("the dead are answered")
			}
			d.want("b reconnects", call(d, b.Client, &Reconnect{Card: b.card, Share: Shared, Protocols: T1}).RV, Success)
			d.want("b begins", call(d, b.Client, &Begin{Card: b.card}).RV, Success)
		})
	}
}

// Removal in a transaction, with an exchange on its way and others waiting.
func TestRemoval(t *testing.T) {
	d := newDesk(t)
	d.insert()
	a, b, c := d.program(Shared), d.program(Shared), d.program(Shared)
	call(d, c.Client, &Disconnect{Card: c.card})
	d.want("a begins", call(d, a.Client, &Begin{Card: a.card}).RV, Success)
	d.ask(a.Client, apdu(a, 0, 1, 2, 3))
	ask := d.asks[0]
	d.ask(b.Client, &Begin{Card: b.card})
	d.ask(c.Client, d.connect(c, Shared))
	w := d.program(0)
	d.step(Requested{w.Client, &Wait{}})
	d.got[w.Client] = nil
	d.remove()
	d.want("a's exchange", taken(d, a.Client, &Transmit{}).RV, NoSmartcard)
	d.want("b begins", taken(d, b.Client, &Begin{}).RV, RemovedCard)
	d.want("c connects", taken(d, c.Client, &Connect{}).RV, NoSmartcard)
	if len(d.got[w.Client]) != 1 || !bytes.Equal(d.got[w.Client][0], AppendSignal(nil, Success)) {
		t.Errorf("who waits hears % x", d.got[w.Client])
	}
	d.insert()
	d.step(Answered{Ask: ask.Ask, Data: fine}) // of the card that is out
	for _, p := range []program{a, b} {
		d.want("status", call(d, p.Client, &Status{Card: p.card}).RV, RemovedCard)
		d.want("exchange", call(d, p.Client, apdu(p, 0, 1, 2, 3)).RV, RemovedCard)
		d.want("end", call(d, p.Client, &End{Card: p.card}).RV, RemovedCard)
		d.want("reconnect", call(d, p.Client, &Reconnect{Card: p.card, Share: Shared, Protocols: T1}).RV, Success)
		d.want("end", call(d, p.Client, &End{Card: p.card}).RV, NotTransacted)
	}
	if n := d.m.State().Events; n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// A card that nobody uses is locked again after a while.
func TestRest(t *testing.T) {
	d := newDesk(t)
	d.insert()
	d.wait(time.Hour)
	if len(d.asks) != 0 {
		t.Error("a card that nobody used is reset")
	}
	a := d.program(Shared)
	call(d, a.Client, &Disconnect{Card: a.card})
	d.wait(RestAfter / 2)
	c := call(d, a.Client, d.connect(a, Shared))
	d.want("connect", c.RV, Success)
	d.wait(time.Hour)
	if len(d.asks) != 0 {
		t.Error("a card in use is reset")
	}
	d.step(Closed{a.Client})
	d.wait(RestAfter)
	if k := d.answer(OK, nil).Kind; k != KindReset {
		t.Errorf("the card was asked %v", k)
	}
	d.wait(time.Hour)
	if len(d.asks) != 0 {
		t.Error("reset again")
	}
}

func TestBounds(t *testing.T) {
	d := newDesk(t)
	d.insert()
	a := d.program(Shared)
	for range MaxHandles - 1 {
		d.want("connect", call(d, a.Client, d.connect(a, Shared)).RV, Success)
	}
	d.want("one too many", call(d, a.Client, d.connect(a, Shared)).RV, NoMemory)
	d.ask(a.Client, apdu(a, 0, 1, 2, 3))
	var first program
	for i := range MaxWaiting {
		p := d.program(Shared)
		if i == 0 {
			first = p
		}
		d.step(Requested{p.Client, apdu(p, 0, 1, 2, 3)})
		if i == MaxWaiting-1 {
			d.want("one too many waits", taken(d, p.Client, &Transmit{}).RV, NoMemory)
		}
	}
	d.answer(OK, make([]byte, 100))
	d.want("a's exchange", taken(d, a.Client, &Transmit{}).RV, Success)
	d.answer(Mute, nil)
	d.want("the next one's, mute", taken(d, first.Client, &Transmit{}).RV, NotTransacted)
	small := apdu(a, 0, 1, 2, 3)
	small.ReceiveLength = 2
	d.step(Requested{a.Client, small})
	for range MaxWaiting - 2 {
		d.answer(OK, fine)
	}
	d.answer(OK, []byte{1, 0x90, 0})
	got := taken(d, a.Client, &Transmit{})
	d.want("small buffer", got.RV, InsufficientBuffer)
	if got.ReceiveLength != 3 || len(got.Data) != 0 {
		t.Errorf("needs %d, has % x", got.ReceiveLength, got.Data)
	}
}

// Whatever programs, card and terminal do: at most one question is with the
// card, none is another's while a transaction runs, every request is answered
// once or costs its connection, and when all programs are gone nothing is left.
func TestRandom(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { random(t, seed) })
	}
}

func random(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	d := newDesk(t)
	var programs []program
	pending := map[Client]int{}
	alive := func(p program) bool { return d.gone[p.Client] == "" }
	for range 400 {
		switch k := r.IntN(20); {
		case k == 0:
			d.insert()
		case k == 1:
			d.remove()
		case k < 5 && len(d.asks) == 1:
			d.answer(Result(r.IntN(3)), fine)
		case k == 5:
			d.wait(time.Duration(r.IntN(200)) * time.Millisecond)
		case k == 6 && len(programs) < 6:
			programs = append(programs, d.program(0))
		case k == 7 && len(programs) > 0 && r.IntN(4) == 0:
			i := r.IntN(len(programs))
			p := programs[i]
			programs = append(programs[:i:i], programs[i+1:]...)
			if alive(p) {
				d.step(Closed{p.Client})
			}
			d.gone[p.Client] = "closed"
			delete(pending, p.Client)
		case len(programs) > 0:
			p := &programs[r.IntN(len(programs))]
			if !alive(*p) || d.m.Busy(p.Client) {
				continue
			}
			for _, data := range d.got[p.Client] { // handles are learned here
				if len(data) == size(&Connect{}) {
					var c Connect
					if _, err := ParseBody(data, &c); err != nil {
						t.Fatal(err)
					}
					if c.RV == Success {
						p.card = c.Card
					}
				}
			}
			if pending[p.Client] != 0 && len(d.got[p.Client]) < 1 {
				t.Fatal("not busy, and not answered")
			}
			d.got[p.Client], pending[p.Client] = nil, 0
			pending[p.Client] = 1
			d.step(Requested{p.Client, anything(r, *p)})
		}
	}
	for _, p := range programs {
		if alive(p) {
			d.step(Closed{p.Client})
		}
	}
	for len(d.asks) > 0 {
		d.answer(OK, fine)
	}
	if len(d.m.clients)+len(d.m.handles)+len(d.m.jobs)+len(d.m.waiting) != 0 || d.m.lock != 0 || d.held || d.m.state.Sharing != 0 {
		t.Errorf("left: %d clients, %d handles, %d jobs, %d waiting, lock %x, held %v, sharing %d",
			len(d.m.clients), len(d.m.handles), len(d.m.jobs), len(d.m.waiting), d.m.lock, d.held, d.m.state.Sharing)
	}
}

// anything is a request, most often a good one.
func anything(r *rand.Rand, p program) Body {
	share := uint32(1 + r.IntN(3))
	disposition := uint32(r.IntN(5))
	if p.card == 0 || r.IntN(10) == 0 {
		return (&desk{}).connect(p, share)
	}
	switch r.IntN(12) {
	case 0:
		return &Reconnect{Card: p.card, Share: share, Protocols: T0 | T1, Init: disposition}
	case 1:
		return &Disconnect{Card: p.card, Disposition: disposition}
	case 2, 3:
		return &Begin{Card: p.card}
	case 4, 5:
		return &End{Card: p.card, Disposition: disposition}
	case 6:
		return &Status{Card: p.card}
	case 7:
		return &Attrib{Card: p.card, ID: AttribATR, Length: MaxAttrib}
	case 8:
		return &Control{Card: p.card, Code: ControlFeatures}
	case 9:
		return &Release{Context: p.context}
	}
	return apdu(p, 0, 1, 2, 3)
}

// TestProtocolOfReader: what the reader has settled on counts, whatever else
// the ATR offers.
func TestProtocolOfReader(t *testing.T) {
	for _, c := range []struct{ spoken, asked, rv, active uint32 }{
		{0, T0 | T1, Success, T1}, {T0, T0 | T1, Success, T0}, {T1, T0 | T1, Success, T1},
		{T0, T1, ProtoMismatch, 0}, {T1, T0, ProtoMismatch, 0}, {T0, T0, Success, T0}, {8, T0, Success, T0},
	} {
		d := newDesk(t)
		d.step(Inserted{ATR: cardA, Protocol: c.spoken})
		p := d.program(0)
		q := d.connect(p, Shared)
		q.Protocols = c.asked
		q = call(d, p.Client, q)
		d.want("connect", q.RV, c.rv)
		if c.rv == Success {
			d.want("protocol", q.Active, c.active)
		}
	}
}
