package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/dtu/trust"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
)

func newPad() *pad { return &pad{card: 1, tag: "p", digits: make([]byte, 0, piv.MaxPIN)} }

func TestPad(t *testing.T) {
	p := newPad()
	types := func(usages ...uint16) (last any) {
		for _, u := range usages {
			last = p.key(u)
		}
		return last
	}
	const a, shift = 0x04, 0xe1
	if types(keyBackspace, a, shift) != nil || types(keyReturn) != nil {
		t.Error("what is no digit counts")
	}
	if types(keyOne, keyZero, keyPadOne, keyPadZero, keyOne+4, keyReturn) != nil || string(p.digits) != "10105" {
		t.Errorf("typed %q; five digits are no PIN", p.digits)
	}
	if types(keyBackspace) != (padChanged{}) || string(p.digits) != "1010" || p.digits[:5][4] != 0 {
		t.Errorf("after a backspace %q", p.digits)
	}
	types(keyOne+1, keyOne+2, keyOne+3, keyOne+4)
	if types(keyOne+5) != nil || string(p.digits) != "10102345" {
		t.Errorf("typed %q, eight digits are all", p.digits)
	}
	v, ok := types(keyEnter).(pinTyped)
	if !ok || string(v.digits) != "10102345" || types(keyOne) != nil || types(keyReturn) != nil {
		t.Errorf("Enter gives %v", v)
	}

	p = newPad()
	types(keyOne, keyOne+1)
	held := p.digits
	if v, ok := types(keyEscape).(pinTyped); !ok || v.digits != nil || held[0] != 0 || held[1] != 0 {
		t.Errorf("Escape gives %v and leaves %v", v, held)
	}
}

// The PIN goes to the PIV application, whatever was selected, and is gone
// afterwards.
func TestVerifyPIN(t *testing.T) {
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files, err := i.Card(issuer.Spec{Name: "ada", PIN: "123456"})
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{"plain.card": {Data: []byte("atr = 3b00\n")}}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	r := emulated.New(fsys)
	defer r.Close()
	card, err := r.Insert("ada")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		pin  string
		want uint16
	}{{"123456", apdu.OK}, {"654321", 0x63c2}} {
		digits := []byte(tc.pin)
		if got, err := verifyPIN(t.Context(), card, digits); got != tc.want || err != nil {
			t.Errorf("%s: %04x, %v", tc.pin, got, err)
		}
		if strings.Trim(string(digits), "\x00") != "" {
			t.Errorf("%s stays as %q", tc.pin, digits)
		}
	}
	for range 2 { // asking is no try
		if got, err := pinTries(t.Context(), card); got != 0x63c2 || err != nil {
			t.Errorf("tries %04x, %v", got, err)
		}
	}
	plain, err := r.Insert("plain")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyPIN(t.Context(), plain, []byte("123456")); err == nil {
		t.Error("a card without PIV was given the PIN")
	}
	if _, err := verifyPIN(t.Context(), card, []byte("123456")); err != reader.ErrRemoved {
		t.Errorf("card out: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	for want, err := range map[string]error{
		"naming rule \"piv\": the card stopped answering": fmt.Errorf("%w (naming rule \"piv\": identity: the card stopped answering)", identity.ErrUnreadable),
		"naming rule \"simple\": card does not answer":    fmt.Errorf("%w (naming rule \"simple\": %w)", identity.ErrUnreadable, reader.ErrMute),
		"naming rule \"simple\": card does not answer (the card was reset (too late))": fmt.Errorf("%w (naming rule \"simple\": %w (ccid: the card was reset (too late)))",
			identity.ErrUnreadable, reader.ErrMute),
	} {
		if got := unreadable(err); !strings.HasSuffix(got, " tell the administrator: "+want+".") {
			t.Errorf("%q", got)
		}
	}
}

// What was typed is gone also where no card gets it: it is out, or another dialogue
// keeps it busy.
func TestPINGoesToNoCard(t *testing.T) {
	cards := emulated.New(fstest.MapFS{"a.card": {Data: []byte("atr = 3b08484f544445534b31\ntype = simple\nid = 0123456789abcdef\nsecret = 00112233445566778899aabbccddeeff\n")}})
	defer cards.Close()
	c, err := cards.Insert("a")
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]cardIn{"out": nil, "busy": {{n: 1, card: c, lock: newCardLock()}}} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			cfg.Log = slog.New(slog.DiscardHandler)
			s := newShell(cfg, new(trust.Store), readerSet{})
			var stop context.CancelFunc
			s.ctx, stop = context.WithCancel(t.Context())
			s.in = in
			if in != nil {
				if err := s.lockOf(1).take(s.ctx); err != nil {
					t.Fatal(err)
				}
			}
			p := newPad()
			for range piv.MinPIN {
				p.key(keyOne)
			}
			v := p.key(keyReturn).(pinTyped)
			s.pad.Store(p)
			stop()
			close(s.over)
			s.verify(v)
			s.wg.Wait()
			if bytes.Contains(v.digits, []byte("1")) {
				t.Errorf("it is still there: %q", v.digits)
			}
		})
	}
}
