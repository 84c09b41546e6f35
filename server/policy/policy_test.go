package policy

import (
	"strings"
	"testing"

	"hotdesk/protocol/alp"
)

func TestDecide(t *testing.T) {
	const unit = alp.TerminalID("080020c0ffee")
	for _, c := range []struct {
		bare     Bare
		token    alp.Token
		terminal alp.TerminalID
		want     Outcome
		module   string
	}{
		{BareCard, "pseudo.080020c0ffee", unit, InsertCard, "InsertCard"},
		{BareSession, "pseudo.080020c0ffee", unit, Session, "Pseudo"},
		{"", "pseudo.080020c0ffee", unit, InsertCard, "InsertCard"},
		{BareSession, "pseudo.080020c0ffef", unit, Denied, "Pseudo"},
		{BareCard, "pseudo.080020c0ffef", unit, Denied, "Pseudo"},
		{BareSession, "pseudo.000000000000", "000000000000", Session, "Pseudo"},
		{BareCard, "mondex.9998007668077709", unit, Session, "Card"},
		{BareCard, "T0unknown.0", unit, Denied, "Token"},
		{BareCard, "card.0000000000000000", unit, Denied, "Token"},
		{BareCard, "user.root", unit, Denied, "Token"},
		{BareCard, "auth.x", unit, Denied, "Token"},
		{BareCard, "escape.x", unit, Denied, "Token"},
		{BareCard, "", unit, Denied, "Token"},
		{BareCard, "card.a b", unit, Denied, "Token"},
		{BareCard, "card.1", "x", Denied, "Token"},
		{BareCard, alp.Token("card." + strings.Repeat("1", alp.MaxToken)), unit, Denied, "Token"},
	} {
		d := Config{Bare: c.bare}.Decide(Request{Token: c.token, Terminal: c.terminal})
		if d.Outcome != c.want || d.Module != c.module {
			t.Errorf("%s at %s, bare %q: %v by %s, want %v by %s", c.token, c.terminal, c.bare, d.Outcome, d.Module, c.want, c.module)
		}
		if denied := d.Outcome == Denied; denied != (d.Reason != "") || denied != (d.OSD != 0) {
			t.Errorf("%s: %+v", c.token, d)
		}
	}
}

func TestParseBare(t *testing.T) {
	for _, s := range []string{"card", "session"} {
		if b, err := ParseBare(s); err != nil || string(b) != s {
			t.Errorf("%s: %v, %v", s, b, err)
		}
	}
	if _, err := ParseBare("desktop"); err == nil {
		t.Error("desktop")
	}
}
