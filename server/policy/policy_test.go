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

func (r records) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	x, ok := adminapi.Find(r, adminapi.KindTerminal, string(id))
	return x.Terminal(), ok
}

func (r records) User(n string) (adminapi.User, bool) {
	x, ok := adminapi.Find(r, adminapi.KindUser, n)
	return x.User(), ok
}

func (r records) Kiosk(n string) (adminapi.Kiosk, bool) {
	x, ok := adminapi.Find(r, adminapi.KindKiosk, n)
	return x.Kiosk(), ok
}

func (r records) Policies() (all []adminapi.Policy) {
	for _, x := range r {
		if x.Kind == adminapi.KindPolicy {
			all = append(all, x.Policy())
		}
	}
	return all // those of the tests have names in the order of their numbers
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

// Whatever the registry says, a decision is whole: a denial has its reason, and
// no rule makes a reserved token one that gets in.
func FuzzDecide(f *testing.F) {
	f.Add("card.1", "080020c0ffee", "ann", "registered", "login", "end:5m", "mon-fri/08:00-18:00")
	f.Add("pseudo.080020c0ffee", "080020c0ffee", "", "self", "pin,login", "lock", "")
	f.Add("user.root", "080020c0ffee", "root", "any", "none", "", "sun/00:00-24:00")
	f.Fuzz(func(t *testing.T, token, terminal, user, cards, need, removal, hours string) {
		says := map[string]string{}
		for k, v := range map[string]string{"cards": cards, "first": need, "reattach": need, "removal": removal, "hours": hours} {
			if v != "" {
				says[k] = v
			}
		}
		v := rules{{Name: "r", Says: says}}
		d := Config{}.Decide(v, Request{Token: alp.Token(token), Terminal: alp.TerminalID(terminal), User: user})
		if no := d.Outcome == Denied; no != (d.Reason != "") || no != (d.OSD != 0) || d.Module == "" {
			t.Errorf("%+v", d)
		}
		if len(token) > 5 && token[:5] == "user." && d.Outcome != Denied {
			t.Errorf("%s gets %v", token, d.Outcome)
		}
		if cards == "registered" && d.Outcome == Session && !alp.Token(token).Pseudo() {
			t.Errorf("%s is not registered, and gets in", token)
		}
	})
}

// rules is a View of rules that nothing has checked.
type rules []adminapi.Policy

func (rules) Token(alp.Token) (adminapi.Token, bool)            { return adminapi.Token{}, false }
func (rules) Terminal(alp.TerminalID) (adminapi.Terminal, bool) { return adminapi.Terminal{}, false }
func (rules) User(string) (adminapi.User, bool)                 { return adminapi.User{}, false }
func (rules) Kiosk(string) (adminapi.Kiosk, bool)               { return adminapi.Kiosk{}, false }
func (r rules) Policies() []adminapi.Policy                     { return r }
