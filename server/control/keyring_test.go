package control

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/policy"
)

func TestKeyring(t *testing.T) {
	r, now := keyring{}, time.Unix(1e9, 0)
	const id alp.TerminalID = "0800200a0b0c"
	none, one, other := terminalKey{}, terminalKey{1}, terminalKey{2}
	for i, c := range []struct {
		after time.Duration
		key   terminalKey
		want  bool
	}{
		{0, none, true}, // has none, and none is remembered
		{0, one, true},  // the first
		{0, one, true},
		{0, other, false},
		{0, none, false},
		{keyLife - 1, one, true},
		{keyLife - 1, other, false},
		{1, other, true}, // it has not come for so long
		{0, one, false},
	} {
		now = now.Add(c.after)
		if got := r.admit(id, c.key, now); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
	for n := range maxKeys {
		now = now.Add(time.Second)
		r.admit(alp.TerminalID(fmt.Sprintf("0266%08x", n)), one, now)
		if n < maxKeys-1 && !r.admit(id, other, now) {
			t.Fatal("one that comes was forgotten")
		}
	}
	if len(r) != maxKeys {
		t.Errorf("%d are remembered, want %d", len(r), maxKeys)
	}
}

// The owner of a key that was forgotten does not come at once, anybody else does,
// and after a while whoever does.
func TestKeyringForgets(t *testing.T) {
	const id alp.TerminalID = "0800200a0b0c"
	start, none, one, other := time.Unix(1e9, 0), terminalKey{}, terminalKey{1}, terminalKey{2}
	for name, c := range map[string]struct {
		after time.Duration
		key   terminalKey
		bars  bool
	}{
		"the owner":         {0, one, true},
		"the owner, waits":  {ForgottenFor - 1, one, true},
		"the owner, later":  {ForgottenFor, one, false},
		"another":           {0, other, false},
		"one without a key": {0, none, false},
	} {
		r := keyring{}
		r.admit(id, one, start)
		r.forget(id, one, start)
		now := start.Add(c.after)
		if got := r.forgot(id, c.key, now); got != c.bars {
			t.Errorf("%s: %v", name, got)
		}
		if !c.bars && (!r.admit(id, c.key, now) || r.forgot(id, one, start)) {
			t.Errorf("%s: not let in, or still waited for", name)
		}
	}
	r := keyring{}
	for n := range maxKeys + 1 {
		r.forget(alp.TerminalID(fmt.Sprintf("0266%08x", n)), one, start)
	}
	if len(r) != maxKeys {
		t.Errorf("%d are remembered, want %d", len(r), maxKeys)
	}
}

// registered is a View that knows one key of every terminal, and one rule.
type registered struct {
	policy.View
	key, rule string
}

func (r registered) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	return adminapi.Terminal{ID: id, Key: r.key}, true
}
func (r registered) Token(alp.Token) (adminapi.Token, bool) { return adminapi.Token{}, false }
func (r registered) Policies() []adminapi.Policy {
	if r.rule == "" {
		return nil
	}
	return []adminapi.Policy{{Name: "p", Says: map[string]string{"terminal-keys": r.rule}}}
}

// Who may be a terminal, one connection after the other: what the registry says
// counts more than what the host remembers, and the rule says what counts where
// it says nothing.
func TestMayBe(t *testing.T) {
	const id = alp.TerminalID("0800200a0b0c")
	no, one, two := terminalKey{}, terminalKey{1}, terminalKey{2}
	type step struct {
		rule, key string
		k         terminalKey
		want      error
	}
	for name, steps := range map[string][]step{
		"whoever comes first":             {{"", "", one, nil}, {"", "", two, ErrOtherKey}, {"", "", no, ErrOtherKey}, {"", "", one, nil}},
		"whoever comes, with none before": {{"", "", no, nil}, {"", "", two, nil}, {"", "", no, ErrOtherKey}},
		"pin, before the registry has it": {{"pin", "", one, nil}, {"pin", "", two, ErrOtherKey}},
		"pin, of one without":             {{"pin", "", no, nil}, {"pin", "", no, nil}},
		"the registry has it":             {{"pin", one.String(), two, ErrOtherKey}, {"pin", one.String(), no, ErrOtherKey}, {"pin", one.String(), one, nil}},
		"an admin exchanges it":           {{"pin", one.String(), one, nil}, {"pin", two.String(), one, ErrOtherKey}, {"pin", two.String(), two, nil}},
		"an admin registers another":      {{"", "", one, nil}, {"", two.String(), two, nil}, {"", two.String(), one, ErrOtherKey}},
		"an admin forgets it":             {{"pin", one.String(), one, nil}, {"pin", "", two, nil}, {"pin", "", one, ErrOtherKey}},
		"registered ones only":            {{"registered", "", one, errNoKey}, {"registered", "", no, errNoKey}, {"registered", one.String(), one, nil}, {"registered", one.String(), two, ErrOtherKey}},
		"none":                            {{"none", "", one, nil}, {"none", "", two, nil}, {"none", "", no, nil}, {"none", one.String(), two, ErrOtherKey}},
		"a rule of a later version":       {{"seal", "", one, nil}, {"seal", "", two, ErrOtherKey}},
	} {
		var view registered
		s := &Server{keys: keyring{}, conf: Config{View: func() policy.View { return view }}}
		for i, c := range steps {
			view = registered{key: c.key, rule: c.rule}
			if err := s.mayBe(id, c.k, time.Unix(1e9, 0)); err != c.want {
				t.Errorf("%s: step %d: %v, want %v", name, i+1, err, c.want)
			}
		}
	}
	s := &Server{keys: keyring{}}
	if err := s.mayBe(id, one, time.Unix(1e9, 0)); err != nil {
		t.Errorf("without a registry: %v", err)
	}
	for _, err := range []error{ErrOtherKey, errNoKey, errForgotten} {
		if text := keyTexts[err]; text == "" || len(text) > alp.MaxText {
			t.Errorf("%v is told as %q", err, text)
		}
	}
}

// A terminal whose key is forgotten loses its connection and its session at once,
// also where the registry alone had the key; one with another key does not.
func TestForgetKey(t *testing.T) {
	const id, session = alp.TerminalID("0800200a0b0c"), alp.SessionID("0123456789abcdef")
	one, other := terminalKey{1}, terminalKey{2}
	for name, c := range map[string]struct {
		rule, registry string // of the registry: the key that it had
		has            terminalKey
		was, away      bool
	}{
		"remembered here":               {"host", "", one, true, true},
		"registered":                    {"none", one.String(), one, false, true},
		"registered, another one comes": {"none", one.String(), other, false, false},
		"not known":                     {"none", "", one, false, false},
		"no key of this version":        {"none", "abc", one, false, false},
	} {
		s := New(Config{View: func() policy.View { return registered{rule: c.rule} }})
		ctx, cancel := context.WithCancel(t.Context())
		s.ctx = ctx
		near, far := net.Pipe()
		k := &conn{nc: near, out: make(chan []byte, maxQueued), key: c.has}
		if err := s.bind(k, id); err != nil {
			t.Fatal(err)
		}
		s.keepers[session] = &keeper{id: session}
		k.t.shown = attachment{session, 3}
		s.wg.Go(func() { s.own(ctx) })
		was, err := s.ForgetKey(t.Context(), id, c.registry)
		cancel()
		s.wg.Wait()
		if err != nil || was != c.was || k.closed != c.away || (k.t.conn == nil) != c.away || (s.keepers[session].asked == 3) != c.away {
			t.Errorf("%s: %v, %v; away %v, detached %d", name, was, err, k.closed, s.keepers[session].asked)
		}
		if c.away {
			if err := s.mayBe(id, one, time.Now()); err != errForgotten {
				t.Errorf("%s: the old key: %v", name, err)
			}
			if err := s.mayBe(id, other, time.Now()); err != nil {
				t.Errorf("%s: another: %v", name, err)
			}
		}
		near.Close()
		far.Close()
	}
}
