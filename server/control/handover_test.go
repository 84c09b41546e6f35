package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/greeter"
)

// A hands is where logins are handed over to.
type hands struct {
	mu  sync.Mutex
	got []string
	err error
}

func (h *hands) over(_ context.Context, host string, to netip.AddrPort, l adminapi.PeerLogin) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, fmt.Sprintf("%s %v: %s %s %s %s, %s %s", host, to, l.Terminal, l.Token, l.User, l.Password, l.Layout, l.Desktop))
	clear(l.Password)
	return h.err
}

func (h *hands) all() string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.got, "; ")
}

// moves are rules by which ann, bob and exp have their sessions on south, as
// shows when they have logged in, and others where they are.
var moves = []string{"user ann groups=staff", "user bob groups=staff", "user exp groups=staff", "policy a group=staff hosts=south order=1", "policy b bare=login"}

// What a user has typed goes to the host of the new session before the user does,
// and nothing goes to hosts that would not ask for it.
func TestHandOver(t *testing.T) {
	const place = "south 127.0.0.3:7443: 080020000001 pseudo.080020000001 "
	for name, c := range map[string]struct {
		answer func(local.Lookup) local.Answer
		user   string
		more   []string // what is asked for besides
		err    error
		want   string
	}{
		"a password":                {allowed, "ann", nil, nil, place + "ann pw, de xfce"},
		"a second factor is not":    {allowed, "bob", []string{"123"}, nil, place + "bob pw, de xfce"},
		"which is away":             {allowed, "ann", nil, errors.New("away"), place + "ann pw, de xfce"},
		"one that has been changed": {allowed, "exp", []string{"new", "new"}, nil, place + "exp new, de xfce"},
		"to a session that is there": {func(local.Lookup) local.Answer {
			to := south
			to.Session = "0123456789abcdef"
			return to
		}, "ann", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hands{err: c.err}
			before, _ := onNorth(func(q local.Lookup) local.Answer {
				if q.Want == local.WantPlace {
					return local.Answer{Where: local.New, Host: "north"}
				}
				return c.answer(q)
			}, moves...)
			run(t, func(r *rig) {
				before(r)
				r.conf.HandOver = h.over
				r.conf.Logins = control.Logins{Desktops: func() []greeter.Option {
					return []greeter.Option{{Value: "", Text: "Default"}, {Value: "xfce", Text: "Xfce"}}
				}}
			}, func(r *rig) {
				u := r.dial(a)
				u.insert(bare(a))
				d := u.form()
				d.fill(0, []string{"de", "xfce"}, c.user, "pw")
				for _, more := range c.more {
					d.fill(0, nil, more)
				}
				u.next(alp.CmdRedirectInf)
				if got := h.all(); got != c.want {
					t.Errorf("handed %q, want %q", got, c.want)
				}
				if strings.Contains(r.log.String(), "pw") {
					t.Errorf("the log has it: %s", r.log)
				}
			})
		})
	}
	// It is there before the terminal is.
	before, _ := onNorth(allowed, moves...)
	run(t, func(r *rig) {
		before(r)
		r.conf.HandOver = func(ctx context.Context, _ string, _ netip.AddrPort, _ adminapi.PeerLogin) error {
			<-ctx.Done()
			return ctx.Err()
		}
	}, func(r *rig) {
		u := r.dial(a)
		u.insert(bare(a))
		u.form().fill(0, nil, "ann", "pw")
		u.quiet()
		r.pass(control.HandOverWithin)
		u.next(alp.CmdRedirectInf)
	})
}

// ann's login, as another host hands it over.
func annsLogin(password string) adminapi.PeerLogin {
	return adminapi.PeerLogin{Terminal: a, Token: alp.Token(bare(a)), User: "ann", Password: []byte(password), Layout: "de"}
}

// A host that starts no session without a password takes the one that was typed
// where the user comes from, and asks its own modules.
func TestTakesLogin(t *testing.T) {
	taking := func(user string) func(*rig) {
		return func(r *rig) {
			ruled(moves...)(r)
			r.conf.Host = "south"
			r.parent.Asks = errors.New("no session without a login")
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, User: user} }
		}
	}
	take := func(r *rig, l adminapi.PeerLogin) {
		t.Helper()
		if err := r.srv.TakeLogin(context.Background(), l); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(l.Password, make([]byte, len(l.Password))) {
			t.Error("the password was not wiped")
		}
	}
	run(t, taking("ann"), func(r *rig) {
		take(r, annsLogin("pw"))
		u := r.dial(a)
		redirected(u, bare(a))
		u.form()
		if c := u.session(); c.Token != "user.ann" {
			t.Errorf("%+v", c)
		}
		if b := r.parent.Begun(); len(b) != 1 || b[0].Layout != "de" {
			t.Errorf("%+v", b)
		}
		if s := r.parent.Starts(); len(s) != 2 || s[0].Login || !s[1].Login || s[1].User != "ann" {
			t.Errorf("%+v", s)
		}
		// It was good for one login.
		r.parent.Keeper(r.parent.Starts()[1].Session).End("You have logged out.")
		u.form()
		redirected(u, bare(a))
		u.form().says("log in once more")
	})
	// Who needs no password here has what was chosen there nevertheless, as far as
	// it is here too.
	for _, c := range []struct{ lang, desktop, wantLang, wantDesktop string }{
		{"de_DE.UTF-8", "xfce", "de_DE.UTF-8", "xfce"},
		{"fr_FR.UTF-8", "kde", "", ""},
		{"", "", "", ""},
	} {
		run(t, func(r *rig) {
			taking("ann")(r)
			r.parent.Asks = nil
			r.conf.Logins = control.Logins{
				Languages: []greeter.Option{{Value: "", Text: "System"}, {Value: "de_DE.UTF-8", Text: "Deutsch"}},
				Desktops:  func() []greeter.Option { return []greeter.Option{{Value: "xfce", Text: "Xfce"}} },
			}
		}, func(r *rig) {
			l := annsLogin("pw")
			l.Lang, l.Desktop = c.lang, c.desktop
			take(r, l)
			u := r.dial(a)
			redirected(u, bare(a))
			u.session()
			r.starts(1)
			if s := r.parent.Starts()[0]; s.Login || s.Layout != "de" || s.Lang != c.wantLang || s.Desktop != c.wantDesktop {
				t.Errorf("%+v started as %+v", c, s)
			}
		})
	}
	// A second factor is asked for: it may have been used.
	run(t, taking("bob"), func(r *rig) {
		l := annsLogin("pw")
		l.User = "bob"
		take(r, l)
		u := r.dial(a)
		redirected(u, bare(a))
		d := u.form()
		if f := d.form(); len(f.Fields) != 1 {
			t.Fatalf("%+v", f)
		}
		d.fill(0, nil, "123")
		u.session()
	})
	// Another host's modules may know another password.
	run(t, taking("ann"), func(r *rig) {
		take(r, annsLogin("old"))
		u := r.dial(a)
		redirected(u, bare(a))
		d := u.form()
		d.says("not right")
		d.fill(0, nil, "ann", "pw")
		u.session()
	})
	// Whoever else comes, or late, does not have it.
	for name, change := range map[string]func(*rig, *adminapi.PeerLogin){
		"another user":     func(_ *rig, l *adminapi.PeerLogin) { l.User = "bob" },
		"another token":    func(_ *rig, l *adminapi.PeerLogin) { l.Token = "card.1" },
		"another terminal": func(_ *rig, l *adminapi.PeerLogin) { l.Terminal = b },
		"late":             nil,
	} {
		run(t, taking("ann"), func(r *rig) {
			l := annsLogin("pw")
			if change != nil {
				change(r, &l)
			}
			take(r, l)
			if change == nil {
				r.pass(10 * time.Second)
			}
			u := r.dial(a)
			redirected(u, bare(a))
			u.form().says("log in once more")
			if n := len(r.parent.Begun()); n != 0 {
				t.Errorf("%s: %d sessions", name, n)
			}
		})
	}
	// A redirect without proof has nothing of it.
	run(t, func(r *rig) { taking("ann")(r); r.group.Proof = nil }, func(r *rig) {
		take(r, annsLogin("pw"))
		u := r.dial(a)
		redirected(u, bare(a))
		u.form()
		u.quiet()
		r.starts(0)
	})
	// Who is sent on once more takes it along.
	h := &hands{}
	before, _ := onNorth(allowed, moves...)
	run(t, func(r *rig) {
		before(r)
		r.conf.HandOver = h.over
		r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, User: "ann"} }
	}, func(r *rig) {
		take(r, annsLogin("pw"))
		u := r.dial(a)
		redirected(u, bare(a))
		u.next(alp.CmdRedirectInf)
		if got := h.all(); !strings.Contains(got, "ann pw") {
			t.Errorf("%q", got)
		}
	})
	run(t, taking("ann"), func(r *rig) {
		for name, l := range map[string]adminapi.PeerLogin{
			"nothing": {}, "no password": annsLogin(""), "a long one": annsLogin(strings.Repeat("x", 1<<16)),
			"no user": {Terminal: a, Token: "card.1", User: "../root", Password: []byte("pw")},
		} {
			if err := r.srv.TakeLogin(context.Background(), l); !errors.Is(err, control.ErrHanded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for n := range control.MaxLogins + 1 {
			l := annsLogin("pw")
			l.Terminal = alp.TerminalID(fmt.Sprintf("02%010x", n))
			if err := r.srv.TakeLogin(context.Background(), l); (err != nil) != (n == control.MaxLogins) {
				t.Errorf("%d: %v", n, err)
			}
		}
		r.pass(10 * time.Second)
		if err := r.srv.TakeLogin(context.Background(), annsLogin("pw")); err != nil {
			t.Error(err)
		}
	})
}
