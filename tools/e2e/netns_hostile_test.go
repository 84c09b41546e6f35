package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/netlab"
)

const groupPort = 7009

func isToken(d netlab.Datagram) bool {
	return group.Kind(d.Data) == group.CmdTokenQ || group.Kind(d.Data) == group.CmdTokenR
}

// A host without the group's key is seen, named and told nothing.
func TestNetnsRogue(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a", "b", "rogue"})
	north, south := r.host("north", nil), r.host("south", nil)
	r.rogue("rogue")
	for _, h := range [][2]string{{"north", "south"}, {"south", "north"}} {
		r.knows(h[0], map[string]func(local.TableHost) bool{h[1]: trusted, "rogue": untrusted})
	}
	r.knows("rogue", map[string]func(local.TableHost) bool{"north": untrusted, "south": untrusted})
	r.logged(north.GroupMgr, "host=rogue", 1)

	sniffed, insider := r.capture("rogue"), r.capture("south")
	a := r.terminal("a", "-server", r.at("north"))
	r.see(a, "picture")
	r.hands(a, "insert", "card1")
	r.desk(a)
	asked, err := insider.Wait(1, patience, isToken)
	r.must(err)
	_, err = sniffed.Wait(4, patience, func(d netlab.Datagram) bool { return group.Kind(d.Data) == group.CmdHost && !d.Sent })
	r.must(err)
	if all, lost := sniffed.All(); lost > 0 {
		t.Errorf("%d datagrams were not looked at", lost)
	} else {
		for _, d := range all {
			if isToken(d) {
				t.Errorf("the rogue: %v to %v: %.60q", d.From, d.To, d.Data)
			}
		}
	}

	// It answers a terminal that looks for a server, which goes elsewhere.
	told := r.capture("b")
	b := r.terminal("b")
	_, err = told.Wait(1, patience, func(d netlab.Datagram) bool {
		return group.Kind(d.Data) == group.CmdServerR && d.From.Addr() == r.node("rogue").Addr
	})
	r.must(err)
	r.see(b, "picture")
	if at := r.status(b, "server"); at != r.at("north") && at != r.at("south") {
		t.Errorf("b is at %s", at)
	}

	// What an insider recorded is said again, in the rogue's name and in
	// north's: nobody answers.
	rogue := r.node("rogue")
	var again []netlab.Datagram
	for _, d := range asked {
		d.To = netip.AddrPortFrom(r.node("south").Addr, groupPort)
		again = append(again, d)
		d.From = netip.AddrPortFrom(rogue.Addr, groupPort)
		again = append(again, d)
	}
	answers := func() (n int) {
		all, _ := insider.All()
		for _, d := range all {
			if d.Sent && group.Kind(d.Data) == group.CmdTokenR {
				n++
			}
		}
		return n
	}
	before := answers()
	r.must(rogue.Forge(again...))
	// The question that comes last is answered last.
	r.must(rogue.Forge(question(1, netip.AddrPortFrom(rogue.Addr, 7), r.node("south").Addr)))
	_, err = insider.Wait(1, patience, func(d netlab.Datagram) bool {
		return d.Sent && group.Kind(d.Data) == group.CmdServerR && d.To.Port() == 7
	})
	r.must(err)
	if n := answers(); n != before {
		t.Errorf("%d replayed questions were answered", n-before)
	}
	r.logged(south.GroupMgr, "refused", 1)

	// A host that is dead is not kept alive by what it once said.
	heard, err := insider.Wait(1, patience, func(d netlab.Datagram) bool {
		return group.Kind(d.Data) == group.CmdHost && d.From.Addr() == r.node("north").Addr
	})
	r.must(err)
	north.GroupMgr.Signal(unix.SIGKILL)
	<-north.GroupMgr.Done()
	r.eventually("north is down in spite of replays", func() (bool, string) {
		r.must(rogue.Forge(heard...))
		h := r.table("south")["north"]
		return isDown(h), fmt.Sprintf("%+v", h)
	})
	r.must(north.StartGroupMgr(r.ctx))
	r.knows("south", map[string]func(local.TableHost) bool{"north": trusted, "rogue": untrusted})
}

// question is a serverQ of a terminal that is nowhere.
func question(id int, from netip.AddrPort, to netip.Addr) netlab.Datagram {
	q := group.ServerQ{Hardware: "flood", Terminal: "02f100d00001", ID: uint64(id)}
	return netlab.Datagram{From: from, To: netip.AddrPortFrom(to, groupPort), Data: q.Append(nil)}
}

// A flood of forged serverQ gets few answers, of which none is longer than its
// question, and nobody else notices it.
func TestNetnsFlood(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a", "b", "c", "rogue"})
	r.host("north", nil)
	r.host("south", func(c *lab.Installed) { c.GroupArgs = append(c.GroupArgs, "-max-sessions", "1") })
	r.together("north", "south")
	a := r.terminal("a", "-server", r.at("north"))
	r.see(a, "picture")
	north, rogue := r.node("north"), r.node("rogue")
	outgoing := r.capture("north")
	outgoing.Only(func(d netlab.Datagram) bool { return d.Sent }) // however long a flood lasts
	r.hands(a, "insert", "card1")
	r.desk(a)

	// flood asks 1000 times a tenth of a second until stop is called.
	flood := func(from func(i int) netip.AddrPort) (stop func()) {
		quit := make(chan struct{})
		var flooding sync.WaitGroup
		var failed error
		flooding.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for n := 0; failed == nil; n++ {
				var batch []netlab.Datagram
				for i := range 1000 {
					batch = append(batch, question(1000*n+i+1, from(1000*n+i), north.Addr))
				}
				failed = rogue.Forge(batch...)
				select {
				case <-quit:
					return
				case <-tick.C:
				}
			}
		})
		return func() {
			close(quit)
			flooding.Wait()
			r.must(failed)
		}
	}
	// settled counts north's answers once it has worked off what came: those
	// that satisfy f.
	settled := func(f func(netlab.Datagram) bool) int {
		last, n := -1, 0
		r.eventually("answers end", func() (bool, string) {
			all, lost := outgoing.All()
			last, n = n, 0
			for _, d := range all {
				if group.Kind(d.Data) == group.CmdServerR && f(d) {
					n++
					if len(d.Data) > group.QuestionSize {
						t.Errorf("an answer of %d bytes to a question of %d", len(d.Data), group.QuestionSize)
					}
				}
			}
			if lost > 0 {
				t.Errorf("%d datagrams were not looked at", lost)
			}
			return n == last, ""
		})
		return n
	}

	// From one source: ten at once and five a second, also while what has come
	// is worked off.
	began := time.Now()
	stop := flood(func(int) netip.AddrPort { return netip.AddrPortFrom(rogue.Addr, 7) })
	b := r.terminal("b") // finds its server meanwhile
	r.see(b, "picture")
	r.paint(a, "2a7f62")
	stop()
	n := settled(func(d netlab.Datagram) bool { return d.To.Addr() == rogue.Addr })
	took := time.Since(began)
	if most := 10 + int(5*took.Seconds()) + 5; n == 0 || n > most {
		t.Errorf("one source got %d answers in %v, at most %d", n, took, most)
	}

	// From ever new sources, forged: a bound for all together, which is not that
	// of who is on the host's own network and has never been heard.
	forged := netip.MustParsePrefix("198.18.0.0/15")
	began = time.Now()
	stop = flood(func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 7)
	})
	r.paint(a, "6a3d7c")
	r.hands(b, "insert", "card2")
	r.desk(b)
	r.together("north", "south")
	c := r.terminal("c")
	r.see(c, "picture")
	stop()
	n = settled(func(d netlab.Datagram) bool { return forged.Contains(d.To.Addr()) })
	took = time.Since(began)
	if most := 250 + int(250*took.Seconds()) + 25; n == 0 || n > most {
		t.Errorf("all sources got %d answers in %v, at most %d", n, took, most)
	}
}

// The key is rolled over while the group runs, without a moment of distrust;
// afterwards the old one counts no more.
func TestNetnsKeyChange(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "late"})
	hosts := []string{"north", "south"}
	for _, h := range hosts {
		r.host(h, nil)
	}
	r.together(hosts...)
	old, fresh := r.key, r.key+" the next"
	for step, lines := range [][]string{{old, fresh}, {fresh, old}, {fresh}} {
		for _, h := range hosts {
			r.writeKey(h, lines...)
		}
		for _, h := range hosts {
			r.logged(r.hosts[h].GroupMgr, "key file read anew", step+1)
		}
	}
	r.together(hosts...)
	r.host("late", nil) // with the old key
	for i, h := range hosts {
		peer := hosts[1-i]
		r.knows(h, map[string]func(local.TableHost) bool{peer: trusted, "late": untrusted})
		if log := r.hosts[h].GroupMgr.Log(); strings.Contains(log, `msg="host not trusted" host=`+peer) {
			t.Errorf("%s distrusted %s for a moment:\n%s", h, peer, log)
		}
	}
}
