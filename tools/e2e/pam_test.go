//go:build pam

package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"hotdesk/server/session/keeper/pam"
	"hotdesk/tools/internal/account"
	"hotdesk/tools/internal/debian"
)

// A person answers the modules' questions in order.
type person struct {
	mu      sync.Mutex
	answers []string
	heard   []string
}

func (p *person) converse(style pam.Style, text string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, fmt.Sprintf("%d %s", style, text))
	if style == pam.Problem || style == pam.Info {
		return nil, nil
	}
	if len(p.answers) == 0 {
		return nil, errors.New("no more answers")
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	return []byte(a), nil
}

// TestPAM is real modules with a real user: each step that a stack has is
// honoured, and any that fails means no session.
func TestPAM(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("accounts of one's own need root; CI is root")
	}
	if err := debian.Need(t.Context(), os.Stderr, debian.Logins...); err != nil {
		t.Fatal(err)
	}
	u, err := account.Temporary(t.Context(), "p", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.RemoveTemporary(); err != nil {
			t.Error(err)
		}
	})
	const right, better = "Rose-tree 7", "Oak&Ash-9 leaves"
	s := newStack(t, "auth requisite pam_nologin.so file=DIR/nologin\nauth required pam_unix.so nodelay\n"+
		"auth required pam_oath.so usersfile=DIR/oath window=20 digits=6\n"+
		"account required pam_unix.so\naccount required pam_time.so conffile=DIR/time.conf\n"+
		"password required pam_unix.so\n"+
		"session required pam_limits.so conf=DIR/limits.conf\nsession required pam_env.so conffile=DIR/env.conf envfile=DIR/environment\nsession required pam_unix.so\n")
	seed := []byte("twenty bytes of seed")
	code := func(n int) string {
		return admin(t, "", "oathtool", "-c", fmt.Sprint(n), hex.EncodeToString(seed))
	}
	s.write(t, "limits.conf", "")
	s.write(t, "env.conf", "HD_GREETING DEFAULT=hello\n")
	s.write(t, "environment", "")
	hour := func(open bool) string { // of this service alone, at any time or never
		if open {
			return s.name + ";*;*;Al0000-2400\n"
		}
		return s.name + ";*;*;!Al0000-2400\n"
	}
	at := 0 // the next code of the second factor
	for _, c := range []struct {
		name    string
		prepare func()
		answers []string // "code" is the next one
		user    string
		refused bool   // the answers were wrong
		told    string // to the user, otherwise
		heard   string
	}{
		{name: "right", answers: []string{right, "code"}},
		{name: "wrong password", answers: []string{"wrong", "code"}, refused: true},
		{name: "wrong code", answers: []string{right, "000000"}, refused: true},
		{name: "a code twice", answers: []string{right, "old"}, refused: true},
		{name: "no such user", user: "nosuchuser", answers: []string{right, "code"}, refused: true},
		{name: "closed hours", prepare: func() { s.write(t, "time.conf", hour(false)) }, answers: []string{right, "code"}, told: "may not log in here"},
		{name: "open hours", prepare: func() { s.write(t, "time.conf", hour(true)) }, answers: []string{right, "code"}},
		{name: "password expired", prepare: func() { admin(t, "", "chage", "-d", "0", u.Name) },
			answers: []string{right, "code", right, better, better}, heard: "required to change"},
		{name: "with the new one", answers: []string{better, "code"}},
		{name: "the old one", answers: []string{right, "code"}, refused: true},
		{name: "change mistyped", prepare: func() { admin(t, "", "chage", "-d", "0", u.Name) },
			answers: []string{better, "code", better, right, "other"}, told: "not changed"},
		{name: "account expired", prepare: func() { admin(t, "", "chage", "-d", "2026-01-02", "-E", "2001-01-01", u.Name) },
			answers: []string{better, "code"}, told: "expired"},
		{name: "locked", prepare: func() { admin(t, "", "chage", "-E", "-1", u.Name); admin(t, "", "usermod", "-L", u.Name) },
			answers: []string{better, "code"}, refused: true},
		{name: "unlocked", prepare: func() { admin(t, "", "usermod", "-U", u.Name) }, answers: []string{better, "code"}},
		{name: "nologin", prepare: func() { s.write(t, "nologin", "Back at noon.\n") }, answers: nil, refused: true, heard: "Back at noon."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "right" {
				password(t, u, right)
				s.write(t, "time.conf", "")
				s.write(t, "oath", fmt.Sprintf("HOTP %s - %s\n", u.Name, hex.EncodeToString(seed)))
			}
			if c.prepare != nil {
				c.prepare()
			}
			p := &person{answers: slices.Clone(c.answers)}
			for i, a := range p.answers {
				switch a {
				case "code":
					p.answers[i] = code(at)
					at++
				case "old":
					p.answers[i] = code(0)
				}
			}
			name := u.Name
			if c.user != "" {
				name = c.user
			}
			l, err := pam.Begin(pam.Open, pam.Request{Service: s.name, User: name, Terminal: "080020c0ffee", Addr: "10.0.0.7"}, p.converse)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := l.Authenticate()
			_, refused := errors.AsType[pam.Refused](err)
			var told string
			if e, ok := errors.AsType[pam.Told](err); ok {
				told = e.Text
			}
			if refused != c.refused || (told != "") != (c.told != "") || !strings.Contains(told, c.told) || (err == nil) != (got == name) {
				t.Errorf("%q, %v (told %q); heard %q", got, err, told, p.heard)
			}
			if !strings.Contains(strings.Join(p.heard, "\n"), c.heard) {
				t.Errorf("heard %q", p.heard)
			}
			if err != nil {
				return
			}
			env, err := l.Open()
			if err != nil || env["HD_GREETING"] != "hello" {
				t.Errorf("%v, %v", env, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
