package terminal

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"

	"pgregory.net/rapid"
)

// watcher checks the invariants of the package comment on whatever a machine
// wants done.
type watcher struct {
	fail    func(format string, a ...any)
	dials   map[int]bool   // connections being made
	control int            // the one that is open, 0: none
	media   int            // open, 0: none
	owner   map[int]int    // media -> the presentation it was opened for
	token   map[int]string // presentation -> token
	newest  int            // presentation
	gone    map[int]bool   // presentations of tokens that were given up
	current string         // token presented last and not removed
	in      map[int]bool   // cards
	pin     int            // card whose PIN is being asked for, 0: none
}

func newWatcher(fail func(string, ...any)) *watcher {
	return &watcher{fail: fail, dials: map[int]bool{}, owner: map[int]int{}, token: map[int]string{}, gone: map[int]bool{}, in: map[int]bool{}}
}

// see takes in one step's actions.
func (c *watcher) see(e Event, out []Action) {
	switch e := e.(type) {
	case ControlUp:
		if c.dials[e.Control] {
			c.control = e.Control
			delete(c.dials, e.Control)
			defer func() {
				if len(c.dials) > 0 {
					c.fail("connections %v are still being made beside %d", c.dials, c.control)
				}
			}()
		}
	case ControlDown:
		delete(c.dials, e.Control)
		if e.Control == c.control {
			c.control = 0
		}
	case MediaDown:
		if e.Media == c.media {
			c.media = 0
		}
	}
	switch e := e.(type) {
	case CardIn:
		c.in[e.Card] = true
	case CardOut:
		delete(c.in, e.Card)
	}
	blanked := false
	for i, a := range out {
		switch a := a.(type) {
		case Blank:
			blanked = true
			if c.media != 0 && !closes(out[i:], c.media) {
				c.fail("blank over media %d", c.media)
			}
		case Connect:
			if c.control != 0 {
				c.fail("connection %d beside %d", a.Control, c.control)
			}
			if c.dials[a.Control] = true; len(c.dials) > MaxDials {
				c.fail("%d connections are being made", len(c.dials))
			}
		case CloseControl:
			delete(c.dials, a.Control)
			if a.Control == c.control {
				c.control = 0
			}
		case OpenMedia:
			if c.media != 0 {
				c.fail("media %d beside %d", a.Media, c.media)
			}
			if c.gone[c.newest] || c.token[c.newest] != c.current {
				c.fail("media %d for token %s, given up", a.Media, c.token[c.newest])
			}
			if l, ok := e.(Line); !ok || l.Message.Get("tokenSeq") != strconv.Itoa(c.newest) {
				c.fail("media %d is not of the answer to presentation %d: %v", a.Media, c.newest, e)
			}
			if c.pin != 0 {
				c.fail("media %d while the PIN of card %d is asked for", a.Media, c.pin)
			}
			c.media, c.owner[a.Media] = a.Media, c.newest
		case CloseMedia:
			if a.Media == c.media {
				c.media = 0
			}
		case Exchange:
			c.asked(e, a.Card)
		case AskPIN:
			c.asked(e, a.Card)
			if c.pin = a.Card; c.media != 0 {
				c.fail("media %d is open as a PIN is asked for", c.media)
			}
		case AskTries:
			c.asked(e, a.Card)
		case EndProof:
			c.pin = 0
		case Send:
			if a.Control != c.control {
				c.fail("%v: connection %d is not open", a, a.Control)
			}
			c.sent(a.Message, blanked)
		}
	}
	if c.media != 0 && c.gone[c.owner[c.media]] {
		c.fail("media %d of token %s is kept after its removal", c.media, c.token[c.owner[c.media]])
	}
}

func (c *watcher) sent(m alp.Message, blanked bool) {
	if m.Command != alp.CmdInfoReq {
		return
	}
	r, err := alp.ParseInfoReq(m)
	if err != nil {
		c.fail("%v: %v", m, err)
	}
	if r.Remove {
		if !blanked || c.media != 0 {
			c.fail("removal told before the screen was blank and media closed")
		}
		c.giveUp()
		return
	}
	if r.TokenSeq <= c.newest {
		c.fail("tokenSeq %d after %d", r.TokenSeq, c.newest)
	}
	c.newest, c.current = r.TokenSeq, string(r.Token())
	c.token[r.TokenSeq] = c.current
}

// giveUp: no media of any presentation so far may live on.
func (c *watcher) giveUp() {
	for seq := range c.token {
		c.gone[seq] = true
	}
	c.current = ""
}

// asked: a card is asked something, only because a server wants that for the
// newest presentation, which must be the card's own.
func (c *watcher) asked(e Event, card int) {
	l, ok := e.(Line)
	if !ok || l.Message.Command != alp.CmdControlSmartCard || l.Message.Get("tokenSeq") != strconv.Itoa(c.newest) {
		c.fail("card %d is asked because of %v", card, e)
	}
	if !c.in[card] || c.gone[c.newest] || c.current != fmt.Sprintf("simple.%016x", card) {
		c.fail("card %d is asked, as %q is presented", card, c.current)
	}
}

func closes(out []Action, media int) bool {
	for _, a := range out {
		if a, ok := a.(CloseMedia); ok && a.Media == media {
			return true
		}
	}
	return false
}

// TestInvariants: whatever servers, cards and time do, in whatever order, the
// invariants hold.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var trace strings.Builder
		c := newWatcher(func(format string, a ...any) {
			t.Fatalf(format+"\n%s", append(a, trace.String())...)
		})
		step := func(e Event) {
			out := w.step(e)
			fmt.Fprintf(&trace, "%T %v\n%s", e, e, text(out))
			c.see(e, out)
		}
		last := 0 // card
		pick := func(label string, newest int) int { return max(1, newest-rapid.IntRange(0, 2).Draw(t, label)) }
		seq := func() int { return max(0, w.m.seq-rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "age")) }
		step(PowerOn{})
		if rapid.Bool().Draw(t, "begun") { // what comes later is reached more often
			step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
			step(ControlUp{w.control})
			last = 1
			step(CardIn{last})
			step(CardRead{Card: last, Type: "simple", ID: fmt.Sprintf("%016x", last)})
		}
		t.Repeat(map[string]func(*rapid.T){
			"card in": func(*rapid.T) {
				last++
				step(CardIn{last})
			},
			"card named": func(t *rapid.T) {
				n := pick("card", last)
				if rapid.IntRange(0, 4).Draw(t, "quality") == 0 {
					step(CardUnreadable{Card: n, Reason: "dirt"})
					return
				}
				step(CardRead{Card: n, Type: "simple", ID: fmt.Sprintf("%016x", n)})
			},
			"card out": func(t *rapid.T) {
				n := pick("card", last)
				first := len(w.m.cards) > 0 && w.m.cards[0].n == n && w.m.cards[0].read
				if first {
					// From here on, also where there was nobody to be told.
					out := w.m.Step(w.now, CardOut{n})
					w.note(out)
					fmt.Fprintf(&trace, "CardOut %d\n%s", n, text(out))
					if w.m.powered && (len(out) == 0 || !isBlank(out[0])) && w.m.osd == (OSD{}) {
						c.fail("the removal's first action is not a blank screen: %v", out)
					}
					before := c.media
					if before != 0 && c.token[c.owner[before]] == fmt.Sprintf("simple.%016x", n) && !closes(out, before) {
						c.fail("media %d outlives its card", before)
					}
					c.see(CardOut{n}, out)
				} else {
					step(CardOut{n})
				}
			},
			"link": func(t *rapid.T) { step(Link{rapid.Bool().Draw(t, "up")}) },
			"notice": func(t *rapid.T) {
				step(Line{pick("control", w.control), alp.NoticeInf{TokenSeq: seq(), Seconds: rapid.IntRange(0, 3).Draw(t, "seconds"), Text: rapid.SampledFrom([]string{"", "read this"}).Draw(t, "text")}.Message()})
			},
			"found": func(t *rapid.T) {
				var e Found
				for i := range rapid.SampledFrom([]int{1, 2, 5, MaxServers + 1}).Draw(t, "servers") {
					e.Servers = append(e.Servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}), 7443))
				}
				step(e)
			},
			"question": func(t *rapid.T) {
				q := alp.ControlSmartCard{TokenSeq: seq(), Tag: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "tag"), PIN: rapid.Bool().Draw(t, "pin")}
				if !q.PIN {
					cmd := rapid.SampledFrom(questions).Draw(t, "command")
					q.CLA, q.INS, q.P1, q.P2, q.Data, q.Le = cmd.CLA, cmd.INS, cmd.P1, cmd.P2, cmd.Data, min(cmd.Le, alp.MaxCardReply)
				}
				step(Line{pick("control", w.control), q.Message()})
			},
			"card answered": func(t *rapid.T) {
				step(CardAnswered{Card: pick("card", last), Tag: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "tag"), Answer: rapid.SampledFrom([][]byte{{0x90, 0}, {1}, {0x6a, 0x82}}).Draw(t, "answer"), Reason: rapid.SampledFrom([]string{"", "", "mute"}).Draw(t, "reason")})
			},
			"PIN given": func(t *rapid.T) {
				c.pin = 0 // the pad is closed
				step(PINGiven{Card: pick("card", last), Tag: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "tag"), Status: rapid.SampledFrom([]uint16{0x9000, 0x63c2, 0x63c1, 0x6983}).Draw(t, "status"), Reason: rapid.SampledFrom([]string{"", "", "gave up"}).Draw(t, "reason")})
			},
			"PIN tries": func(t *rapid.T) {
				step(PINTries{Card: pick("card", last), Tag: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "tag"), Status: rapid.SampledFrom([]uint16{0x9000, 0x63c3, 0x63c1, 0x6983, 0x6d00}).Draw(t, "status")})
			},
			"bound":      func(*rapid.T) { step(ControlBound{Control: w.control}) },
			"searched":   func(*rapid.T) { step(Searched{}) },
			"control up": func(t *rapid.T) { step(ControlUp{pick("control", w.control)}) },
			"control down": func(t *rapid.T) {
				step(ControlDown{Control: pick("control", w.control), Reason: "x", Untrusted: rapid.Bool().Draw(t, "untrusted")})
			},
			"allow": func(t *rapid.T) {
				inf := alp.ConnInf{TokenSeq: seq(), Allowed: true, Token: "a.b", MediaPort: 40000, Gen: uint64(rapid.IntRange(0, 3).Draw(t, "gen"))}
				if rapid.IntRange(0, 3).Draw(t, "ticket") != 0 {
					inf.Ticket = make([]byte, alp.TicketSize)
				}
				if rapid.Bool().Draw(t, "session") {
					inf.Session = "00000000000000aa"
				}
				step(Line{pick("control", w.control), inf.Message()})
			},
			"deny": func(*rapid.T) {
				step(Line{w.control, alp.ConnInf{TokenSeq: seq(), Token: "a.b"}.Message()})
			},
			"disconnect": func(*rapid.T) { step(Line{w.control, alp.DiscInf{TokenSeq: seq()}.Message()}) },
			"redirect": func(*rapid.T) {
				step(Line{w.control, alp.RedirectInf{TokenSeq: seq(), Addr: netip.MustParseAddr("10.0.0.3"), Port: 7443, Props: "p"}.Message()})
			},
			"nonsense": func(*rapid.T) { step(Line{w.control, alp.Message{Command: alp.CmdConnInf}}) },
			"drawn":    func(t *rapid.T) { step(MediaDrawn{pick("media", w.media)}) },
			"media down": func(t *rapid.T) {
				step(MediaDown{Media: pick("media", w.media), Peer: rapid.Bool().Draw(t, "peer"), Code: native.CloseCode(rapid.IntRange(0, 5).Draw(t, "code"))})
			},
			"media quiet": func(t *rapid.T) { step(MediaQuiet{pick("media", w.media)}) },
			"resize":      func(*rapid.T) { step(Resized{800, 600}) },
			"power":       func(*rapid.T) { c.giveUp(); step(PowerCycle{}) },
			"time": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "ticks") {
					next := w.m.Next()
					if next.IsZero() {
						return
					}
					w.now = later(w.now, next)
					out := w.note(w.m.Tick(w.now))
					fmt.Fprintf(&trace, "at %v\n%s", w.now.Sub(w.start), text(out))
					c.see(nil, out)
				}
			},
			"": func(t *rapid.T) {
				s := w.m.Status()
				if s.State == Picture && s.OSD != (OSD{}) || s.OSD == (OSD{}) && s.State != Picture && w.m.med.id == 0 && w.m.noticeAt.IsZero() && !w.m.noticed && s.State != Reading {
					c.fail("state %s with code %d", s.State, s.OSD.Code)
				}
				if m := w.m; m.link == linkUp && m.presented && m.verdict == verdictNone && m.med.id == 0 && m.replyAt.IsZero() && m.presentAt.IsZero() {
					c.fail("state %s waits for ever", s.State)
				}
			},
		})
	})
}

// questions are what servers ask of cards: some for a proof, some not.
var questions = []apdu.Command{
	piv.Select(), piv.Get(piv.CHUID), piv.Get(0x5fc109), apdu.Select(apdu.SimpleAID), apdu.Select([]byte{1, 2, 3, 4, 5}),
	{INS: apdu.InsGetResponse, Le: 256}, {INS: 0x20, P2: 0x80, Data: []byte("123456\xff\xff")}, {INS: 0xa4, P1: 4, Data: piv.AID, CLA: 0x10},
}

func isBlank(a Action) bool {
	_, ok := a.(Blank)
	return ok
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// TestNeverAsleep: a terminal without a picture always has something coming: a
// timer, or an answer that the shell owes.
func TestNeverAsleep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.step(PowerOn{})
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			// The shell as it is: every request is answered, well or badly.
			switch w.m.link {
			case linkLocate:
				w.step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
			case linkDial:
				if rapid.Bool().Draw(t, "reached") {
					w.step(ControlUp{w.control})
				} else {
					w.step(ControlDown{Control: w.control})
				}
			default:
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0:
					w.step(ControlDown{Control: w.control})
				case 1:
					w.line(alp.ConnInf{TokenSeq: w.m.seq, Allowed: true, Token: "a.b", MediaPort: 1, Ticket: make([]byte, alp.TicketSize), Gen: 1}.Message())
				case 2:
					w.step(MediaDown{Media: w.media, Code: 4})
				case 3:
					if next := w.m.Next(); !next.IsZero() {
						w.now = later(w.now, next)
						w.note(w.m.Tick(w.now))
					}
				}
			}
			if w.m.Next().IsZero() && w.m.link != linkLocate && w.m.link != linkDial {
				t.Fatalf("asleep in state %s, link %d", w.m.state(), w.m.link)
			}
		}
	})
}

// TestPace: a server that takes a terminal and drops it again, as fast as it
// can, is not asked without end.
func TestPace(t *testing.T) {
	w := newWorld()
	w.step(PowerOn{})
	w.step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
	connects := 0
	for end := w.now.Add(time.Minute); w.now.Before(end); {
		switch w.m.link {
		case linkDial:
			connects++
			w.step(ControlUp{w.control})
			w.step(ControlDown{Control: w.control})
		case linkLocate:
			w.now = w.now.Add(500 * time.Millisecond) // as bootstrap does
			w.step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
		default:
			w.now = later(w.now, w.m.Next())
			w.note(w.m.Tick(w.now))
		}
	}
	if connects < 10 || connects > 60 {
		t.Errorf("%d connections in a minute", connects)
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 2 * time.Second, 2 * time.Second} {
		if got := backoff(n); got != want {
			t.Errorf("after %d: %v, want %v", n, got, want)
		}
	}
	if backoff(1000) != maxRetry {
		t.Error("overflow")
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	inf := alp.ConnInf{TokenSeq: 1, Allowed: true, Token: "a.b", MediaPort: 1, Ticket: []byte(strings.Repeat("T", alp.TicketSize))}
	red := alp.InfoReq{Identity: identity(), Type: "a", ID: "b", Width: 640, Height: 480, Redirect: true, Props: "proof7"}
	shown := fmt.Sprint(Line{1, inf.Message()}, Send{1, red.Message()}, OpenMedia{Hello: native.Hello{Ticket: [32]byte(inf.Ticket)}})
	for _, s := range []string{"proof7", "5454", "84 84"} {
		if strings.Contains(shown, s) {
			t.Errorf("%q is in %s", s, shown)
		}
	}
	if got := clean("a\x1b[2Jb\nc\xffü"); got != "a[2Jbcü" {
		t.Errorf("%q", got)
	}
}
