package app

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hotdesk/dtu/bootstrap"
	"hotdesk/dtu/network"
	"hotdesk/dtu/osd"
	"hotdesk/dtu/screen"
	"hotdesk/dtu/terminal"
	"hotdesk/dtu/trust"
	"hotdesk/dtu/viewer"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
)

// readWithin is how long a card may take to be named.
const readWithin = 5 * time.Second

// firmware is what the terminal calls its software.
const firmware = "Hotdesk-1"

// hardware is what it calls itself.
const hardware = "HotdeskDTU"

// A shell is the loop round the machines and what they steer.
type shell struct {
	cfg     Config
	log     *slog.Logger
	trust   *trust.Store
	net     Network          // nil: no DHCP
	cards   *emulated.Reader // nil: none
	readers []reader.Source  // that one too
	screen  *screen.Screen
	rules   []identity.Rule
	hotkeys hotkeys

	local  chan any // what happens at the terminal
	remote chan any // what comes from the network
	over   chan struct{}

	// target is where input goes; empty while no picture is shown.
	target atomic.Pointer[viewer.Viewer]
	status *board
	// prompt is what Return accepts and Escape declines; nil: nothing.
	prompt atomic.Pointer[trust.Unknown]
	// pad is where a PIN is typed; nil: none is asked for.
	pad atomic.Pointer[pad]

	// Below: the loop's own.
	wg       sync.WaitGroup
	ctx      context.Context
	machine  *terminal.Machine
	finder   *bootstrap.Machine
	asker    *asker
	ears     ears
	control  *control         // the connection that is up
	dials    map[int]*control // those that are being made, by number
	media    *mediaConn
	osd      *terminal.OSD // to be drawn at the end of the step
	dark     bool          // no session's pixels are on the screen
	in       []cardIn
	ruled    string // version of rules; empty: the terminal's own
	pinned   int    // the card whose PIN may be verified
	counters Counters

	inserted      time.Time // a card came and its session is not shown yet
	cardToPicture string    // for the status

	way way // of the network and of trust

	events []terminal.Event // that came of performing actions
}

// A cardIn is a card that is in, and its number.
type cardIn struct {
	card reader.Card
	n    int
	lock *cardLock // held for every dialogue with it
}

// named is what came of reading a card.
type named struct {
	n     int
	rules string // version of those that named it
	token identity.Token
	err   error
}

func newShell(cfg Config, store *trust.Store, readers readerSet) *shell {
	id := alp.Identity{Firmware: firmware, Hardware: hardware, Terminal: cfg.MAC, Port: 1}
	var seed [8]byte
	rand.Read(seed[:])
	return &shell{
		cfg: cfg, log: cfg.Log.With("terminal", string(cfg.MAC)), trust: store, cards: readers.emulated, readers: readers.sources,
		screen: screen.New(cfg.Width, cfg.Height),
		rules:  identity.Rules(),
		local:  make(chan any, 16), remote: make(chan any, 16), over: make(chan struct{}),
		status: newBoard(), dials: map[int]*control{},
		machine: terminal.New(terminal.Config{
			Identity: id, Layout: cfg.Layout, Width: cfg.Width, Height: cfg.Height,
		}),
		finder: bootstrap.New(bootstrap.Config{
			Servers: cfg.Servers, Broadcast: cfg.GroupPort != 0, Learns: cfg.DHCP != "" || cfg.Net != nil, Order: cfg.Find,
			Question: group.ServerQ{Hardware: hardware, Terminal: cfg.MAC},
			Seed:     binary.BigEndian.Uint64(seed[:]),
		}),
	}
}

// post hands something to the loop through ch; after its end it is dropped.
func (s *shell) post(ch chan any, v any) {
	select {
	case ch <- v:
	case <-s.over:
	}
}

func (s *shell) fromNetwork(v any) { s.post(s.remote, v) }
func (s *shell) fromHere(v any)    { s.post(s.local, v) }

// run is the loop. It returns when all that it started has ended.
func (s *shell) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	s.ctx = ctx
	defer s.wg.Wait()
	defer close(s.over)
	defer cancel()
	s.watchReaders(ctx)
	if s.net != nil {
		s.wg.Go(func() { s.net.Run(ctx, func(st network.State) { s.fromNetwork(st) }) })
		s.find(s.finder.Network(time.Now(), false))
	}
	if s.cfg.GroupPort != 0 {
		s.wg.Go(func() { s.ears.eavesdrop(ctx, &s.wg, s.cfg.Local, s.cfg.GroupPort, s.fromNetwork) })
	}
	s.step(terminal.PowerOn{})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.publish()
		if next := s.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case v := <-s.local:
			s.take(v)
			continue
		default:
		}
		select {
		case v := <-s.local:
			s.take(v)
		case v := <-s.remote:
			s.take(v)
		case <-timer.C:
			now := time.Now()
			s.perform(s.machine.Tick(now))
			s.find(s.finder.Tick(now))
			s.drain()
		case <-ctx.Done():
		}
	}
	s.target.Store(nil)
	if s.media != nil {
		s.media.close("terminal off")
	}
	for _, c := range s.dials {
		c.close()
	}
	if s.control != nil {
		s.control.close()
	}
}

func (s *shell) next() time.Time {
	a, b := s.machine.Next(), s.finder.Next()
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// take handles one thing that was posted.
func (s *shell) take(v any) {
	switch v := v.(type) {
	case reader.Event:
		s.cardEvent(v)
	case named:
		s.cardNamed(v)
	case network.State:
		s.networkIs(v)
	case resolved:
		s.resolved(v)
	case *trust.Unknown:
		s.unknown(v)
	case padChanged:
		s.redraw()
	case pinTyped:
		s.verify(v)
	case decision:
		v.answer <- s.decide(v)
	case group.ServerR:
		s.find(s.finder.Answer(time.Now(), v))
		s.drain()
	case heard:
		s.finder.Heard(s.ears.servers())
	case connected:
		c := s.dials[v.Control]
		if c == nil {
			return // given up meanwhile
		}
		delete(s.dials, v.Control)
		c.addr = v.local
		s.control = c
		s.watchPlug(v.local)
		s.log.Info("control connection up", "peer", c.to)
		s.finder.Took(c.to)
		s.step(v.ControlUp)
	case terminal.ControlDown:
		if c := s.dials[v.Control]; c != nil {
			s.log.Info("control connection not made", "peer", c.to, "reason", v.Reason)
			delete(s.dials, v.Control)
		}
		if s.control != nil && s.control.id == v.Control {
			s.log.Info("control connection down", "peer", s.control.to, "reason", v.Reason)
			s.control = nil
		}
		s.step(v)
	case terminal.MediaDrawn:
		if s.media != nil && s.media.id == v.Media {
			s.target.Store(s.media.viewer()) // before anybody is told of the picture
		}
		s.step(v)
		if s.media != nil && s.media.id == v.Media {
			s.counters.Pictures++
			if !s.inserted.IsZero() && s.machine.Status().Session != "" {
				took := time.Since(s.inserted)
				s.cardToPicture, s.inserted = took.String(), time.Time{}
				s.log.Info("session on the screen", "since the card came", took)
			}
		}
	case terminal.MediaDown:
		if s.media != nil && s.media.id == v.Media {
			s.log.Info("media connection down", "reason", v.Reason, "code", v.Code, "peer closed", v.Peer)
			s.target.Store(nil)
			s.media = nil
		}
		s.step(v)
	case terminal.Resized:
		s.screen.Resize(v.Width, v.Height)
		s.step(v)
	case terminal.Event:
		s.step(v)
	}
}

// step steps the machine and performs what comes of it, to the end.
func (s *shell) step(e terminal.Event) {
	s.trace("event", e)
	s.perform(s.machine.Step(time.Now(), e))
	s.publish()
	s.drain()
}

func (s *shell) drain() {
	for len(s.events) > 0 {
		e := s.events[0]
		s.events = s.events[1:]
		s.trace("event", e)
		s.perform(s.machine.Step(time.Now(), e))
		s.publish()
	}
}

// froms is the finder's word for the terminal's.
var froms = map[terminal.From]bootstrap.From{
	terminal.FromKnown: bootstrap.FromKnown, terminal.FromNext: bootstrap.FromNext, terminal.FromNetwork: bootstrap.FromNetwork,
	terminal.FromAll: bootstrap.FromAll,
}

// trace logs what goes in and out of the machine.
func (s *shell) trace(what string, v any) {
	if s.log.Enabled(s.ctx, slog.LevelDebug) {
		s.log.Debug("machine", what, fmt.Sprintf("%T %v", v, v))
	}
}

func (s *shell) perform(actions []terminal.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case terminal.Blank:
			s.target.Store(nil)
			if a.OSD.Code != terminal.CodePIN {
				s.closePad()
			}
			if !s.dark {
				s.screen.Blank(nil) // at once; drawing words takes its time
				s.dark = true
			}
			s.osd = &a.OSD
		case terminal.Notice:
			if a.Text == "" {
				s.screen.Notice(nil)
			} else {
				s.screen.Notice(osd.Corner(osd.Message{Code: a.Code, Title: a.Text}))
			}
		case terminal.AskPIN:
			s.lockOf(a.Card).reserve()
			s.askPIN(a)
		case terminal.AskTries:
			s.askTries(a)
		case terminal.Exchange:
			s.lockOf(a.Card).reserve()
			s.exchange(a)
		case terminal.EndProof:
			s.endProof(a)
			s.lockOf(a.Card).free()
		case terminal.SetRules:
			s.setRules(a)
		case terminal.NameCard:
			s.nameCard(a.Card)
		case terminal.Locate:
			s.finder.Heard(s.ears.servers())
			s.find(s.finder.Locate(time.Now(), froms[a.From]))
		case terminal.Connect:
			s.counters.Connects++
			s.dials[a.Control] = connect(s.ctx, &s.wg, a.Control, a.Server, s.trust, s.cfg.Wire, s.fromNetwork)
		case terminal.CloseControl:
			if c := s.dials[a.Control]; c != nil {
				c.close()
				delete(s.dials, a.Control)
			}
			if s.control != nil && s.control.id == a.Control {
				s.control.close()
				s.control = nil
			}
		case terminal.Send:
			if s.control != nil && s.control.id == a.Control {
				s.control.send(a.Message)
			}
		case terminal.OpenMedia:
			s.counters.Attaches++
			s.media = openMedia(s.ctx, &s.wg, a.Media, viewer.Config{
				Addr: a.Addr, Cert: a.Cert, Hello: a.Hello, Log: s.log, Card: s.cardFor(a.Card), Wrap: s.wrap(a.Addr),
			}, s.fromNetwork)
			s.draw() // before the decoder: words would end it
			s.dark = false
			s.media.show(s.decoder())
		case terminal.CloseMedia:
			s.target.Store(nil)
			if s.media != nil && s.media.id == a.Media {
				s.media.close(a.Reason)
				s.media = nil
			}
		case terminal.TouchMedia:
			if s.media != nil && s.media.id == a.Media {
				s.media.touch()
			}
		case terminal.ResizeMedia:
			if s.media != nil && s.media.id == a.Media {
				s.media.resize(a.Width, a.Height)
			}
		}
		s.trace("action", a)
	}
}

// draw puts the words on the screen that were asked for last.
func (s *shell) draw() {
	if s.osd == nil {
		return
	}
	says := s.says(*s.osd)
	m := osd.Message{Code: says.Code, Letter: s.letter(), Title: says.Title, Text: says.Text, Terminal: s.cfg.MAC}
	m.Typed, m.Places = s.typed()
	if a := s.way.net.Lease.Addr; a.IsValid() {
		m.Addr = a.String()
	}
	if s.control != nil && s.control.addr.IsValid() {
		m.Addr = s.control.addr.String()
	}
	if st := s.machine.Status(); st.Server.IsValid() {
		m.Server = st.Server.String()
	}
	s.osd = nil
	if s.cfg.Count {
		return
	}
	w, h := s.screen.Size()
	words := &screen.Words{Ground: osd.Background}
	if card := osd.Draw(w, h, m); card != nil {
		words.Card = card
	}
	s.screen.Blank(words)
}

// wrap is what packets of a media connection go through, nil for nothing.
func (s *shell) wrap(to netip.AddrPort) func(net.PacketConn) net.PacketConn {
	if s.cfg.Wire == nil {
		return nil
	}
	return func(c net.PacketConn) net.PacketConn { return s.cfg.Wire.Packets(to, c) }
}

// decoder is what takes the pictures of the media connection.
func (s *shell) decoder() decoder {
	if s.cfg.Count {
		return new(screen.Counter)
	}
	return s.screen.Attach()
}

// find performs what the finder wants.
func (s *shell) find(actions []bootstrap.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case bootstrap.Found:
			s.events = append(s.events, terminal.Found{Servers: a.Servers})
		case bootstrap.Resolve:
			s.resolve()
		case bootstrap.Ask:
			var e terminal.Searched
			if err := s.ask(a.Question); err != nil {
				e.Error = err.Error()
				s.log.Info("question for a server not sent", "reason", err.Error())
			}
			s.events = append(s.events, e)
		}
	}
}

func (s *shell) ask(q group.ServerQ) error {
	if s.asker == nil {
		a, err := newAsker(s.ctx, &s.wg, s.cfg.Local, s.cfg.GroupPort, s.fromNetwork)
		if err != nil {
			return err
		}
		s.asker = a
	}
	return s.asker.ask(q)
}

func (s *shell) cardEvent(e reader.Event) {
	switch e.Kind {
	case reader.Inserted:
		s.inserted = time.Now()
		s.counters.Inserts++
		n := s.counters.Inserts
		s.in = append(s.in, cardIn{e.Card, n, newCardLock()})
		s.step(terminal.CardIn{Card: n})
		s.nameCard(n)
	case reader.Removed:
		for i, c := range s.in {
			if c.card == e.Card {
				s.in = append(s.in[:i:i], s.in[i+1:]...)
				s.inserted = time.Time{}
				s.step(terminal.CardOut{Card: c.n})
				s.log.Info("card out")
				break
			}
		}
	}
}

func (s *shell) cardNamed(v named) {
	if v.err != nil {
		s.log.Warn("card not named", "reason", v.err.Error())
		s.step(terminal.CardUnreadable{Card: v.n, Reason: unreadable(v.err), Rules: v.rules})
		return
	}
	s.step(terminal.CardRead{Card: v.n, Type: v.token.Type, ID: v.token.ID, ATR: v.token.ATR, Rules: v.rules})
	s.log.Info("card named", "type", v.token.Type, "since it came", time.Since(s.inserted))
}
