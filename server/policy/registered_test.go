package policy

import (
	"testing"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
)

// records is a View of records in the order of adminapi.Sort.
type records []adminapi.Record

func (r records) Token(t alp.Token) (adminapi.Token, bool) {
	x, ok := adminapi.Find(r, adminapi.KindToken, string(t))
	return x.Token(), ok
}

func (r records) User(n string) (adminapi.User, bool) {
	x, ok := adminapi.Find(r, adminapi.KindUser, n)
	return x.User(), ok
}

func (r records) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	x, ok := adminapi.Find(r, adminapi.KindTerminal, string(id))
	return x.Terminal(), ok
}

func (r records) Policies() (all []adminapi.Policy) {
	for _, x := range r {
		if x.Kind == adminapi.KindPolicy {
			all = append(all, x.Policy())
		}
	}
	return all
}

func TestWith(t *testing.T) {
	text := `hotdesk-registry 1
user ann groups=staff
user eve disabled=yes
token card.1 user=ann
token card.2 alias=card.1
token card.3 disabled=yes
token card.4 user=eve
token card.5 alias=card.3
token pseudo.080020c0ffee disabled=yes
policy a token=open.* cards=any
policy b group=staff bare=session
policy c cards=registered
policy d terminal=0000* cards=none bare=session
`
	all, err := adminapi.ParseText([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const unit = alp.TerminalID("080020c0ff00")
	for _, c := range []struct {
		token    alp.Token
		terminal alp.TerminalID
		want     Outcome
		module   string
		as       alp.Token
	}{
		{"card.1", unit, Session, "Card", "card.1"},
		{"card.2", unit, Session, "Card", "card.1"},
		{"card.3", unit, Denied, "Disabled", "card.3"},
		{"card.4", unit, Denied, "Disabled", "card.4"},
		{"card.5", unit, Denied, "Disabled", "card.3"},
		{"card.6", unit, Denied, "Registered:c", "card.6"},
		{"open.6", unit, Session, "Card", "open.6"},
		{"pseudo.080020c0ff00", unit, InsertCard, "InsertCard", "pseudo.080020c0ff00"},
		{"pseudo.080020c0ffee", "080020c0ffee", Denied, "Disabled", "pseudo.080020c0ffee"},
		{"pseudo.000000000001", "000000000001", Session, "Pseudo", "pseudo.000000000001"},
		{"user.ann", unit, Denied, "Token", "user.ann"},
	} {
		conf, r := Config{}.With(records(all), c.token, c.terminal)
		if d := conf.Decide(r); d.Outcome != c.want || d.Module != c.module || r.Token != c.as {
			t.Errorf("%s at %s: %v by %s as %s, want %v by %s as %s", c.token, c.terminal, d.Outcome, d.Module, r.Token, c.want, c.module, c.as)
		}
	}
	conf, r := Config{Bare: BareSession}.With(nil, "card.1", unit)
	if conf.Bare != BareSession || r.Registered || conf.Decide(r).Outcome != Session {
		t.Error("without a registry")
	}
}
