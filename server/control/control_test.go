package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
	"hotdesk/server/control/controltest"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
	"hotdesk/server/session/client"
)

// A rig is a server with everything round it in memory.
type rig struct {
	*testing.T
	group   *controltest.Group
	parent  *controltest.Parent
	screens *controltest.Screens
	ln      *controltest.Listener
	log     *strings.Builder
}

// run runs f with a server in a bubble of its own time. before, if not nil,
// changes the rig before the server starts.
func run(t *testing.T, before func(*rig), f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t, &controltest.Group{}, &controltest.Parent{}, &controltest.Screens{}, controltest.NewListener(), &strings.Builder{}}
		if before != nil {
			before(r)
		}
		ready := make(chan struct{})
		srv := control.New(control.Config{
			Policy: policy.Config{Bare: policy.BareCard}, Most: image.Pt(2560, 1600),
			Group: r.group, Parent: r.parent, Screens: r.screens,
			Ready: func() { close(ready) },
			Log:   slog.New(slog.NewTextHandler(r.log, nil)),
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(ctx, r.ln) }()
		<-ready
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
			ids, _ := r.parent.List(ctx)
			for _, id := range ids {
				r.parent.Keeper(id).Cut()
			}
			synctest.Wait()
		}()
		f(r)
	})
}

// A unit is a terminal's control connection.
type unit struct {
	r    *rig
	id   alp.TerminalID
	nc   net.Conn
	msgs chan alp.Message
	gone chan struct{} // closed when the connection has ended
	seq  int
}

const a, b = alp.TerminalID("080020000001"), alp.TerminalID("080020000002")

// dial connects a terminal.
func (r *rig) dial(id alp.TerminalID) *unit {
	r.Helper()
	nc, err := r.ln.Dial(netip.MustParseAddrPort("127.0.0.9:5000"))
	if err != nil {
		r.Fatal(err)
	}
	u := &unit{r: r, id: id, nc: nc, msgs: make(chan alp.Message, 1000), gone: make(chan struct{})}
	go func() {
		defer close(u.gone)
		sc := bufio.NewScanner(nc)
		for sc.Scan() {
			m, err := alp.Parse(sc.Bytes())
			if err != nil {
				r.Errorf("the gateway sent %q: %v", sc.Bytes(), err)
			}
			u.msgs <- m
		}
	}()
	return u
}

func (u *unit) write(line string) {
	u.nc.SetWriteDeadline(time.Now().Add(time.Minute))
	u.nc.Write([]byte(line)) // one that was hung up on is found out otherwise
}

func (u *unit) identity() alp.Identity {
	return alp.Identity{Firmware: "test", Hardware: "test", Terminal: u.id, Port: 1}
}

func (u *unit) send(m alp.Message) { u.write(string(m.Append(nil))) }

// request is an insertion of token, <type>.<id>.
func (u *unit) request(token string) alp.InfoReq {
	u.seq++
	kind, id, _ := strings.Cut(token, ".")
	return alp.InfoReq{Identity: u.identity(), Type: kind, ID: id, Width: 1280, Height: 1024, TokenSeq: u.seq, Layout: "de"}
}

func (u *unit) insert(token string) { u.send(u.request(token).Message()) }

func (u *unit) remove(token string) {
	r := u.request(token)
	r.Remove = true
	u.seq--
	u.send(r.Message())
}

// next is the next message, once everything that can happen has.
func (u *unit) next(command string) alp.Message {
	u.r.Helper()
	synctest.Wait()
	select {
	case m := <-u.msgs:
		if m.Command != command {
			u.r.Fatalf("%s: got %v, want %s", u.id, m, command)
		}
		return m
	default:
		u.r.Fatalf("%s: nothing came, want %s; log:\n%s", u.id, command, u.r.log)
		return alp.Message{}
	}
}

func (u *unit) quiet() {
	u.r.Helper()
	synctest.Wait()
	select {
	case m := <-u.msgs:
		u.r.Fatalf("%s: got %v, want nothing", u.id, m)
	default:
	}
}

func (u *unit) connInf() alp.ConnInf {
	u.r.Helper()
	c, err := alp.ParseConnInf(u.next(alp.CmdConnInf))
	if err != nil {
		u.r.Fatal(err)
	}
	if c.TokenSeq != u.seq {
		u.r.Errorf("%s: tokenSeq %d, want %d", u.id, c.TokenSeq, u.seq)
	}
	return c
}

// shown is an allowed connInf of a session, redeemed.
func (u *unit) shown() alp.ConnInf {
	u.r.Helper()
	c := u.connInf()
	if !c.Allowed || c.Session == "" || len(c.Ticket) == 0 || c.MediaPort != 40000 {
		u.r.Fatalf("%s: %+v is no session", u.id, c)
	}
	if !u.r.parent.Keeper(c.Session).Redeem(c.Gen) {
		u.r.Fatalf("%s: offer %d of %s is void", u.id, c.Gen, c.Session)
	}
	return c
}

// screen is an allowed connInf of one of the gateway's own screens.
func (u *unit) screen() greeter.Request {
	u.r.Helper()
	c := u.connInf()
	if !c.Allowed || c.Session != "" || c.MediaPort != 40001 {
		u.r.Fatalf("%s: %+v is no screen", u.id, c)
	}
	return u.r.screens.Shown(c.Gen)
}

func (u *unit) denied() alp.ConnInf {
	u.r.Helper()
	c := u.connInf()
	if c.Allowed || c.Cause == "" || c.OSD == 0 {
		u.r.Fatalf("%s: %+v is no denial", u.id, c)
	}
	return c
}

func (u *unit) hungUp() {
	u.r.Helper()
	synctest.Wait()
	select {
	case <-u.gone:
	default:
		u.r.Fatalf("%s: the connection is still there; log:\n%s", u.id, u.r.log)
	}
}

func (r *rig) sessions() int { return len(r.parent.Starts()) }

func (r *rig) starts(n int) {
	r.Helper()
	if r.sessions() != n {
		r.Fatalf("%d sessions were started, want %d", r.sessions(), n)
	}
}

func TestCardMoves(t *testing.T) {
	run(t, nil, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("pseudo." + string(a))
		if s := ua.screen(); s.Screen.Kind != greeter.InsertCard || s.Terminal != a || s.Width != 1280 || s.Addr != netip.MustParseAddr("127.0.0.9") {
			t.Errorf("screen %+v", s)
		}
		ua.remove("pseudo." + string(a))
		ua.insert("card.1")
		c := ua.shown()
		if got := r.screens.Hidden(); !slices.Equal(got, []uint64{1}) {
			t.Errorf("hidden screens %v", got)
		}
		k := r.parent.Keeper(c.Session)
		if at := k.Offered(c.Gen); at.Terminal != a || at.Width != 1280 || at.Layout != "de" {
			t.Errorf("attach %+v", at)
		}
		if st := r.parent.Starts()[0]; st.Token != "card.1" || st.Session != c.Session || st.Width != 1280 || st.Layout != "de" {
			t.Errorf("start %+v", st)
		}
		synctest.Wait()
		if rep := r.group.Reported().Sessions; len(rep) != 1 || !rep[0].Connected || rep[0].ID != c.Session {
			t.Errorf("report %+v", rep)
		}
		ua.remove("card.1")
		ua.insert("pseudo." + string(a))
		ua.screen()
		if got := k.Detached(); !slices.Equal(got, []uint64{c.Gen}) {
			t.Errorf("detached %v", got)
		}
		if rep := r.group.Reported().Sessions; len(rep) != 1 || rep[0].Connected {
			t.Errorf("report %+v", rep)
		}
		ub.insert("card.1")
		if d := ub.shown(); d.Session != c.Session || d.Gen <= c.Gen {
			t.Errorf("at b %+v, was %+v", d, c)
		}
		r.starts(1)
		ua.quiet()
	})
}

// TestTakenAway: the older terminal is told when the newer one has it.
func TestTakenAway(t *testing.T) {
	run(t, nil, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown()
		ub.insert("card.1")
		c := ub.connInf()
		ua.quiet()
		r.parent.Keeper(c.Session).Redeem(c.Gen)
		d, err := alp.ParseDiscInf(ua.next(alp.CmdDiscInf))
		if err != nil || d.TokenSeq != 1 || d.Cause != "Your session is shown at another terminal." || d.OSD == 0 {
			t.Errorf("discInf %+v, %v", d, err)
		}
		ua.remove("card.1") // what it does not have it cannot end
		synctest.Wait()
		if st := r.parent.Keeper(c.Session).Status(); st.Terminal != b {
			t.Errorf("shown at %q", st.Terminal)
		}
	})
}

// TestRemovalOvertakes: a removal ends what was under way, wherever it is.
func TestRemovalOvertakes(t *testing.T) {
	t.Run("start", func(t *testing.T) {
		run(t, func(r *rig) { r.parent.Hold = make(chan struct{}) }, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			r.parent.Hold <- struct{}{}
			u.quiet()
			id := r.parent.Starts()[0].Session
			if n := r.parent.Keeper(id).Offers(); n != 0 {
				t.Errorf("%d offers", n)
			}
		})
	})
	t.Run("attach", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			k := r.parent.Keeper(u.shown().Session)
			u.remove("card.1")
			synctest.Wait()
			hold := make(chan struct{})
			k.SetHold(hold)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			k.SetHold(nil)
			hold <- struct{}{}
			u.quiet()
			if got := k.Detached(); !slices.Equal(got, []uint64{1, 2}) {
				t.Errorf("detached %v, want the late offer too", got)
			}
		})
	})
	t.Run("lookup", func(t *testing.T) {
		run(t, func(r *rig) { r.group.SetAway("away") }, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			synctest.Wait()
			u.remove("card.1")
			synctest.Wait()
			r.group.SetAway("")
			u.quiet()
			r.starts(0)
		})
	})
}

// TestStorm: in, out, in, ... faster than anything is done: the last one
// counts, and nothing of the others stays.
func TestStorm(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		for range 200 {
			u.insert("card.1")
			u.remove("card.1")
		}
		u.insert("card.1")
		time.Sleep(time.Minute)
		synctest.Wait()
		var last alp.ConnInf
		for n := len(u.msgs); n > 0; n-- {
			last, _ = alp.ParseConnInf(<-u.msgs)
		}
		if last.TokenSeq != u.seq || !last.Allowed {
			t.Fatalf("the last answer is %+v, want one for %d", last, u.seq)
		}
		r.starts(1)
		k := r.parent.Keeper(last.Session)
		if !k.Redeem(last.Gen) {
			t.Fatal("the last offer is void")
		}
		for gen := uint64(1); gen < last.Gen; gen++ {
			if !slices.Contains(k.Detached(), gen) {
				t.Errorf("offer %d was not ended", gen)
			}
		}
		u.remove("card.1")
		synctest.Wait()
		if st := k.Status(); st.Terminal != "" {
			t.Errorf("after the last removal it is shown at %s", st.Terminal)
		}
	})
}

// TestTwoAtOnce: the same token at two terminals makes one session.
func TestTwoAtOnce(t *testing.T) {
	run(t, func(r *rig) {
		r.parent.Hold = make(chan struct{})
		r.group.Answer = func(local.Lookup) (local.Answer, error) { return local.Answer{Where: local.New}, nil }
	}, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ub.insert("card.1")
		synctest.Wait()
		r.parent.Hold <- struct{}{}
		ca, cb := ua.connInf(), ub.connInf()
		if ca.Session != cb.Session || ca.Gen == cb.Gen {
			t.Errorf("%+v and %+v", ca, cb)
		}
		r.starts(1)
	})
}

func TestGroupAnswers(t *testing.T) {
	target := netip.MustParseAddrPort("127.0.0.3:7443")
	for _, c := range []struct {
		name   string
		answer local.Answer
		check  func(*rig, *unit)
	}{
		{"there", local.Answer{Where: local.There, Session: "0123456789abcdef", Host: "h2", Target: target, Props: "p=1"}, func(r *rig, u *unit) {
			d, err := alp.ParseRedirectInf(u.next(alp.CmdRedirectInf))
			if err != nil || d.Addr != target.Addr() || d.Port != 7443 || d.Props != "p=1" || d.TokenSeq != 1 {
				r.Errorf("%+v, %v", d, err)
			}
		}},
		{"there, no address", local.Answer{Where: local.There}, func(r *rig, u *unit) { u.denied() }},
		{"unreachable", local.Answer{Where: local.Unreachable, Host: "h2"}, func(r *rig, u *unit) {
			if s := u.screen().Screen; s.Kind != greeter.Denied || !strings.Contains(s.Text, "h2") {
				r.Errorf("%+v", s)
			}
		}},
		{"refused", local.Answer{Where: local.Refused, Reason: "full"}, func(r *rig, u *unit) {
			if s := u.screen().Screen; s.Kind != greeter.Denied || s.Text != "full" {
				r.Errorf("%+v", s)
			}
		}},
		{"here, but it is not", local.Answer{Where: local.Here, Session: "0123456789abcdef"}, func(r *rig, u *unit) {
			u.denied()
			if n := r.group.Lookups(); n != control.MaxLookups {
				r.Errorf("%d lookups", n)
			}
		}},
		{"of no kind", local.Answer{Where: "up"}, func(r *rig, u *unit) { u.denied() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, func(r *rig) {
				r.group.Answer = func(q local.Lookup) (local.Answer, error) {
					if err := q.Check(); err != nil {
						t.Error(err)
					}
					return c.answer, nil
				}
			}, func(r *rig) {
				u := r.dial(a)
				u.insert("card.1")
				c.check(r, u)
				r.starts(0)
			})
		})
	}
}

func redirected(u *unit, token string) {
	q := u.request(token)
	q.Redirect, q.Props = true, "proof"
	u.send(q.Message())
}

func TestRedirected(t *testing.T) {
	const gone = alp.SessionID("00000000000000aa")
	row := client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1}
	proves := func(v local.Verified) func(*rig) {
		return func(r *rig) {
			r.parent.Add(row)
			r.group.Proof = func(q local.Verify) local.Verified {
				if q.Props != "proof" || q.Token != "card.1" || q.Terminal != a {
					t.Errorf("verify %+v", q)
				}
				return v
			}
		}
	}
	t.Run("to a session here", func(t *testing.T) {
		run(t, proves(local.Verified{OK: true, Session: row.Session}), func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			if c := u.shown(); c.Session != row.Session || r.group.Lookups() != 0 {
				t.Errorf("%+v after %d lookups", c, r.group.Lookups())
			}
		})
	})
	t.Run("to a new one", func(t *testing.T) {
		run(t, func(r *rig) {
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.shown()
			r.starts(1)
			if r.group.Lookups() != 0 {
				t.Error("it was selected a second time")
			}
		})
	})
	t.Run("to one that is gone", func(t *testing.T) {
		run(t, func(r *rig) {
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: gone} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.denied()
			r.starts(0)
			if r.group.Lookups() != 1 {
				t.Errorf("%d lookups", r.group.Lookups())
			}
			u.insert("card.1") // the person says so: now a new one is made
			u.shown()
			r.starts(1)
		})
	})
	t.Run("to another token's", func(t *testing.T) {
		run(t, func(r *rig) {
			r.parent.Add(client.Status{Session: gone, Token: "card.2"})
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Session: gone} }
		}, func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			u.denied()
		})
	})
	t.Run("without proof", func(t *testing.T) {
		run(t, proves(local.Verified{Reason: "expired"}), func(r *rig) {
			u := r.dial(a)
			redirected(u, "card.1")
			if c := u.shown(); c.Session != row.Session || r.group.Lookups() != 1 {
				t.Errorf("%+v after %d lookups", c, r.group.Lookups())
			}
		})
	})
}

// TestRedirectOften: who goes to and fro with a card is sent on each time.
func TestRedirectOften(t *testing.T) {
	run(t, func(r *rig) {
		r.group.Answer = func(local.Lookup) (local.Answer, error) {
			return local.Answer{Where: local.There, Target: netip.MustParseAddrPort("127.0.0.3:7443")}, nil
		}
	}, func(r *rig) {
		for i := range 3 * control.MaxRedirects {
			u := r.dial(a)
			u.seq = i
			u.insert("card.1")
			u.next(alp.CmdRedirectInf)
			u.send(u.identity().DiscReq("redirect"))
			u.hungUp()
		}
	})
}

// TestRedirectLoop: hosts that send a terminal back and forth are found out,
// though each time is another connection.
func TestRedirectLoop(t *testing.T) {
	run(t, func(r *rig) {
		r.group.Answer = func(local.Lookup) (local.Answer, error) {
			return local.Answer{Where: local.There, Target: netip.MustParseAddrPort("127.0.0.3:7443")}, nil
		}
		r.group.Proof = func(local.Verify) local.Verified {
			return local.Verified{OK: true, Session: "00000000000000aa"}
		}
	}, func(r *rig) {
		for i := range control.MaxRedirects {
			u := r.dial(a)
			u.seq = i
			redirected(u, "card.1")
			u.next(alp.CmdRedirectInf)
			u.send(u.identity().DiscReq("redirect"))
			u.hungUp()
		}
		u := r.dial(a)
		redirected(u, "card.1")
		u.denied()
		time.Sleep(control.RedirectWindow)
		u.insert("card.1")
		u.next(alp.CmdRedirectInf)
	})
}

func TestGroupAway(t *testing.T) {
	run(t, func(r *rig) {
		r.group.SetAway("Start groupmgr.")
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1})
	}, func(r *rig) {
		ua, ub := r.dial(a), r.dial(b)
		ua.insert("card.1")
		ua.shown() // here: at once
		ub.insert("card.2")
		time.Sleep(control.GroupWithin - time.Second)
		ub.quiet()
		time.Sleep(time.Second)
		if c := ub.denied(); c.Cause != "Start groupmgr." {
			t.Errorf("%+v", c)
		}
		r.starts(0)
		ub.insert("card.2")
		time.Sleep(time.Second)
		r.group.SetAway("")
		ub.shown()
		r.starts(1)
	})
}

// TestGoesOn: the control connection is lost and comes back; so does the
// gateway itself.
func TestGoesOn(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		u.nc.Close()
		time.Sleep(time.Hour)
		if st := k.Status(); st.Terminal != a {
			t.Fatal("the picture went with the control connection")
		}
		again := func(gen uint64) *unit {
			v := r.dial(a)
			q := v.request("card.1")
			q.Connected, q.Session, q.Gen = true, c.Session, gen
			v.send(q.Message())
			return v
		}
		v := again(c.Gen)
		if d := v.connInf(); !d.Allowed || d.Gen != c.Gen || d.Session != c.Session || len(d.Ticket) != 0 || k.Offers() != 1 {
			t.Errorf("%+v", d)
		}
		if len(k.Detached()) != 0 {
			t.Errorf("detached %v", k.Detached())
		}
		w := again(c.Gen + 5) // what it says is not so
		w.shown()
		v.hungUp()
		w.remove("card.1")
		synctest.Wait()
		if st := k.Status(); st.Terminal != "" {
			t.Error("the removal did nothing")
		}
	})
	run(t, func(r *rig) {
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Started: 1, Last: 2, Terminal: a, Gen: 7})
	}, func(r *rig) {
		u := r.dial(a)
		q := u.request("card.1")
		q.Connected, q.Session, q.Gen = true, "0123456789abcdef", 7
		u.send(q.Message())
		if d := u.connInf(); d.Gen != 7 || len(d.Ticket) != 0 {
			t.Errorf("%+v", d)
		}
		u.remove("card.1")
		synctest.Wait()
		if k := r.parent.Keeper("0123456789abcdef"); !slices.Equal(k.Detached(), []uint64{7}) {
			t.Errorf("detached %v", k.Detached())
		}
	})
}

// TestRemovedWhileAway: the card went while the gateway was not there to hear
// of it; the terminal's next insertion ends what is still shown.
func TestRemovedWhileAway(t *testing.T) {
	run(t, func(r *rig) {
		r.parent.Add(client.Status{Session: "0123456789abcdef", Token: "card.1", Terminal: a, Gen: 7})
	}, func(r *rig) {
		u := r.dial(a)
		u.insert("pseudo." + string(a))
		u.screen()
		if k := r.parent.Keeper("0123456789abcdef"); !slices.Equal(k.Detached(), []uint64{7}) {
			t.Errorf("detached %v", k.Detached())
		}
	})
}

func TestMediaRestarted(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		for range 3 {
			k.RestartMedia()
			d := u.shown()
			if d.Gen <= c.Gen || d.Session != c.Session || d.TokenSeq != c.TokenSeq {
				t.Errorf("%+v after %+v", d, c)
			}
			c = d
		}
		u.remove("card.1")
		synctest.Wait()
		k.RestartMedia()
		u.quiet()
	})
}

func TestSessionEnds(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		r.parent.Keeper(c.Session).End("You have logged out.")
		d, err := alp.ParseDiscInf(u.next(alp.CmdDiscInf))
		if err != nil || d.Cause != "You have logged out." || d.TokenSeq != 1 {
			t.Errorf("%+v, %v", d, err)
		}
		if n := len(r.group.Reported().Sessions); n != 0 {
			t.Errorf("%d sessions reported", n)
		}
		u.send(u.identity().DiscRsp())
		u.insert("card.1")
		if e := u.shown(); e.Session == c.Session {
			t.Error("the old session came back")
		}
		r.starts(2)
	})
}

// A terminal that hears of its media's end before the session's asks for the
// session it had: it is told, and no other is made in silence.
func TestAskedForAfterItsEnd(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		r.parent.Keeper(c.Session).End("The X server of your session stopped.")
		u.next(alp.CmdDiscInf)
		again := u.request("card.1")
		again.Session, again.Gen = c.Session, c.Gen
		u.send(again.Message())
		if d := u.denied(); d.Cause != "The X server of your session stopped." {
			t.Errorf("denied because %q", d.Cause)
		}
		r.starts(1)
		u.remove("card.1")
		u.insert("card.1")
		u.shown()
		r.starts(2)
	})
}

// The keeper of a session that ends refuses to attach before word of the end
// is heard: the end decides what the terminal gets.
func TestRefusedAtItsEnd(t *testing.T) {
	const why = "The X server of your session stopped."
	begin := func(r *rig) (u *unit, c alp.ConnInf, k *controltest.Keeper) {
		u = r.dial(a)
		u.insert("card.1")
		c = u.shown()
		k = r.parent.Keeper(c.Session)
		k.SetRefuse(true)
		return u, c, k
	}
	t.Run("asked for", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, c, k := begin(r)
			again := u.request("card.1")
			again.Session, again.Gen = c.Session, c.Gen
			u.send(again.Message())
			synctest.Wait()
			k.End(why)
			if d := u.denied(); d.Cause != why {
				t.Errorf("denied because %q", d.Cause)
			}
			r.starts(1)
		})
	})
	t.Run("inserted", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, c, k := begin(r)
			u.remove("card.1")
			u.insert("card.1")
			synctest.Wait()
			k.End(why)
			if d := u.shown(); d.Session == c.Session {
				t.Errorf("%+v", d)
			}
			r.starts(2)
		})
	})
	t.Run("no end", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u, _, k := begin(r)
			u.remove("card.1")
			u.insert("card.1")
			time.Sleep(control.EndWithin)
			if d := u.denied(); !strings.Contains(d.Cause, "does not answer") {
				t.Errorf("denied because %q", d.Cause)
			}
			k.SetRefuse(false)
			u.remove("card.1")
			u.insert("card.1")
			u.shown()
			r.starts(1)
		})
	})
	// Media falls over with its X server, and is first to be missed.
	t.Run("media first", func(t *testing.T) {
		run(t, nil, func(r *rig) {
			u := r.dial(a)
			u.insert("card.1")
			k := r.parent.Keeper(u.shown().Session)
			k.SetHold(make(chan struct{}))
			k.RestartMedia()
			synctest.Wait()
			k.End(why)
			if d := u.denied(); d.Cause != why {
				t.Errorf("denied because %q", d.Cause)
			}
			r.starts(1)
		})
	})
}

func TestKeeperLost(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		k := r.parent.Keeper(c.Session)
		k.Cut() // the connection only: it is opened again
		u.quiet()
		u.remove("card.1")
		synctest.Wait()
		if got := k.Detached(); !slices.Equal(got, []uint64{c.Gen}) {
			t.Errorf("detached %v", got)
		}
		u.insert("card.1")
		u.shown()
		r.starts(1)
		k.Kill()
		if m := u.next(alp.CmdDiscInf); m.Get("cause") == "" {
			t.Errorf("%v", m)
		}
		u.insert("card.1")
		u.shown()
		r.starts(2)
	})
}

func TestStartFails(t *testing.T) {
	run(t, func(r *rig) { r.parent.Fail = errors.New("no X server") }, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		if c := u.denied(); !strings.Contains(c.Cause, "no X server") {
			t.Errorf("%+v", c)
		}
		if n := len(r.group.Reported().Sessions); n != 0 {
			t.Errorf("%d sessions reported", n)
		}
	})
}

func TestKeeperSilent(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		k := r.parent.Keeper(u.shown().Session)
		u.remove("card.1")
		synctest.Wait()
		k.SetHold(make(chan struct{}))
		u.insert("card.1")
		time.Sleep(control.KeeperWithin + control.EndWithin)
		u.denied()
		k.SetHold(nil)
	})
}

func TestDenied(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("user.root")
		if s := u.screen().Screen; s.Kind != greeter.Denied || s.Text == "" {
			t.Errorf("%+v", s)
		}
		u.insert("pseudo." + string(b))
		if s := u.screen().Screen; s.Kind != greeter.Denied {
			t.Errorf("%+v", s)
		}
		r.screens.Fail = errors.New("full")
		u.insert("pseudo." + string(a))
		u.denied()
		r.starts(0)
	})
}

func TestKeepAliveAndSilence(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		for range 10 {
			u.send(u.identity().KeepAliveReq(false))
			u.next(alp.CmdKeepAliveCnf)
			time.Sleep(control.SilentAfter - time.Second)
		}
		u.write("\n\n\r\n\x00") // nothing is nothing
		time.Sleep(2 * time.Second)
		u.hungUp()
		if !strings.Contains(r.log.String(), "nothing came for too long") {
			t.Error(r.log)
		}
	})
}

func TestSlowLoris(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		line := u.identity().KeepAliveReq(false).Append(nil)
		for i := range 11 {
			u.write(string(line[i : i+1]))
			time.Sleep(time.Second)
		}
		u.hungUp()
		v := r.dial(b) // says things, but not who it is
		for range 5 {
			v.write("hello\n")
			time.Sleep(control.GreetWithin / 5)
		}
		v.hungUp()
	})
}

func TestBadLines(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("pseudo." + string(a))
		u.screen()
		for _, line := range []string{"=\n", "infoReq _=1 event=eject\n"} {
			u.write(line)
			if m := u.next(alp.CmdProtocolError); m.Get("cause") == "" {
				t.Errorf("%v", m)
			}
		}
		u.write("futureReq _=1 what=this\n")
		u.send(u.identity().KeepAliveReq(false))
		u.next(alp.CmdKeepAliveCnf)
		u.write("a\\\n")
		u.next(alp.CmdProtocolError)
		u.hungUp()

		v := r.dial(a)
		v.write("x" + strings.Repeat("y", 2*alp.MaxLine))
		v.next(alp.CmdProtocolError)
		v.hungUp()
		if n := strings.Count(r.log.String(), fmt.Sprintf("a line of more than %d bytes", alp.MaxLine)); n != 1 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}

		w := r.dial(a)
		w.send(w.identity().KeepAliveReq(false))
		w.next(alp.CmdKeepAliveCnf)
		other := w.identity()
		other.Terminal = b
		w.send(other.KeepAliveReq(false))
		w.next(alp.CmdProtocolError)
	})
}

// TestLongestLine: a line of exactly MaxLine bytes, its end included, is read.
func TestLongestLine(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		line := strings.TrimSuffix(string(u.identity().KeepAliveReq(false).Append(nil)), "\n")
		line += " x=" + strings.Repeat("x", 1000) + " y="
		u.write(line + strings.Repeat("y", alp.MaxLine-1-len(line)) + "\n")
		u.next(alp.CmdKeepAliveCnf)
	})
}

// TestNewestConnectionWins: and the older one's end changes nothing.
func TestNewestConnectionWins(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("card.1")
		c := u.shown()
		v := r.dial(a)
		v.send(v.identity().KeepAliveReq(true))
		v.next(alp.CmdKeepAliveCnf)
		u.hungUp()
		r.parent.Keeper(c.Session).RestartMedia()
		v.seq = 1
		v.shown()
	})
}

// TestDeafTerminal: one that does not read loses its connection and nothing
// else.
func TestDeafTerminal(t *testing.T) {
	run(t, nil, func(r *rig) {
		nc, err := r.ln.Dial(netip.MustParseAddrPort("127.0.0.9:5000"))
		if err != nil {
			t.Fatal(err)
		}
		u := &unit{r: r, id: a, nc: nc}
		for range 10 {
			u.send(u.identity().KeepAliveReq(false))
		}
		time.Sleep(control.WriteWithin)
		synctest.Wait()
		if _, err := nc.Write([]byte("x")); err == nil {
			t.Error("the connection is still there")
		}
		if n := strings.Count(r.log.String(), "the terminal does not read"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}
		v := r.dial(b)
		v.send(v.identity().KeepAliveReq(false))
		v.next(alp.CmdKeepAliveCnf)
	})
}

// TestHalfOpen: connections that say nothing make room for those that speak.
func TestHalfOpen(t *testing.T) {
	run(t, nil, func(r *rig) {
		var first *unit
		for i := range control.MaxHalfOpen {
			u := r.dial(a)
			if i == 0 {
				first = u
				synctest.Wait()
			}
		}
		v := r.dial(b)
		time.Sleep(time.Second)
		v.send(v.identity().KeepAliveReq(false))
		v.next(alp.CmdKeepAliveCnf)
		first.hungUp()
		time.Sleep(control.GreetWithin)
		v.send(v.identity().KeepAliveReq(false))
		v.next(alp.CmdKeepAliveCnf)
		if n := strings.Count(r.log.String(), "\n"); n > 60 {
			t.Errorf("%d lines of log", n)
		}
	})
}

// TestForgotten: a terminal that is gone for good leaves its screen behind no
// longer than its ticket.
func TestForgotten(t *testing.T) {
	run(t, nil, func(r *rig) {
		u := r.dial(a)
		u.insert("pseudo." + string(a))
		u.screen()
		u.nc.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.screens.Hidden(); !slices.Equal(got, []uint64{1}) {
			t.Errorf("hidden %v", got)
		}
		v := r.dial(a)
		v.insert("pseudo." + string(a))
		s := v.screen()
		s.Came(2)
		v.nc.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.screens.Hidden(); len(got) != 1 {
			t.Error("a screen that is looked at was taken away")
		}
		s.Gone(2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.screens.Hidden(); len(got) != 2 {
			t.Errorf("hidden %v", got)
		}
	})
}
