package pcsclite

import (
	"encoding/binary"
	"slices"

	"hotdesk/smartcard/atr"
)

// request answers a request, or makes its client wait.
func (m *Machine) request(c *client, b Body) {
	if !c.greeted {
		if _, ok := b.(*Version); !ok {
			// SCardCancel opens a connection of its own, and greets nobody.
			if _, ok := b.(*Cancel); !ok {
				m.drop(c, "its first message is not its version")
				return
			}
		}
	}
	switch b := b.(type) {
	case *Version:
		m.version(c, b)
	case *Establish:
		b.RV, b.Context = InvalidValue, 0
		if b.Scope <= 3 {
			b.RV = Success
			b.Context = m.number(func(n uint32) bool { return m.byContext(n) != nil })
			c.context = b.Context
		}
		m.answer(c, b, nil)
	case *Release:
		switch {
		case c.context == 0:
			b.RV = InvalidHandle
		case c.context != b.Context:
			b.RV = InvalidValue
		default:
			b.RV = Success
			m.release(c)
		}
		m.answer(c, b, nil)
	case *ReaderStates:
		m.out = append(m.out, Send{c.id, AppendStates(nil, m.state)})
	case *Wait:
		c.listens = true
		m.out = append(m.out, Send{c.id, AppendStates(nil, m.state)})
	case *StopWaiting:
		if c.listens { // else the answer is the signal that is on its way
			c.listens = false
			m.out = append(m.out, Send{c.id, AppendSignal(nil, Success)})
		}
	case *Cancel:
		b.RV = InvalidHandle
		if other := m.byContext(b.Context); other != nil && other.listens {
			other.listens = false
			m.out = append(m.out, Send{other.id, AppendSignal(nil, Cancelled)})
			b.RV = Success
		}
		m.answer(c, b, nil)
	case *Connect:
		m.connect(c, b)
	default:
		m.withHandle(c, b)
	}
}

func (m *Machine) version(c *client, b *Version) {
	theirs := *b
	b.Major, b.Minor, b.RV = Major, Minor, Success
	c.greeted = true
	if theirs.Major != Major || theirs.Minor != Minor {
		b.RV = ServiceStopped
		m.answer(c, b, nil)
		m.drop(c, "its libpcsclite speaks protocol %d.%d, and this service speaks %d.%d (pcsc-lite 1.9.9, Debian 12): run the program with that library", int32(theirs.Major), int32(theirs.Minor), Major, Minor)
		return
	}
	m.answer(c, b, nil)
}

// withHandle serves what names a handle, which must be the client's.
func (m *Machine) withHandle(c *client, b Body) {
	n := *b.words()[0]
	if c.context == 0 || !slices.Contains(c.handles, n) {
		m.drop(c, "card handle %#x is not one of its own", n)
		return
	}
	h := m.handles[n]
	switch b := b.(type) {
	case *Reconnect:
		m.reconnect(c, h, b)
	case *Disconnect:
		m.disconnect(c, b)
	case *Begin:
		m.begin(c, h, b)
	case *End:
		m.end(c, h, b)
	case *Status:
		b.RV = m.good(n, h)
		m.answer(c, b, nil)
	case *Transmit:
		m.transmit(c, h, b)
	case *Control:
		m.control(c, b)
	case *Attrib:
		m.attrib(c, h, b)
	}
}

// good reports whether a handle may be used: no transaction of another, and
// nothing that it has not been told.
func (m *Machine) good(n uint32, h *handle) uint32 {
	if rv := m.sharing(n); rv != Success {
		return rv
	}
	return h.event
}

// preference tells what is wrong with a mode and protocols.
func preference(share, protocols uint32) uint32 {
	if share != Direct && protocols&(T0|T1|Raw|anyOld) == 0 {
		return ProtoMismatch
	}
	if share != Exclusive && share != Shared && share != Direct {
		return InvalidValue
	}
	return Success
}

// negotiate settles the protocol between card and program: T=1 where both have
// it, as pcscd does.
func (m *Machine) negotiate(share, protocols uint32) uint32 {
	switch {
	case protocols&Raw != 0:
		m.state.Protocol = Raw
	case share == Direct:
	case m.state.Protocol != 0:
		if protocols&m.state.Protocol == 0 {
			return ProtoMismatch
		}
	default:
		if protocols&anyOld != 0 {
			protocols = T0 | T1
		}
		switch offered := m.offered() & protocols; {
		case offered&T1 != 0:
			m.state.Protocol = T1
		case offered&T0 != 0:
			m.state.Protocol = T0
		default:
			return ProtoMismatch
		}
	}
	return Success
}

// offered is what the card can be spoken with: what its reader has settled on,
// as a card changes its protocol only with a reset.
func (m *Machine) offered() uint32 {
	if m.spoken != 0 {
		return m.spoken
	}
	return offers(m.state.ATR)
}

// offers are the protocols of an ATR.
func offers(b []byte) uint32 {
	a, err := atr.Parse(b)
	if err != nil {
		return T0 | T1 // what the reader made of it, it can speak
	}
	if p, _, ok := a.Specific(); ok && p <= 1 {
		return 1 << p
	}
	var set uint32
	for _, p := range a.Protocols() {
		if p <= 1 {
			set |= 1 << p
		}
	}
	return set
}

func (m *Machine) connect(c *client, b *Connect) {
	b.Card = 0
	fail := func(rv uint32) {
		b.RV = rv
		m.answer(c, b, nil)
	}
	switch rv := preference(b.Share, b.Protocols); {
	case rv != Success:
		fail(rv)
	case b.Name() != m.state.Name:
		fail(UnknownReader)
	case m.state.Sharing < 0:
		fail(SharingViolation)
	case m.lock != 0:
		m.hold(&wait{client: c, again: func() { m.connect(c, b) }})
	case b.Share != Direct && !m.present():
		fail(NoSmartcard)
	case b.Share != Direct && m.state.State&StateSwallowed != 0:
		fail(Unpowered)
	case c.context == 0:
		fail(InvalidHandle)
	case c.context != b.Context:
		fail(InvalidValue)
	case len(c.handles) >= MaxHandles:
		fail(NoMemory)
	default:
		if b.Share != Direct && !m.powered { // a program has powered it down
			m.powered = true
			m.state.State = StatePresent | StatePowered | StateNegotiable
		}
		if rv := m.negotiate(b.Share, b.Protocols); rv != Success {
			fail(rv)
			return
		}
		b.Active = m.state.Protocol
		if b.Share == Exclusive && m.state.Sharing != 0 {
			fail(SharingViolation)
			return
		}
		b.Card = m.number(func(n uint32) bool { return m.handles[n] != nil })
		m.handles[b.Card] = &handle{client: c}
		c.handles = append(c.handles, b.Card)
		m.share(b.Card, b.Share)
		fail(Success)
	}
}

func (m *Machine) reconnect(c *client, h *handle, b *Reconnect) {
	b.Active = 0
	fail := func(rv uint32) {
		b.RV = rv
		m.answer(c, b, nil)
	}
	if b.Init > Unpower {
		fail(InvalidValue)
		return
	}
	if b.Share != Exclusive && b.Share != Shared && b.Share != Direct {
		fail(InvalidValue)
		return
	}
	if rv := preference(b.Share, b.Protocols); rv != Success {
		fail(rv)
		return
	}
	if rv := m.sharing(b.Card); rv != Success {
		fail(rv)
		return
	}
	switch {
	case !m.present():
		fail(NoSmartcard)
	case b.Init != Leave:
		m.enqueue(&job{client: c, handle: b.Card, kind: KindReset, refuse: fail, done: func(r Result, _ []byte) {
			if r != Gone {
				m.resetAll()
			}
			m.afterReset(r, nil)
			switch r {
			case Gone:
				fail(NoSmartcard)
			case Mute:
				fail(Unresponsive)
			default:
				m.reconnected(h, b, fail)
			}
		}})
	case m.state.State&StateSwallowed != 0:
		fail(Unresponsive)
	default:
		m.reconnected(h, b, fail)
	}
}

// reconnected does what comes after the reset.
func (m *Machine) reconnected(h *handle, b *Reconnect, answer func(uint32)) {
	if rv := m.negotiate(b.Share, b.Protocols); rv != Success {
		answer(rv)
		return
	}
	if b.Share != Direct {
		m.powered = true
	}
	b.Active = m.state.Protocol
	switch {
	case b.Share == Exclusive && m.state.Sharing > 1:
		answer(SharingViolation)
		return
	case b.Share == Exclusive && m.state.Sharing == 1:
		m.state.Sharing = -1
		m.lock, m.locks = b.Card, m.locks+1
		m.signal()
	case b.Share != Exclusive && m.state.Sharing < 0:
		m.state.Sharing = 1
		if m.locks--; m.locks <= 0 {
			m.lock, m.locks = 0, 0
		}
		m.signal()
	}
	h.event = 0
	answer(Success)
}

func (m *Machine) disconnect(c *client, b *Disconnect) {
	if b.Disposition > Eject {
		b.RV = InvalidValue
		m.answer(c, b, nil)
		return
	}
	if b.Disposition != Leave && m.lock != 0 && m.lock != b.Card {
		m.hold(&wait{client: c, again: func() { m.disconnect(c, b) }})
		return
	}
	if m.lock == b.Card {
		m.lock, m.locks = 0, 0
	}
	done := func(r Result, _ []byte) {
		if r != Gone && (b.Disposition == Reset || b.Disposition == Unpower) {
			m.resetAll()
			m.afterReset(r, nil)
			if b.Disposition == Unpower && r == OK && m.present() {
				m.state.State, m.powered = StatePresent, false
			}
		}
		delete(m.handles, b.Card)
		c.handles = slices.DeleteFunc(c.handles, func(n uint32) bool { return n == b.Card })
		m.unshare()
		b.RV = Success
		m.answer(c, b, nil)
	}
	if (b.Disposition == Reset || b.Disposition == Unpower) && m.present() {
		m.enqueue(&job{client: c, handle: b.Card, kind: KindReset, done: done, refuse: func(uint32) { done(Gone, nil) }})
		return
	}
	done(Gone, nil)
}

func (m *Machine) begin(c *client, h *handle, b *Begin) {
	fail := func(rv uint32) {
		b.RV = rv
		m.answer(c, b, nil)
	}
	if h.event != 0 {
		fail(h.event)
		return
	}
	if m.sharing(b.Card) != Success {
		m.hold(&wait{
			client: c, again: func() { m.begin(c, h, b) },
			until: m.now.Add(BeginWait), late: func() { fail(SharingViolation) },
		})
		return
	}
	m.lock, m.locks = b.Card, m.locks+1
	fail(Success)
}

func (m *Machine) end(c *client, h *handle, b *End) {
	answer := func(rv uint32) {
		b.RV = rv
		m.answer(c, b, nil)
	}
	// unlock ends the transaction; rv is what went before.
	unlock := func(rv uint32) {
		was := m.sharing(b.Card)
		switch {
		case was != Success:
		case m.state.Sharing < 0 && m.locks > 1:
			m.locks--
		case m.state.Sharing < 0:
			was = NotTransacted
		case m.locks > 0:
			if m.locks--; m.locks == 0 {
				m.lock = 0
			}
		default:
			was = NotTransacted
		}
		if rv == Success {
			rv = was
		}
		answer(rv)
	}
	switch {
	case b.Disposition > Eject:
		answer(InvalidValue)
	case h.event != 0:
		answer(h.event)
	case b.Disposition != Leave && m.sharing(b.Card) != Success:
		answer(SharingViolation)
	case b.Disposition == Leave:
		unlock(Success)
	case b.Disposition == Eject:
		unlock(Unsupported)
	default:
		m.enqueue(&job{client: c, handle: b.Card, kind: KindReset, refuse: unlock, done: func(r Result, _ []byte) {
			if r != Gone {
				m.resetAll()
			}
			m.afterReset(r, nil)
			rv := Success
			switch r {
			case Gone:
				rv = RemovedCard
			case Mute:
				rv = NotTransacted
			}
			unlock(rv)
		}})
	}
}

// minAnswer is the least room for an answer: its status words.
const minAnswer = 2

func (m *Machine) transmit(c *client, h *handle, b *Transmit) {
	room := b.ReceiveLength
	answer := func(rv uint32, data []byte) {
		b.ReceiveLength = uint32(len(data))
		if rv == Success && uint32(len(data)) > room {
			rv, data = InsufficientBuffer, nil
		}
		b.RV = rv
		m.answer(c, b, data)
	}
	if rv := m.good(b.Card, h); rv != Success {
		answer(rv, nil)
		return
	}
	if b.SendProtocol != Raw {
		switch {
		case !m.present():
			answer(NoSmartcard, nil)
			return
		case b.SendProtocol != anyOld && b.SendProtocol != m.state.Protocol:
			answer(ProtoMismatch, nil)
			return
		}
	}
	if !m.present() {
		answer(NoSmartcard, nil)
		return
	}
	m.enqueue(&job{
		client: c, handle: b.Card, kind: KindTransmit, data: b.Data,
		refuse: func(rv uint32) { answer(rv, nil) },
		done: func(r Result, data []byte) {
			switch {
			case r == Gone:
				answer(NoSmartcard, nil)
			case r == Mute || len(data) < minAnswer:
				answer(NotTransacted, nil)
			default:
				answer(Success, data)
			}
		},
	})
}

func (m *Machine) control(c *client, b *Control) {
	b.Returned = 0
	b.RV = m.sharing(b.Card)
	if b.RV == Success && b.Code != ControlFeatures {
		b.RV = Unsupported
	}
	m.answer(c, b, nil)
}

func (m *Machine) attrib(c *client, h *handle, b *Attrib) {
	if b.Length > MaxAttrib {
		m.drop(c, "attribute of %d bytes; at most %d", b.Length, MaxAttrib)
		return
	}
	if b.RV = m.good(b.Card, h); b.RV == Success {
		value, ok := m.value(b.ID)
		switch {
		case b.Set || !ok:
			b.RV = Unsupported
		case len(value) > int(b.Length):
			b.RV, b.Length = InsufficientBuffer, uint32(len(value))
		default:
			b.Length = uint32(copy(b.Value[:], value))
		}
	}
	m.answer(c, b, nil)
}

// vendor and what follows describe the reader to who asks.
const (
	vendor  = "Hotdesk"
	ifdType = "Hotdesk terminal"
)

// value is an attribute.
func (m *Machine) value(id uint32) (value []byte, ok bool) {
	flag := func(on bool) []byte {
		if on {
			return []byte{1}
		}
		return []byte{0}
	}
	switch id {
	case AttribVendorName:
		return []byte(vendor), true
	case AttribIFDType:
		return []byte(ifdType), true
	case AttribIFDVersion:
		return word(1 << 24), true // 1.0.0 as 0xMMmmbbbb
	case AttribProtocol:
		return word(m.state.Protocol), m.state.Protocol != 0
	case AttribPresence:
		if m.present() {
			return []byte{2}, true // in, not swallowed
		}
		return []byte{0}, true
	case AttribInterfaceStatus:
		return flag(m.present() && m.state.State&StateSwallowed == 0), true
	case AttribATR:
		return m.state.ATR, m.present()
	case AttribMaxInput:
		return word(MaxTransfer), true
	case AttribFriendlyName, AttribSystemName:
		return append([]byte(m.state.Name), 0), true
	}
	return nil, false
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
