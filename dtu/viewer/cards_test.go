package viewer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"hotdesk/dtu/screen"
	"hotdesk/protocol/native"
	"hotdesk/smartcard/reader"
)

// endless begins a command that takes till the card or the connection is gone.
const endless = 0xee

// A plastic is a card at the terminal that notes what is done with it.
type plastic struct {
	removed, again chan struct{}
	did            chan string

	mu     sync.Mutex
	number uint32
}

func newPlastic() *plastic {
	return &plastic{removed: make(chan struct{}), again: make(chan struct{}, 1), did: make(chan string, 100), number: 5}
}

func (p *plastic) ATR() []byte                   { return []byte{0x3b, 0} }
func (p *plastic) Removed() <-chan struct{}      { return p.removed }
func (p *plastic) Protocol() native.CardProtocol { return native.CardT1 }
func (p *plastic) Again() <-chan struct{}        { return p.again }

func (p *plastic) Number() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.number
}

func (p *plastic) Transmit(ctx context.Context, number uint32, command []byte) ([]byte, error) {
	if number != p.Number() {
		return nil, reader.ErrRemoved
	}
	if command[0] == endless {
		p.did <- "began"
		<-ctx.Done()
		p.did <- "ended"
		return nil, ctx.Err()
	}
	if command[0] == 0xff {
		return nil, reader.ErrMute
	}
	return append(bytes.Clone(command), 0x90, 0), nil
}

func (p *plastic) Reset(context.Context, uint32) error { p.did <- "reset"; return nil }
func (p *plastic) Hold(context.Context, uint32) error  { p.did <- "hold"; return nil }
func (p *plastic) Release()                            { p.did <- "release" }

// A service is a session's, on the other side.
type service struct {
	said chan native.CardMessage
	out  chan io.Writer
	over chan error
}

func newService() *service {
	return &service{make(chan native.CardMessage, 100), make(chan io.Writer, 1), make(chan error, 1)}
}

func (s *service) serve(in io.Reader, out io.Writer) {
	s.out <- out
	s.over <- native.ReadCards(in, func(m native.CardMessage) { s.said <- m })
}

func write(t *testing.T, w io.Writer, m native.CardMessage) {
	t.Helper()
	if _, err := w.Write(m.Append(nil)); err != nil {
		t.Fatal(err)
	}
}

// TestCard: what a session asks reaches the card and comes back, and ends with
// the card or the attachment.
func TestCard(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	sh, sv, p := newShown(640, 480), newService(), newPlastic()
	sh.spec.Cards = sv.serve
	conf := e.config(sh.spec, screen.New(640, 480))
	conf.Card = p
	v := dial(t, conf)
	out := wait(t, "card stream", sv.out)
	if m := wait(t, "insertion", sv.said); m.Type != native.CardInserted || m.Card != 5 || native.CardProtocol(m.Seq) != native.CardT1 || !bytes.Equal(m.Data, p.ATR()) {
		t.Fatalf("said %+v", m)
	}
	ask := func(m native.CardMessage) native.CardMessage {
		t.Helper()
		write(t, out, m)
		return wait(t, "answer", sv.said)
	}
	long := bytes.Repeat([]byte{7}, native.MaxCardData-2)
	if m := ask(native.CardMessage{Type: native.CardTransmit, Card: 5, Seq: 1, Data: long}); m.Type != native.CardAnswer || m.Seq != 1 || len(m.Data) != len(long)+2 {
		t.Errorf("answered %d %d, %d bytes", m.Type, m.Seq, len(m.Data))
	}
	fault := func(what string, m native.CardMessage, want native.CardFault) {
		t.Helper()
		if m.Type != native.CardFailed || native.CardFault(m.Data[0]) != want {
			t.Errorf("%s: %+v, want fault %d", what, m, want)
		}
	}
	fault("mute", ask(native.CardMessage{Type: native.CardTransmit, Card: 5, Seq: 2, Data: []byte{0xff}}), native.CardMute)
	fault("another card", ask(native.CardMessage{Type: native.CardTransmit, Card: 4, Seq: 3, Data: []byte{1}}), native.CardGone)
	write(t, out, native.CardMessage{Type: native.CardHold, Card: 5})
	write(t, out, native.CardMessage{Type: 77, Card: 5, Data: []byte("a later version's")})
	if m := ask(native.CardMessage{Type: native.CardReset, Card: 5, Seq: 4}); m.Type != native.CardAnswer || m.Seq != 4 || len(m.Data) != 0 {
		t.Errorf("reset answered %+v", m)
	}
	write(t, out, native.CardMessage{Type: native.CardRelease, Card: 5})
	for _, want := range []string{"hold", "reset", "release"} {
		if got := wait(t, want, p.did); got != want {
			t.Errorf("did %s, want %s", got, want)
		}
	}

	// Others have had it.
	p.mu.Lock()
	p.number = 6
	p.mu.Unlock()
	p.again <- struct{}{}
	if m := wait(t, "insertion", sv.said); m.Type != native.CardInserted || m.Card != 6 {
		t.Errorf("said %+v", m)
	}

	// In the middle of an exchange the terminal closes the connection.
	write(t, out, native.CardMessage{Type: native.CardTransmit, Card: 6, Seq: 5, Data: []byte{endless}})
	if got := wait(t, "exchange", p.did); got != "began" {
		t.Errorf("did %s", got)
	}
	v.Close("card out")
	for _, want := range []string{"ended", "release"} {
		if got := wait(t, want, p.did); got != want {
			t.Errorf("did %s, want %s", got, want)
		}
	}
	if err := wait(t, "end", sv.over); errors.Is(err, native.ErrCard) {
		t.Error(err)
	}
	wait(t, "end of the attachment", sh.detached)
}

// TestCardOut: the card goes while the connection is still there.
func TestCardOut(t *testing.T) {
	e := newEnd(t, nil, loopback(0))
	sh, sv, p := newShown(640, 480), newService(), newPlastic()
	sh.spec.Cards = sv.serve
	conf := e.config(sh.spec, screen.New(640, 480))
	conf.Card = p
	v := dial(t, conf)
	out := wait(t, "card stream", sv.out)
	wait(t, "insertion", sv.said)
	write(t, out, native.CardMessage{Type: native.CardTransmit, Card: 5, Seq: 5, Data: []byte{endless}})
	wait(t, "exchange", p.did)
	close(p.removed)
	seen := map[native.CardType]bool{}
	for range 2 { // the answer and the removal, in either order
		m := wait(t, "message", sv.said)
		seen[m.Type] = true
	}
	if !seen[native.CardRemoved] || !seen[native.CardFailed] {
		t.Errorf("said %v", seen)
	}
	wait(t, "picture", v.Drawn())
	if v.Err() != nil {
		t.Errorf("the picture is lost: %v", v.Err())
	}
}

// TestCardUnwanted: an end without a use for cards refuses the stream, and one
// that says what it must not costs itself the card, not the picture.
func TestCardUnwanted(t *testing.T) {
	for name, c := range map[string]struct {
		wants bool
		says  []byte
	}{
		"not wanted": {},
		"nonsense":   {true, []byte{byte(native.CardTransmit), 0, 0, 0, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, nil, loopback(0))
			sh, sv, p := newShown(640, 480), newService(), newPlastic()
			if c.wants {
				sh.spec.Cards = sv.serve
			}
			conf := e.config(sh.spec, screen.New(640, 480))
			conf.Card = p
			v := dial(t, conf)
			if c.wants {
				if _, err := wait(t, "card stream", sv.out).Write(c.says); err != nil {
					t.Fatal(err)
				}
				if got := wait(t, "release", p.did); got != "release" {
					t.Errorf("did %s", got)
				}
			}
			wait(t, "picture", v.Drawn())
			if v.Err() != nil {
				t.Errorf("the picture is lost: %v", v.Err())
			}
		})
	}
}
