package e2e

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/internal/netlab"
)

// manyHosts is a multicast address for a group.
const manyHosts = "239.255.70.9"

// Hosts of a subnet find each other by broadcasts. A terminal that asks gets
// addresses on its own subnet; what it cannot reach is not answered for.
func TestNetnsDiscovery(t *testing.T) {
	r := newRealm(t, []string{"north", "both", "a"}, []string{"both", "b"})
	r.host("north", nil)
	r.host("both", func(c *lab.Installed) { c.GroupArgs = append(c.GroupArgs, "-max-sessions", "1") })
	r.together("north", "both")
	if n := len(r.table("north")["both"].Interfaces); n != 2 {
		t.Errorf("both has %d interfaces in north's table", n)
	}
	heardA, heardB := r.capture("a"), r.capture("b")
	a, b := r.terminal("a"), r.terminal("b")
	r.see(a, "picture")
	r.see(b, "picture")

	// A terminal that has to wait asks again: an answer may come twice.
	answers := func(who string, c *netlab.Capture, want ...netip.Addr) {
		t.Helper()
		answer := func(d netlab.Datagram) bool { return !d.Sent && group.Kind(d.Data) == group.CmdServerR }
		for _, a := range want {
			_, err := c.Wait(1, patience, func(d netlab.Datagram) bool { return answer(d) && d.From.Addr() == a })
			r.must(err)
		}
		all, _ := c.All()
		for _, d := range all {
			if !answer(d) {
				continue
			}
			m, err := group.ParseServerR(d.Data)
			r.must(err)
			if m.Addr != d.From.Addr() || m.Port != 7443 || !slices.Contains(want, m.Addr) {
				t.Errorf("%s: serverR from %v names %v:%d; want one of %v", who, d.From, m.Addr, m.Port, want)
			}
		}
	}
	both, north := r.node("both"), r.node("north")
	answers("a", heardA, both.Addrs[0], north.Addrs[0])
	answers("b", heardB, both.Addrs[1])

	// Of b's subnet is only both, whose one session it then has; the next is on
	// north, of a's subnet alone: at b nothing but the truth can be shown.
	r.hands(b, "insert", "card2")
	r.desk(b)
	r.hands(b, "remove")
	r.see(b, "picture")
	r.eventually("north knows that both is full", func() (bool, string) {
		n := r.table("north")["both"].Sessions
		return n == 1, strconv.Itoa(n)
	})
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.eventually("the session is on north", func() (bool, string) { n := r.sessions("north"); return n == 1, strconv.Itoa(n) })
	before := r.rest(b)
	r.hands(a, "remove")
	r.hands(b, "insert", "card1")
	r.see(b, "picture")
	if r.rest(b) == before || r.sessions() != 2 {
		t.Errorf("b shows what it did before, or there are %d sessions", r.sessions())
	}
}

// Across a router, where no broadcast goes, hosts are told of each other by
// -peer at one end. A card's session comes to a terminal of another network:
// one with a host, and one without.
func TestNetnsRouted(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a"}, []string{"east", "b"}, []string{"c", "d"})
	r.host("north", nil)
	r.host("south", nil)
	r.host("east", func(c *lab.Installed) {
		c.GroupArgs = append(c.GroupArgs, "-peer", r.node("north").Addr.String(), "-peer", r.node("south").Addr.String())
	})
	r.together("north", "south", "east")
	spoken := r.capture("east")
	a, b := r.terminal("a"), r.terminal("b")
	c := r.terminal("c", "-server", r.at("east"), "-multicast", manyHosts)
	for _, x := range []*lab.Terminal{a, b, c} {
		r.see(x, "picture")
	}
	if at := r.status(b, "server"); at != r.at("east") {
		t.Errorf("b found %s", at)
	}
	// Where routers carry multicasts, c hears of hosts that are elsewhere.
	told, err := spoken.Wait(1, patience, func(d netlab.Datagram) bool {
		return group.Kind(d.Data) == group.CmdHost && d.From.Addr() == r.node("north").Addr
	})
	r.must(err)
	carried := told[0]
	carried.To = netip.AddrPortFrom(netip.MustParseAddr(manyHosts), groupPort)
	r.eventually("c hears of north", func() (bool, string) {
		r.must(r.node("d").Forge(carried))
		known := r.status(c, "known")
		return known == "2", known
	})
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "2a7f62")
	desk, at := r.rest(a), r.status(a, "server")
	for _, x := range []*lab.Terminal{b, c} {
		r.hands(a, "remove")
		r.hands(x, "insert", "card1")
		r.shows(x, desk)
		if to := r.status(x, "server"); to != at || r.sessions() != 1 {
			t.Errorf("%s is at %s, the session at %s; sessions: %d", x.Name, to, at, r.sessions())
		}
		r.hands(x, "remove")
		r.hands(a, "insert", "card1")
		r.shows(a, desk)
	}
	r.hands(a, "remove")

	// East's cable is pulled, and the card finds its session again afterwards.
	r.must(r.node("east").Link(r.ctx, false))
	r.knows("east", map[string]func(local.TableHost) bool{"north": isDown, "south": isDown})
	r.must(r.node("east").Link(r.ctx, true))
	r.together("north", "south", "east")
	r.hands(b, "insert", "card1")
	r.shows(b, desk)
}

// A partition: each side goes on by itself, and afterwards all agree again and
// the newer session is the one that a card gets. The hosts find each other by
// multicasts alone, and terminals hear of both.
func TestNetnsPartition(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a", "b"})
	heard := r.capture("b")
	for _, h := range []string{"north", "south"} {
		r.host(h, func(c *lab.Installed) {
			c.GroupArgs = append(c.GroupArgs, "-broadcast=false", "-multicast", manyHosts)
		})
	}
	r.together("north", "south")
	north, south := r.node("north"), r.node("south")
	a, b := r.terminal("a", "-server", r.at("north"), "-multicast", manyHosts), r.terminal("b", "-server", r.at("south"), "-multicast", manyHosts)
	r.see(a, "picture", "known=2")
	r.see(b, "picture", "known=2")

	// One way: south hears nothing of north, north everything of south.
	r.must(south.Cut(r.ctx, north))
	r.knows("south", map[string]func(local.TableHost) bool{"north": isDown})
	r.knows("north", map[string]func(local.TableHost) bool{"south": trusted})
	r.must(south.Heal(r.ctx))
	r.together("north", "south")

	r.must(south.Cut(r.ctx, north))
	r.must(north.Cut(r.ctx, south))
	r.knows("south", map[string]func(local.TableHost) bool{"north": isDown})
	r.knows("north", map[string]func(local.TableHost) bool{"south": isDown})
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "2a7f62")
	r.hands(a, "remove")
	r.hands(b, "insert", "card1")
	r.desk(b)
	r.paint(b, "6a3d7c")
	newer := r.rest(b)
	r.hands(b, "remove")
	if r.sessions("north") != 1 || r.sessions("south") != 1 {
		t.Errorf("sessions: %d and %d", r.sessions("north"), r.sessions("south"))
	}

	r.must(south.Heal(r.ctx))
	r.must(north.Heal(r.ctx))
	healed := time.Now()
	r.together("north", "south")
	t.Logf("the tables agree %v after healing; a period is %v", time.Since(healed).Round(time.Millisecond), period)
	r.hands(a, "insert", "card1")
	r.shows(a, newer)
	if at := r.status(a, "server"); at != r.at("south") {
		t.Errorf("a is at %s", at)
	}
	all, _ := heard.All()
	if slices.ContainsFunc(all, func(d netlab.Datagram) bool {
		return group.Kind(d.Data) == group.CmdHost && d.To.Addr() == r.node("b").Bcast
	}) {
		t.Error("a host that was told not to has broadcast")
	}
}

// A terminal that its session's host no longer reaches, while the other hosts
// reach both: it says so, makes no second session, and has its session again
// when the way is open.
func TestNetnsUnreachable(t *testing.T) {
	r := newRealm(t, []string{"north", "south", "a"})
	r.host("north", nil)
	r.host("south", nil)
	r.together("north", "south")
	a := r.terminal("a")
	r.see(a, "picture")
	r.hands(a, "insert", "card1")
	r.desk(a)
	r.paint(a, "2a7f62")
	at := r.status(a, "server")
	for _, h := range []string{"north", "south"} {
		if at == r.at(h) {
			r.must(r.node("a").Cut(r.ctx, r.node(h)))
		}
	}
	r.see(a, "osd=25") // the other host says where the session is
	r.must(r.node("a").Heal(r.ctx))
	r.colour(a, "2a7f62")
	if to := r.status(a, "server"); to != at || r.sessions() != 1 {
		t.Errorf("a is at %s, the session at %s; sessions: %d", to, at, r.sessions())
	}
}

// A host dies, by its processes or by its cable: its terminal has a session
// elsewhere without anybody's doing.
func TestNetnsDeath(t *testing.T) {
	r := newRealm(t, []string{"one", "two", "three", "a"})
	hosts := []string{"one", "two", "three"}
	for _, h := range hosts {
		r.host(h, nil)
	}
	r.together(hosts...)
	a := r.terminal("a")
	r.see(a, "picture")
	r.hands(a, "insert", "card1")
	r.desk(a)
	for _, death := range []struct {
		name string
		do   func(*lab.Host)
	}{
		{"processes killed", func(h *lab.Host) {
			for _, pid := range h.Machine() {
				_ = unix.Kill(pid, unix.SIGKILL) // some are gone with others
			}
		}},
		{"cable cut", func(h *lab.Host) { r.must(r.node(h.Name).Link(r.ctx, false)) }},
	} {
		r.paint(a, "2a7f62")
		at := r.status(a, "server")
		began := time.Now()
		for _, h := range hosts {
			if at == r.at(h) {
				death.do(r.hosts[h])
			}
		}
		// The new session's own background: not a pixel of the old picture.
		r.see(a, "picture", corner+rootColour, "pixel=400,300,"+xtermColour)
		took := time.Since(began)
		now := r.status(a, "server")
		if now == at {
			t.Errorf("%s: a is at %s as before", death.name, now)
		}
		t.Logf("%s: from %s to a desktop at %s in %v", death.name, at, now, took.Round(time.Millisecond))
		r.rest(a)
	}
}

// rootColour is the background of the default session.
const rootColour = "2f4858"
