package control

import (
	"fmt"
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

// registered is a View that knows one key of every terminal.
type registered struct {
	policy.View
	key string
}

func (r registered) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	return adminapi.Terminal{ID: id, Key: r.key}, true
}

func TestOwns(t *testing.T) {
	one := terminalKey{1}
	for _, c := range []struct {
		key  string
		k    terminalKey
		want bool
	}{{"", one, true}, {"", terminalKey{}, true}, {one.String(), one, true}, {one.String(), terminalKey{2}, false}, {one.String(), terminalKey{}, false}} {
		s := &Server{conf: Config{View: func() policy.View { return registered{key: c.key} }}}
		if s.owns("0800200a0b0c", c.k) != c.want {
			t.Errorf("%q for %s", c.key, c.k)
		}
	}
	if !(&Server{}).owns("0800200a0b0c", one) {
		t.Error("no registry")
	}
}
