package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
)

// answerWithin is how long a card may take for one command of a proof.
const answerWithin = 10 * time.Second

// A pad takes the PIN that a person types. The digits stay in it, and go to the
// card alone: not into the machine, whose events are logged, nor to a server.
type pad struct {
	card int
	tag  string

	mu     sync.Mutex
	digits []byte
	done   bool
}

// padChanged tells the loop that there are more or fewer digits to be shown.
type padChanged struct{}

// pinTyped is what a pad took; no digits: the person gave up.
type pinTyped struct {
	pad    *pad
	digits []byte
}

// Keys of a pad, as HID usages (Usage Tables 1.12, section 10). The digits are
// those of the places where they stand, whatever the keyboard's layout has with
// and without shift.
const (
	keyOne       = 0x1e // to 0x27: 0
	keyZero      = 0x27
	keyBackspace = 0x2a
	keyPadOne    = 0x59 // to 0x62: 0
	keyPadZero   = 0x62
)

// key takes one key. It returns what to tell the loop, or nil.
func (p *pad) key(usage uint16) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	digit := byte(0)
	switch {
	case p.done:
		return nil
	case usage >= keyOne && usage <= keyZero:
		digit = '0' + byte(usage-keyOne+1)%10
	case usage >= keyPadOne && usage <= keyPadZero:
		digit = '0' + byte(usage-keyPadOne+1)%10
	case usage == keyBackspace && len(p.digits) > 0:
		p.digits[len(p.digits)-1] = 0
		p.digits = p.digits[:len(p.digits)-1]
		return padChanged{}
	case usage == keyEscape:
		p.done = true
		clear(p.digits)
		return pinTyped{pad: p}
	case (usage == keyReturn || usage == keyEnter) && len(p.digits) >= piv.MinPIN:
		p.done = true
		return pinTyped{p, p.digits}
	}
	if digit == 0 || len(p.digits) == piv.MaxPIN {
		return nil
	}
	p.digits = append(p.digits, digit)
	return padChanged{}
}

// typed is how many digits the screen shows, of how many; 0, 0 without a pad.
func (s *shell) typed() (n, of int) {
	p := s.pad.Load()
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.digits), piv.MaxPIN
}

// askPIN opens a pad.
func (s *shell) askPIN(a terminal.AskPIN) {
	s.pad.Store(&pad{card: a.Card, tag: a.Tag, digits: make([]byte, 0, piv.MaxPIN)})
	s.redraw()
	s.log.Info("PIN asked for")
}

// askTries asks the card how often its PIN may still be wrong, while the person
// types already. A card that does not tell lets it be.
func (s *shell) askTries(a terminal.AskTries) {
	e := terminal.PINTries{Card: a.Card, Tag: a.Tag}
	s.dialogue(a.Card, answerWithin, func(ctx context.Context, card reader.Card) (err error) {
		if p := s.pad.Load(); p == nil || p.tag != a.Tag {
			return errors.New("the PIN was typed before") // a SELECT might undo it
		}
		e.Status, err = pinTries(ctx, card)
		return err
	}, func(err error) {
		if err != nil {
			s.log.Debug("the card does not say how many tries its PIN has", "reason", err.Error())
			return
		}
		s.fromHere(e)
	})
}

// closePad ends typing.
func (s *shell) closePad() {
	if p := s.pad.Swap(nil); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.done {
			p.done = true
			clear(p.digits[:cap(p.digits)])
		}
	}
}

// cardNumber is the card of that number, or nil.
func (s *shell) cardNumber(n int) reader.Card {
	if i := slices.IndexFunc(s.in, func(c cardIn) bool { return c.n == n }); i >= 0 {
		return s.in[i].card
	}
	return nil
}

// dialogue has f speak with the card of that number while nobody else does, and
// then told how that ended, beside everything else. A card that is out has none: its
// removal is on the way.
func (s *shell) dialogue(n int, within time.Duration, f func(context.Context, reader.Card) error, then func(error)) {
	card := s.cardNumber(n)
	if card == nil {
		return
	}
	lock := s.lockOf(n)
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, within)
		defer cancel()
		then(lock.alone(ctx, func() error { return f(ctx, card) }))
	})
}

// alone does f while nobody else has a dialogue with the card.
func (l *cardLock) alone(ctx context.Context, f func() error) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	return f()
}

// exchange has the card answer a command of a proof.
func (s *shell) exchange(a terminal.Exchange) {
	e := terminal.CardAnswered{Card: a.Card, Tag: a.Tag}
	s.dialogue(a.Card, answerWithin, func(ctx context.Context, card reader.Card) (err error) {
		e.Answer, err = card.Transmit(ctx, a.Command)
		return err
	}, func(err error) {
		if err != nil {
			e.Reason = err.Error()
		}
		s.fromHere(e)
	})
}

// verify gives the card what was typed.
func (s *shell) verify(v pinTyped) {
	if s.pad.Load() != v.pad {
		clear(v.digits)
		return // the card is out
	}
	s.pad.Store(nil)
	s.redraw()
	e := terminal.PINGiven{Card: v.pad.card, Tag: v.pad.tag}
	if v.digits == nil || s.cardNumber(v.pad.card) == nil {
		clear(v.digits)
		e.Reason = "the person gave up"
		s.step(e)
		return
	}
	s.pinned = v.pad.card
	s.dialogue(v.pad.card, answerWithin, func(ctx context.Context, card reader.Card) (err error) {
		e.Status, err = verifyPIN(ctx, card, v.digits)
		return err
	}, func(err error) {
		clear(v.digits) // of a card that had no time for it too
		if err != nil {
			e.Reason = err.Error()
		}
		s.log.Info("PIN given to the card", "status", fmt.Sprintf("%04x", e.Status), "reason", e.Reason)
		s.fromHere(e)
	})
}

// verifyPIN selects PIV, so that no other application gets the PIN, and has
// the card verify it. It clears digits.
func verifyPIN(ctx context.Context, card reader.Card, digits []byte) (uint16, error) {
	defer clear(digits)
	cmd, err := piv.Verify(string(digits))
	if err != nil {
		return 0, err
	}
	return ofPIV(ctx, card, cmd)
}

// pinTries asks how many tries are left, which is none of them.
func pinTries(ctx context.Context, card reader.Card) (uint16, error) {
	return ofPIV(ctx, card, piv.Tries())
}

// ofPIV selects PIV and gives it a command.
func ofPIV(ctx context.Context, card reader.Card, cmd apdu.Command) (uint16, error) {
	r, err := exchangeOne(ctx, card, piv.Select())
	if err != nil {
		return 0, err
	}
	if r.Status != apdu.OK && r.Status&0xff00 != apdu.MoreData {
		return 0, errors.New("the card has no PIN of PIV")
	}
	r, err = exchangeOne(ctx, card, cmd)
	return r.Status, err
}

func exchangeOne(ctx context.Context, card reader.Card, c apdu.Command) (apdu.Response, error) {
	b, err := card.Transmit(ctx, c.Append(nil))
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.ParseResponse(b)
}

// endProof closes the pad. Where a PIN was verified, the card is put back to
// its start, so that a session's programs do not find it open.
func (s *shell) endProof(a terminal.EndProof) {
	s.closePad()
	if s.pinned != a.Card || s.cardNumber(a.Card) == nil {
		return
	}
	s.pinned = 0
	s.dialogue(a.Card, answerWithin, func(ctx context.Context, card reader.Card) error {
		err := reader.Reset(ctx, card)
		if errors.Is(err, reader.ErrNoReset) {
			_, err = exchangeOne(ctx, card, piv.Forget())
		}
		return err
	}, func(err error) {
		if err != nil && !errors.Is(err, reader.ErrRemoved) {
			s.log.Warn("the card keeps its PIN verified", "reason", err.Error())
		}
	})
}

// setRules changes how cards are named from now on. The machine has looked at
// the list.
func (s *shell) setRules(a terminal.SetRules) {
	rules, err := identity.ParseRules(a.List)
	if err != nil {
		s.log.Error("naming rules of the server cannot be used", "reason", err.Error())
		return
	}
	s.rules, s.ruled = rules, a.Version
	s.log.Info("cards are named by the server's rules", "version", a.Version, "rules", a.List)
}

// nameCard names a card by the rules of now.
func (s *shell) nameCard(n int) {
	rules, version := s.rules, s.ruled
	var t identity.Token
	s.dialogue(n, readWithin, func(ctx context.Context, card reader.Card) (err error) {
		t, err = identity.Identify(ctx, card, rules)
		return err
	}, func(err error) { s.fromHere(named{n, version, t, err}) })
}

// packages takes out what only programmers can use.
var packages = strings.NewReplacer("identity: ", "", "reader: ", "", "driver: ", "", "ccid: ", "", "tpdu: ", "", "apdu: ", "", "pcsc: ", "", "piv: ", "")

// unreadable says to a person why a card has no name.
func unreadable(err error) string {
	text := strings.TrimPrefix(err.Error(), identity.ErrUnreadable.Error())
	text = packages.Replace(strings.TrimSuffix(strings.TrimPrefix(text, " ("), ")"))
	return "Pull it out and push it in again, chip first and all the way. If that does not help, tell the administrator: " + text + "."
}

// bound is the connection's own name within TLS.
func bound(id int, conn *tls.Conn) (terminal.ControlBound, error) {
	st := conn.ConnectionState()
	b, err := st.ExportKeyingMaterial(identity.ChannelLabel, nil, identity.ChannelSize)
	if err != nil {
		return terminal.ControlBound{}, err
	}
	return terminal.ControlBound{Control: id, Channel: [identity.ChannelSize]byte(b)}, nil
}
