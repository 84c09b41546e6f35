package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/dtu/network"
	"hotdesk/dtu/osd"
	"hotdesk/dtu/terminal"
	"hotdesk/dtu/trust"
)

// On-screen codes of the way to a server (alp.md section 10).
const (
	codeLink = 1
	codeDHCP = 21
)

// Keys that answer a question on the screen (USB HID usages).
const (
	keyReturn = 0x28
	keyEscape = 0x29
	keyEnter  = 0x58
)

// maxDeclined bounds the groups that a person declined and is not asked about
// again.
const maxDeclined = 64

// A way is what the loop knows of the network and of trust.
type way struct {
	net      network.State
	shown    *network.State // the same for the status; nil: no DHCP
	declined []trust.Print
	whole    bool       // the question on the screen shows the whole fingerprint
	plug     netip.Addr // whose interface's link is watched; zero: none yet
}

// resolved is what DNS answered.
type resolved struct {
	servers []netip.AddrPort
	err     error
}

// A decision is a person's on the group whose fingerprint the screen shows.
type decision struct {
	about  *trust.Unknown
	accept bool
	named  bool       // with the fingerprint, that the screen need not show then
	answer chan error // has room
}

// networkIs takes in what became of the network.
func (s *shell) networkIs(st network.State) {
	if was := s.way.net.Link; was != st.Link && s.machine.Status().OSD.Code == 0 {
		// The picture stays until its host counts as dead; say at once why it
		// stands still.
		s.screen.Notice(nil)
		if was {
			s.screen.Notice(osd.Corner(osd.Message{Code: codeLink, Title: "The network cable is out"}))
		}
	}
	s.way.net, s.way.shown = st, &st
	s.step(terminal.Link{Up: st.Link})
	now := time.Now()
	if p := st.Lease.Options.Fingerprint; st.Settled && p != nil {
		s.trust.Named(trust.Print(p))
	}
	// Where DHCP names whom to trust nobody is talked to before it has spoken.
	heard := st.Settled || st.Silent
	ready := st.Up && (s.cfg.Trust != trust.DHCP || heard || len(s.trust.Fingerprints()) > 0)
	if heard {
		s.find(s.finder.Learn(now, s.net.Servers(st)))
	}
	s.find(s.finder.Network(now, ready))
	s.redraw()
	s.drain()
}

// watchPlug watches the link of the interface that servers are reached through,
// where there is no DHCP client that does.
func (s *shell) watchPlug(own netip.Addr) {
	if s.net != nil || s.way.plug == own || own.IsLoopback() {
		return
	}
	if s.way.plug.IsValid() {
		return // another interface: what is known of the first is no help, and no harm
	}
	s.way.plug = own
	s.wg.Go(func() {
		err := network.Plug(s.ctx, own, func(up bool) { s.fromNetwork(terminal.Link{Up: up}) })
		if err != nil {
			s.log.Info("the network's link is not watched", "reason", err.Error())
		}
	})
}

// redraw shows what the screen says anew, unless a picture is there or comes.
func (s *shell) redraw() {
	if o := s.machine.Status().OSD; o.Code != 0 && s.media == nil {
		s.osd = &o
	}
}

// says is what the screen says: the way to a server goes before what the
// terminal says of servers.
func (s *shell) says(o terminal.OSD) terminal.OSD {
	if o.Code == 0 {
		return o
	}
	if u := s.prompt.Load(); u != nil {
		var q terminal.OSD
		q, s.way.whole = s.question(u)
		return q
	}
	switch o.Code {
	case terminal.CodeServer, terminal.CodeNetworkDown, terminal.CodeDisconnected, terminal.CodeBroadcast:
	default:
		return o // of a card, or of a server that answers
	}
	switch n := s.way.net; {
	case s.way.shown == nil || n.Up:
	case !n.Link:
		return terminal.OSD{Code: codeLink, Title: "No network cable", Text: "The terminal waits for the network on " + s.cfg.DHCP + ". Check that the cable is plugged in at both ends."}
	case n.Taken.IsValid():
		return terminal.OSD{Code: codeDHCP, Title: "The network address is in use", Text: "Another machine has the address " + n.Taken.String() + ", which the DHCP server gave this terminal. It asks for another; tell the administrator."}
	case n.Silent:
		return terminal.OSD{Code: codeDHCP, Title: "No network address", Text: "No DHCP server answers. The terminal goes on asking; tell the administrator."}
	default:
		return terminal.OSD{Code: codeDHCP, Title: "Waiting for a network address", Text: "The terminal has asked the DHCP server."}
	}
	return o
}

// question is what the screen asks about a group, and whether it shows the whole
// fingerprint: where it does not, nobody can say that it is the right one.
func (s *shell) question(u *trust.Unknown) (q terminal.OSD, whole bool) {
	print := u.Print.Spaced()
	half := len(print) / 2 // a space
	print = print[:half] + "\n" + print[half+1:]
	w, h := s.screen.Size()
	for _, q = range []terminal.OSD{
		{Title: "Is this your group of servers?", Text: "This terminal trusts no group yet. Compare with what your administrator gave you:\n" + print +
			"\nReturn trusts this group from now on. Escape declines."},
		{Title: "Your group? Return: yes", Text: print},
	} {
		q.Code = terminal.CodeUntrusted
		if osd.Whole(w, h, osd.Message{Code: q.Code, Letter: s.letter(), Title: q.Title, Text: q.Text}) {
			return q, true
		}
	}
	return terminal.OSD{Code: terminal.CodeUntrusted, Title: "Screen too small", Text: "It cannot show the servers' fingerprint: use a larger one, or 'dtu ctl accept' with the fingerprint."}, false
}

// letter is what DHCP gave.
func (s *shell) letter() string { return s.way.net.Lease.Letter() }

// resolve asks DNS.
func (s *shell) resolve() {
	l := s.way.net.Lease
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, bootstrap.ResolveWait)
		defer cancel()
		servers, err := network.Resolve(ctx, l)
		s.fromNetwork(resolved{servers, err})
	})
}

func (s *shell) resolved(v resolved) {
	if v.err != nil {
		s.log.Info("no servers from DNS", "reason", v.err.Error())
	}
	s.find(s.finder.Resolved(time.Now(), v.servers))
	s.drain()
}

// trusted are the fingerprints for the status.
func (s *shell) trusted() []string {
	var all []string
	for _, p := range s.trust.Fingerprints() {
		all = append(all, p.String())
	}
	return all
}

func (s *shell) asked() string {
	if u := s.prompt.Load(); u != nil {
		return u.Print.String()
	}
	return ""
}

// unknown asks about a server's group. While a question is on the screen it
// stays: what is accepted is what was read.
func (s *shell) unknown(u *trust.Unknown) {
	if s.prompt.Load() != nil || slices.Contains(s.way.declined, u.Print) || len(s.trust.Fingerprints()) > 0 {
		return
	}
	s.log.Warn("a group that is not known yet", "fingerprint", u.Print.String())
	s.prompt.Store(u)
	// The words go on the screen before a key counts for them: the loop draws
	// at the end of this step, and the person needs longer than that to read.
	s.redraw()
}

// errNotAsked is what accepting gets where the screen asks nothing.
var errNotAsked = errors.New("dtu: the screen asks for no decision; 'wait osd=15' first")

// errNotShown is what accepting gets where nobody could compare.
var errNotShown = errors.New("dtu: the screen is too small to show the whole fingerprint; nothing was accepted: name it, 'accept FINGERPRINT'")

// decide carries out a decision; it counts for what the screen shows.
func (s *shell) decide(d decision) error {
	u := s.prompt.Load()
	if u == nil || u != d.about {
		return errNotAsked
	}
	if !d.accept {
		s.log.Warn("group declined", "fingerprint", u.Print.String())
		if len(s.way.declined) < maxDeclined {
			s.way.declined = append(s.way.declined, u.Print)
		}
		s.prompt.Store(nil)
		s.redraw()
		return nil
	}
	if !s.way.whole && !d.named {
		s.log.Warn("group not accepted: the screen is too small for its fingerprint", "fingerprint", u.Print.String())
		return errNotShown
	}
	if err := s.trust.Accept(u); err != nil {
		s.log.Error("group not accepted", "reason", err.Error())
		return err
	}
	s.log.Warn("group accepted", "fingerprint", u.Print.String())
	s.prompt.Store(nil)
	s.step(terminal.PowerCycle{}) // from the start, now that servers are believed
	return nil
}

// decideLater hands a decision to the loop.
func (s *shell) decideLater(u *trust.Unknown, accept bool) {
	s.fromHere(decision{about: u, accept: accept, answer: make(chan error, 1)})
}

// ctlDecide decides and waits for what comes of it.
func (s *shell) ctlDecide(ctx context.Context, print string, accept bool) error {
	u := s.prompt.Load()
	if u == nil {
		return errNotAsked
	}
	if print != "" {
		p, err := trust.ParsePrint(print)
		if err != nil {
			return err
		}
		if p != u.Print {
			return errors.New("dtu: the screen shows another fingerprint, " + u.Print.String() + "; nothing was accepted")
		}
	}
	d := decision{u, accept, print != "", make(chan error, 1)}
	s.fromHere(d)
	select {
	case err := <-d.answer:
		return err
	case <-s.over:
		return errOff
	case <-ctx.Done():
		return ctx.Err()
	}
}
