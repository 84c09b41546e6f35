package simulate

import (
	"fmt"
	"net/netip"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/dtu/terminal"
	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
)

// What a terminal's program does, as dtu/app does.
const (
	connectWithin = 3 * time.Second
	silence       = time.Second     // of media, while a session is shown
	silenceIdle   = 5 * time.Second // and otherwise
)

// Unit is a terminal.
type Unit struct {
	w     *World
	name  string
	id    alp.TerminalID
	net   *Net
	addr  netip.Addr
	knows bool // is configured with servers
	m     *terminal.Machine
	find  *bootstrap.Machine
	alarm alarm
	hunt  alarm
	conns map[int]*conn // by number
	media *medium
	card  int // number of the one that is in; 0: none
	cards int
	token alp.Token
	state string        // as it was last told
	chose *presentation // whose user chose a session beside another
	queue []terminal.Event
	busy  bool
	did   insertions
}

// Unit adds a terminal on a net, switched off. Servers are the hosts that it
// is configured with; with none it asks the network.
func (w *World) Unit(name string, n *Net, servers ...*Host) *Unit {
	i := len(w.units) + 1
	u := &Unit{w: w, knows: len(servers) > 0, name: name, net: n, addr: n.unit(len(n.units) + 1), id: alp.TerminalID(fmt.Sprintf("0200%08x", i)), conns: map[int]*conn{}, did: insertions{proven: map[int]bool{}}, alarm: alarm{at: -1}, hunt: alarm{at: -1}}
	id := alp.Identity{Firmware: "simulated", Hardware: "Hotdesk", Terminal: u.id, Port: 1}
	u.m = terminal.New(terminal.Config{Identity: id, Layout: "us", Width: 1280, Height: 1024})
	cfg := bootstrap.Config{Broadcast: len(servers) == 0, Question: group.ServerQ{Hardware: id.Hardware, Terminal: id.Terminal}, Seed: w.rnd.Uint64()}
	for _, h := range servers {
		at := h.addrOn(n)
		if !at.IsValid() {
			at = h.ifaces[0].IP
		}
		cfg.Servers = append(cfg.Servers, netip.AddrPortFrom(at, controlPort))
	}
	u.find = bootstrap.New(cfg)
	n.units = append(n.units, u)
	w.units = append(w.units, u)
	w.unitAt[u.addr] = u
	w.unitBy[u.id] = u
	w.named[name] = u
	return u
}

// On switches the terminal on.
func (u *Unit) On() { u.step(terminal.PowerOn{}) }

// Insert pushes a card in.
func (u *Unit) Insert(token alp.Token) {
	if u.card != 0 {
		u.Remove()
	}
	u.cards++
	u.card, u.token = u.cards, token
	n := u.card
	u.step(terminal.CardIn{Card: n})
	kind, id := split(token)
	u.w.after(20*time.Millisecond, func() { u.step(terminal.CardRead{Card: n, Type: kind, ID: id, ATR: []byte{0x3b, 0}}) })
}

func split(t alp.Token) (kind, id string) {
	for i := range t {
		if t[i] == '.' {
			return string(t[:i]), string(t[i+1:])
		}
	}
	return "", string(t)
}

// Remove pulls the card out.
func (u *Unit) Remove() {
	if u.card != 0 {
		n := u.card
		u.card, u.token = 0, ""
		u.step(terminal.CardOut{Card: n})
		u.checkOut(n)
	}
}

// step steps the machine, and performs what comes of it before the next event.
func (u *Unit) step(e terminal.Event) {
	u.queue = append(u.queue, e)
	if u.busy {
		return
	}
	u.busy = true
	for len(u.queue) > 0 {
		e := u.queue[0]
		u.queue = u.queue[1:]
		u.w.Steps++
		u.perform(u.m.Step(base.Add(u.w.now), e))
		if _, up := e.(terminal.ControlUp); up {
			if st := u.m.Status(); st.Control {
				u.find.Took(st.Server)
			}
		}
	}
	u.busy = false
	u.tell()
	u.arm()
}

func (u *Unit) arm() {
	always := func() bool { return true }
	if next := u.m.Next(); !next.IsZero() {
		u.alarm.set(u.w, next.Sub(base)-u.w.now, u.name, always, func() {
			u.w.Steps++
			u.perform(u.m.Tick(base.Add(u.w.now)))
			u.tell()
			u.drain()
		})
	}
	if next := u.find.Next(); !next.IsZero() {
		u.hunt.set(u.w, next.Sub(base)-u.w.now, u.name+"'s search", always, func() {
			u.seek(u.find.Tick(base.Add(u.w.now)))
			u.drain()
		})
	}
}

// drain steps what is queued.
func (u *Unit) drain() {
	q := u.queue
	u.queue = nil
	for _, e := range q {
		u.step(e)
	}
	u.arm()
}

func (u *Unit) perform(actions []terminal.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case terminal.Locate:
			u.seek(u.find.Locate(base.Add(u.w.now), bootstrap.From(a.From)))
		case terminal.Connect:
			u.dial(a)
		case terminal.CloseControl:
			if c := u.conns[a.Control]; c != nil {
				c.leave()
			}
		case terminal.Send:
			if c := u.conns[a.Control]; c != nil {
				c.send(a.Message)
			}
		case terminal.OpenMedia:
			u.openMedia(a)
		case terminal.Exchange:
			u.exchange(a)
		case terminal.AskPIN:
			u.askPIN(a)
		case terminal.EndProof:
			if u.did.prompt == a.Card {
				u.did.prompt = 0
			}
		case terminal.CloseMedia:
			if m := u.media; m != nil && m.id == a.Media {
				u.media = nil
				u.w.after(u.w.delay(), func() { m.left(u.w) })
			}
		}
	}
}

func (u *Unit) seek(actions []bootstrap.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case bootstrap.Found:
			u.queue = append(u.queue, terminal.Found{Servers: a.Servers})
		case bootstrap.Ask:
			u.ask(a.Question)
			u.queue = append(u.queue, terminal.Searched{})
		}
	}
}

// ask broadcasts a question.
func (u *Unit) ask(q group.ServerQ) {
	data := q.Append(nil)
	from := netip.AddrPortFrom(u.addr, 49152)
	for _, h := range u.net.hosts {
		u.w.carry(u.name, h.name, func() { h.step(engine.Packet{From: from, Data: data}) })
	}
}

// packet is a datagram that came to the terminal.
func (u *Unit) packet(data []byte) {
	if r, err := group.ParseServerR(data); err == nil {
		u.seek(u.find.Answer(base.Add(u.w.now), r))
		u.drain()
	}
}

// tell says what the terminal shows, when that changed.
func (u *Unit) tell() {
	if u.w.Trace == nil {
		return
	}
	if s := u.Shows(); s != u.state {
		u.state = s
		u.w.say("%s: %s", u.name, s)
	}
}

// Shows is what the terminal shows, in words.
func (u *Unit) Shows() string {
	st := u.m.Status()
	s := string(st.State)
	switch {
	case st.State == terminal.Picture || st.State == terminal.Reconnecting:
		if ses := u.w.ids[st.Session]; ses != nil {
			s += fmt.Sprintf(": %v on %s", ses, ses.host.name)
		} else if st.Session != "" {
			s += ": a session that is gone"
		} else if h := u.w.hostAt[st.Server.Addr()]; h != nil {
			if _, asked := u.asked(); asked != nil {
				s += ": question of " + h.name
			} else {
				s += ": screen of " + h.name
			}
		}
	case st.OSD.Code != 0:
		s += fmt.Sprintf(" (%d %s)", st.OSD.Code, st.OSD.Title)
	}
	return s
}
