package simulate

import (
	"net/netip"
	"slices"
	"time"

	"hotdesk/dtu/terminal"
	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

const (
	keeps    = 4 * time.Second         // a gateway may be away so long before its sessions are forgotten
	restarts = 1900 * time.Millisecond // a group manager that said goodbye is waited for so long
	margin   = 1500 * time.Millisecond // until a change is told to all
	nearly   = 100 * time.Millisecond  // connections so close together count as simultaneous
)

// checkSend is invariant 1.
func (w *World) checkSend(h *Host, d engine.Datagram) {
	kind := group.Kind(d.Data)
	if kind != group.CmdTokenQ && kind != group.CmdTokenR {
		return
	}
	if o := w.hostAt[d.To.Addr()]; o != nil && !h.shares(o) {
		w.broken("%s sent %s to %s, which never shared a key with it", h.name, kind, o.name)
	}
	if kind == group.CmdTokenQ && w.faults && len(h.asked) > 0 {
		if q, err := group.ParseTokenQ(d.Data); err == nil {
			h.follow(q)
		}
	}
}

// follow finds the lookup that a question belongs to: one that has asked
// nothing yet, or the one that has not asked for longest and began anew.
func (h *Host) follow(q group.TokenQ) {
	var a *asked
	for _, n := range sorted(h.asked) {
		o := h.asked[n]
		if o.q.Token != q.Token {
			continue
		}
		if o.id == q.ID {
			return
		}
		if a == nil || o.turn < a.turn {
			a = o
		}
	}
	if a != nil {
		h.turn++
		a.id, a.seen, a.turn = q.ID, "", h.turn
	}
}

func (h *Host) shares(o *Host) bool {
	for k := range h.shared {
		if o.shared[k] {
			return true
		}
	}
	return false
}

// note remembers what others answer to lookups under way. Answers of a life that
// was not heard of yet, and of those whose clock is refused, count for nothing.
func (h *Host) note(p engine.Packet) {
	switch kind := group.Kind(p.Data); {
	case kind == group.CmdHost && h.w.faults:
		if m, err := group.ParseHost(p.Data); err == nil && h.ring.Verify(p.Data) == nil {
			h.boots[m.Name] = m.Boot
		}
	case kind == group.CmdTokenR && h.w.faults && len(h.asked) > 0:
		r, err := group.ParseTokenR(p.Data)
		if err != nil || len(r.Found) == 0 || r.Found[0].ID == "" || h.ring.Verify(p.Data) != nil || h.boots[r.Host] != r.Boot {
			return
		}
		// What was recorded and said again by somebody else counts for nothing.
		if o, _ := h.w.named[r.Host].(*Host); o == nil || h.w.refused(h, o) || !slices.ContainsFunc(o.ifaces, func(i group.Interface) bool { return i.IP == p.From.Addr() }) {
			return
		}
		for _, a := range h.asked {
			if a.id == r.ID && a.q.Token == r.Token {
				a.seen = r.Host
			}
		}
	}
}

// inTouch reports whether x must know, at the end of a lookup that began at
// from, what y knew then (invariant 3).
func (w *World) inTouch(x, y *Host, from time.Duration) bool {
	calm := w.now - Period - margin
	switch {
	case x.rogue != y.rogue || !x.on || !y.on || x.eng == nil:
	case y.eng == nil && (y.gmLeft < 0 || w.now-y.gmLeft > restarts):
	case w.foul() || w.badUntil > calm:
	case !w.both(x.name, y.name):
	case y.eng != nil && y.gmUntil > from || y.eng == nil && y.gmWas > from || y.gwUntil > from:
	case y.gw == nil && w.now-y.gwLeft > keeps:
	case y.eng != nil && !y.told && (y.gw == nil || w.now-y.began > restarts):
	case w.refused(x, y):
	case !slices.Contains(x.ring, y.ring[0]) || !slices.Contains(y.ring, x.ring[0]):
	case !x.near(y):
	default:
		at, cut := w.cutAt[pair(x.name, y.name)]
		return !cut || at <= calm
	}
	return false
}

// refused reports whether one may refuse what the other says because of a clock.
func (w *World) refused(x, y *Host) bool {
	calm := w.now - Period - margin
	return x.odd() || y.odd() || x.oddUntil > calm || y.oddUntil > calm || x.backAt > calm-Down || y.backAt > calm-Down
}

// near reports whether two hosts are on one net.
func (h *Host) near(o *Host) bool {
	return slices.ContainsFunc(h.nets, func(n *Net) bool { return slices.Contains(o.nets, n) })
}

// checkNew is invariant 3 for a session that h is about to make because asker
// told it, or its terminal, that there is none.
func (w *World) checkNew(h, asker *Host, token alp.Token) {
	t := w.tracks[token]
	if t == nil || h.rogue {
		return
	}
	for _, s := range t.sessions {
		if s.host != h && w.inTouch(asker, s.host, w.now-margin) && w.inTouch(h, s.host, w.now-margin) {
			w.broken("%s makes a second session of %s, of which there is %v on %s", h.name, token, s, s.host.name)
		}
	}
}

// checkAnswer is the rest of invariant 3, and invariant 2.
func (w *World) checkAnswer(h *Host, q *asked, a local.Answer) {
	if h.rogue {
		return
	}
	if o, _ := w.named[a.Host].(*Host); o != nil && (a.Where == local.New || a.Where == local.There && a.Session == "") {
		w.checkAllowed(o, q.q.Token)
	}
	if q.q.Want == local.WantNew {
		return // checkChosen has that
	}
	if a.Where == local.There {
		w.checkTarget(h, q, a)
	}
	t := w.tracks[q.q.Token]
	if t == nil {
		return
	}
	if (a.Where == local.New || a.Where == local.There && a.Session == "") && q.seen != "" {
		w.broken("%s says that %s has no session, though %s told it of one", h.name, q.q.Token, q.seen)
	}
	named := w.ids[a.Session]
	own := slices.ContainsFunc(t.sessions, func(s *session) bool { return s.host == h })
	for _, s := range t.sessions {
		if !s.ready || s.lastAt >= q.from || s == named || s.host != h && !w.inTouch(h, s.host, q.from) {
			continue
		}
		switch {
		case named == nil && a.Session == "":
			w.broken("%s answers %q for %s, of which there is %v on %s", h.name, a.Where, q.q.Token, s, s.host.name)
		case named != nil && own && s.host.gone > q.from-3*time.Second:
			// While its group manager starts again, what is here is good enough.
		case named != nil && s.lastAt > named.lastAt+nearly:
			w.broken("%s takes %v on %s for the newest, which is %v on %s, later by %v", h.name, named, named.host.name, s, s.host.name, s.lastAt-named.lastAt)
		}
	}
}

// Allow has new sessions of a token be for some hosts alone.
func (w *World) Allow(token alp.Token, hosts ...string) {
	if w.rules == nil {
		w.rules = map[alp.Token][]string{}
	}
	w.rules[token] = hosts
}

func (w *World) allows(token alp.Token, h *Host) bool {
	hosts := w.rules[token]
	return len(hosts) == 0 || slices.Contains(hosts, h.name)
}

// checkAllowed is invariant 8.
func (w *World) checkAllowed(h *Host, token alp.Token) {
	if !h.rogue && !w.allows(token, h) {
		w.broken("%s is to give a session of %s, which is for %v alone", h.name, token, w.rules[token])
	}
}

func (w *World) checkTarget(h *Host, q *asked, a local.Answer) {
	o := w.hostAt[a.Target.Addr()]
	u := w.unitBy[q.q.Terminal]
	switch {
	case o == nil || o.name != a.Host || a.Target.Port() != controlPort:
		w.broken("%s sends a terminal to %v, which is not %s", h.name, a.Target, a.Host)
	case o.rogue:
		w.broken("%s sends a terminal to the rogue %s", h.name, o.name)
	case u != nil && !w.reaches(u, a.Target.Addr()):
		w.broken("%s sends %s to %s at %v, which it cannot reach", h.name, u.name, a.Host, a.Target.Addr())
	}
}

// reaches reports whether the networks carry what a terminal sends to a host's
// address: on its own net, or through a router where that has no host.
func (w *World) reaches(u *Unit, a netip.Addr) bool {
	if u.net.has(a) {
		return true
	}
	o := w.hostAt[a]
	return len(u.net.hosts) == 0 && o != nil && o.ifaces[0].IP == a
}

// Heal ends every fault: all is on, every clock right, every key the last one.
func (w *World) Heal(r group.Ring) {
	w.Mend()
	for _, h := range w.hosts {
		if h.rogue {
			continue
		}
		h.Step(-h.off)
		h.Keys(r)
		h.State(group.Online)
		h.On()
		h.StartGroup()
		h.StartGateway()
	}
}

// AgreeWithin is how long after Heal Agree must hold.
func (w *World) AgreeWithin() time.Duration {
	for _, h := range w.hosts {
		if w.now-h.backAt < Down+Period {
			return Down + Period + margin
		}
	}
	return Period + margin
}

// Agree is invariant 5.
func (w *World) Agree() {
	for _, x := range w.hosts {
		if x.eng == nil || x.rogue {
			continue
		}
		rows := x.table()
		for _, y := range w.hosts {
			if y == x || !x.near(y) {
				continue
			}
			r, known := rows[y.name]
			switch {
			case y.rogue:
				if known && r.Trusted {
					w.broken("%s trusts the rogue %s", x.name, y.name)
				}
			case !y.on:
				if known && r.Trusted && !r.Down && w.now-y.gmUntil > Down+margin {
					w.broken("%s has %s as up, which is off", x.name, y.name)
				}
			case !known || !r.Trusted || r.Down || r.Suspect:
				w.broken("%s has %s as trusted %v, down %v, suspect %v: %s", x.name, y.name, r.Trusted, r.Down, r.Suspect, r.Why)
			case y.linked && (r.Control != controlPort || r.Sessions != len(y.run)):
				w.broken("%s has %s with port %d and %d sessions, it has %d", x.name, y.name, r.Control, r.Sessions, len(y.run))
			}
		}
	}
}

// table is the host's table, trusted rows before others of the same name.
func (h *Host) table() map[string]local.TableHost {
	rows := map[string]local.TableHost{}
	for after := 0; ; {
		page := h.eng.Table(h.clock(), local.TableRequest{After: after})
		for _, r := range page.Hosts {
			if old, ok := rows[r.Host]; !ok || !old.Trusted {
				rows[r.Host] = r
			}
		}
		after += len(page.Hosts)
		if !page.More {
			return rows
		}
	}
}

// maxPairs bounds what Rest asks: of more pairs of a token and a host it takes
// some, spread evenly.
const maxPairs = 2000

// Rest is invariants 6 and 7. It takes some time.
func (w *World) Rest() {
	tokens := sorted(w.tracks)
	stride := 1 + len(tokens)*len(w.hosts)/maxPairs
	n := 0
	for i := 0; i < len(tokens)*len(w.hosts); i += stride {
		w.after(time.Duration(n)*5*time.Millisecond, func() { w.newest(w.hosts[i%len(w.hosts)], tokens[i/len(w.hosts)]) })
		n++
	}
	w.Run(time.Duration(n)*5*time.Millisecond + time.Second)
	for _, u := range w.units {
		if !slices.ContainsFunc(w.hosts, func(h *Host) bool {
			return h.gw != nil && !h.rogue && (u.knows || slices.Contains(h.nets, u.net))
		}) {
			continue // nobody to be found
		}
		switch st := u.m.Status(); st.State {
		case terminal.Picture, terminal.Refused, terminal.Disconnected, terminal.Off:
			if s := w.ids[st.Session]; st.Session != "" && (s == nil || u.media == nil || s.media != u.media) {
				w.broken("%s shows session %s, which is not shown there", u.name, st.Session)
			}
		default:
			w.broken("%s is still %s", u.name, u.Shows())
		}
	}
}

// newest asks x for a token, and compares.
func (w *World) newest(x *Host, token alp.Token) {
	var newest *session
	if t := w.tracks[token]; t != nil && !x.rogue && x.linked {
		for _, s := range t.sessions {
			if (s.host == x || w.inTouch(x, s.host, w.now)) && (newest == nil || s.lastAt > newest.lastAt) {
				newest = s
			}
		}
	}
	if newest == nil {
		return
	}
	q := local.Lookup{Token: token, Terminal: "0200ffffffff", Addr: x.nets[0].unit(1)}
	x.lookup(q, func(a local.Answer, ok bool) {
		got := w.ids[a.Session]
		if !ok || got == nil || got != newest && newest.lastAt-got.lastAt > atOnce {
			w.broken("%s takes %q %s for the newest of %s, which is %v on %s", x.name, a.Where, a.Session, token, newest, newest.host.name)
		}
	})
}
