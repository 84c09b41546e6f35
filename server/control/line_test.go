package control_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/control"
)

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
