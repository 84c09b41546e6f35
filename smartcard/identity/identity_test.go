package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"hotdesk/smartcard/reader"
)

// card answers commands from a table, in hex; another command is mute.
type card struct {
	atr     string
	answers map[string]string
	err     error
	sent    []string
}

func (c *card) ATR() []byte              { b, _ := hex.DecodeString(c.atr); return b }
func (c *card) Removed() <-chan struct{} { return nil }
func (c *card) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, hex.EncodeToString(cmd))
	if c.err != nil {
		return nil, c.err
	}
	a, ok := c.answers[hex.EncodeToString(cmd)]
	if !ok {
		return nil, reader.ErrMute
	}
	return hex.DecodeString(a)
}

const (
	sel = "00a4040009f0484f544445534b0100"
	get = "00ca010100"
	atr = "3b0400112233"
)

func TestIdentify(t *testing.T) {
	atrOf := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	for _, tc := range []struct {
		name string
		card card
		want Token
		err  error
	}{
		{"simple", card{atr: atr, answers: map[string]string{sel: "9000", get: "0123456789abcdef9000"}}, Token{"simple", "0123456789abcdef", atrOf(atr)}, nil},
		{"another application", card{atr: atr, answers: map[string]string{sel: "6a82"}}, Token{"atr", atr, atrOf(atr)}, nil},
		{"short id", card{atr: atr, answers: map[string]string{sel: "9000", get: "01239000"}}, Token{"atr", atr, atrOf(atr)}, nil},
		{"mute, but it has an ATR", card{atr: atr}, Token{"atr", atr, atrOf(atr)}, nil},
		{"mute from the start", card{}, Token{}, ErrUnreadable},
		{"no answer worth it", card{answers: map[string]string{sel: "90"}}, Token{}, ErrUnreadable},
		{"pulled", card{atr: atr, err: reader.ErrRemoved}, Token{}, reader.ErrRemoved},
	} {
		got, err := Identify(t.Context(), &tc.card, Rules())
		if !errors.Is(err, tc.err) || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestFirstMatchWins(t *testing.T) {
	c := &card{atr: atr, answers: map[string]string{sel: "9000", get: "0123456789abcdef9000"}}
	if _, err := Identify(t.Context(), c, Rules()); err != nil {
		t.Fatal(err)
	}
	if want := []string{sel, get}; !reflect.DeepEqual(c.sent, want) {
		t.Errorf("sent %q, want %q", c.sent, want)
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &card{atr: atr, err: context.Canceled}
	if _, err := Identify(ctx, c, Rules()); !errors.Is(err, ErrUnreadable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
