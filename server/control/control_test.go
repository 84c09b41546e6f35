package control_test

import (
	"bufio"
	"context"
	"image"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/control"
	"hotdesk/server/control/controltest"
	"hotdesk/server/greeter"
	"hotdesk/server/policy"
)

// A rig is a server with everything round it in memory.
type rig struct {
	*testing.T
	group   *controltest.Group
	parent  *controltest.Parent
	screens *controltest.Screens
	ln      *controltest.Listener
	log     *strings.Builder
	conf    control.Config // what else it is to have
	srv     *control.Server
	state   *atomic.Value // of the host, a string
}

// run runs f with a server in a bubble of its own time. before, if not nil,
// changes the rig before the server starts.
func run(t *testing.T, before func(*rig), f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t, &controltest.Group{}, &controltest.Parent{}, &controltest.Screens{}, controltest.NewListener(), &strings.Builder{}, control.Config{}, nil, &atomic.Value{}}
		if before != nil {
			before(r)
		}
		ready := make(chan struct{})
		conf := r.conf
		conf.Policy.Bare, conf.Most = policy.BareCard, image.Pt(2560, 1600)
		conf.Group, conf.Parent, conf.Screens = r.group, r.parent, r.screens
		conf.Ready = func() { close(ready) }
		conf.Log = slog.New(slog.NewTextHandler(r.log, nil))
		srv := control.New(conf)
		r.srv = srv
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
	return r.dialFrom(id, "127.0.0.9:5000")
}

func (r *rig) dialFrom(id alp.TerminalID, from string) *unit {
	r.Helper()
	nc, err := r.ln.Dial(netip.MustParseAddrPort(from))
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

// asked is a screen that asks the user what is to be done.
func (u *unit) asked() greeter.Request {
	u.r.Helper()
	s := u.screen()
	if s.Screen.Kind != greeter.Question || s.Chose == nil {
		u.r.Fatalf("%s: %+v is no question", u.id, s.Screen)
	}
	return s
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

// pass lets time go by, with all that happens in it.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) sessions() int { return len(r.parent.Starts()) }

func (r *rig) starts(n int) {
	r.Helper()
	if r.sessions() != n {
		r.Fatalf("%d sessions were started, want %d", r.sessions(), n)
	}
}

// TestNoDescriptors: while no connection can be accepted the log says so once a
// second, and whoever comes afterwards is served.
func TestNoDescriptors(t *testing.T) {
	run(t, nil, func(r *rig) {
		for range 50 { // 100 ms apart
			r.ln.Fail(&net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)})
		}
		if n := strings.Count(r.log.String(), "could not be accepted"); n < 2 || n > 6 || !strings.Contains(r.log.String(), "unlogged=9") {
			t.Errorf("%d lines:\n%s", n, r.log)
		}
		u := r.dial(a)
		u.insert("card.1")
		u.connInf()
	})
}
