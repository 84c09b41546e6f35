// Package usbtest is a USB smart card reader made of software, for tests: it
// answers what a computer sends to a reader's pipes as CCID demands, at each
// level of exchange, and checks that what comes is what the reader may expect.
//
// Source: USB-IF CCID revision 1.1; USB 2.0 chapter 9 (descriptors); ISO 7816-3
// section 10 and 11 for the cards in it.
//
// Invariants:
//  1. Every command is answered once, an aborted one included.
//  2. A command that the reader may not expect is answered with the error that
//     CCID has for it, never carried out.
//  3. Slot changes are told by the interrupt pipe, each one, from the moment
//     that somebody takes its messages; what was before is told as one change.
//
// A Device is safe for concurrent use; it has a goroutine for each exchange
// with a card that runs. What carries its pipes is not part of it: Bus does in
// memory, package usbredir does into a virtual machine.
package usbtest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"unicode/utf16"

	"hotdesk/smartcard/atr"
	"hotdesk/smartcard/ccid"
)

// A Card is what is put in; *emulated.Card is one.
type Card interface {
	ATR() []byte
	Transmit(ctx context.Context, command []byte) ([]byte, error)
	Reset()
}

// Config says what reader it is. The zero value is one of TPDU level that
// leaves everything to the computer.
type Config struct {
	Product     string
	Level       ccid.Level // Character stands for TPDU
	Features    uint32     // beside the level
	Slots       int        // 0: one
	Protocols   uint32     // bits; 0: T=0 and T=1
	Voltages    byte       // bits; 0: all
	CardVoltage byte       // bits of what the cards need; 0: any
	MaxMessage  uint32     // 0: 271
	MaxRate     uint32     // bit/s; 0: 344086
	NoInterrupt bool       // it has no interrupt pipe
	Extensions  int        // how often it asks for time in each exchange
	Multiplier  byte       // of the waiting time that it asks for; 0: 1
	EmptyPacket bool       // it ends a message of whole packets with an empty one
	SlowPPS     bool       // it refuses speeds other than the default
	NoAbort     bool       // it knows no abort, as qemu's reader
}

// Addresses of the endpoints, and the size of their packets.
const (
	In     = 0x82
	Out    = 0x03
	Notify = 0x81
	// Packet is that of the bulk pipes at full speed, NotifyPacket that of the
	// interrupt pipe.
	Packet       = 64
	NotifyPacket = 8
)

// Vendor and Product name the reader on USB: those of gadgets for tests.
const (
	Vendor  = 0x1d6b
	Product = 0x0104
)

// ErrStall is what the host gets as a halted pipe.
var ErrStall = errors.New("usbtest: stall")

// Device is a reader.
type Device struct {
	cfg Config

	mu        sync.Mutex
	slots     []*slot
	out       [][]byte // messages for the bulk pipe; the first may be taken in part
	empty     bool     // an empty packet is due
	notices   [][]byte
	listening bool
	heard     chan struct{} // closed when listening
	wake      chan struct{} // closed and made anew when there is something to take
	stalls    int           // halts to come
	spoils    []byte        // errors in place of the next blocks from a card
	silent    chan struct{} // not nil: the next command is not answered
	log       []ccid.Command
}

// New makes a reader without cards.
func New(c Config) *Device {
	if c.Level == ccid.Character {
		c.Level = ccid.TPDU
	}
	c.Slots = max(1, c.Slots)
	if c.Protocols == 0 {
		c.Protocols = 3
	}
	if c.Voltages == 0 {
		c.Voltages = 7
	}
	if c.CardVoltage == 0 {
		c.CardVoltage = 7
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 271
	}
	if c.MaxRate == 0 {
		c.MaxRate = 344086
	}
	if c.Product == "" {
		c.Product = "Hotdesk test reader"
	}
	d := &Device{cfg: c, wake: make(chan struct{}), heard: make(chan struct{})}
	for i := range c.Slots {
		d.slots = append(d.slots, &slot{d: d, number: byte(i)})
	}
	return d
}

// Class is the class descriptor.
func (d *Device) Class() ccid.Descriptor {
	return ccid.Descriptor{
		Version: 0x0110, MaxSlotIndex: byte(d.cfg.Slots - 1), Voltages: d.cfg.Voltages, Protocols: d.cfg.Protocols,
		DefaultClock: 4000, MaximumClock: 4000, DataRate: 10752, MaxDataRate: d.cfg.MaxRate, MaxIFSD: 254,
		Features: d.cfg.Features | uint32(1)<<(15+d.cfg.Level), MaxMessage: d.cfg.MaxMessage,
		ClassGetAnswer: 0xff, ClassEnvelope: 0xff, MaxBusyAtATime: byte(d.cfg.Slots),
	}
}

// Descriptors are those of the device and of its configuration.
func (d *Device) Descriptors() (device, configuration []byte) {
	device = []byte{18, 1, 0, 2, 0, 0, 0, 64, Vendor & 0xff, Vendor >> 8, Product & 0xff, Product >> 8, 0, 1, 1, 2, 0, 1}
	endpoints := d.Endpoints()
	configuration = []byte{9, 2, 0, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, byte(len(endpoints)), ccid.InterfaceClass, 0, 0, 0}
	configuration = d.Class().Append(configuration)
	for _, e := range endpoints {
		configuration = append(configuration, 7, 5, e.Address, e.Kind, byte(e.Packet), byte(e.Packet>>8), e.Interval)
	}
	binary.LittleEndian.PutUint16(configuration[2:], uint16(len(configuration)))
	return device, configuration
}

// Text is a string descriptor's text.
func (d *Device) Text(index byte) string {
	return [...]string{"", "Hotdesk", d.cfg.Product}[min(index, 2)]
}

// An Endpoint is one of the device's, as its descriptor says.
type Endpoint struct {
	Address, Kind, Interval byte
	Packet                  int
}

// Endpoints lists them.
func (d *Device) Endpoints() []Endpoint {
	list := []Endpoint{{In, 2, 0, Packet}, {Out, 2, 0, Packet}}
	if !d.cfg.NoInterrupt {
		list = append(list, Endpoint{Notify, 3, 4, NotifyPacket})
	}
	return list
}

// Control is a request on the control pipe (USB 2.0 section 9.4, CCID section
// 5.3), by its setup packet; what goes to the reader has no data.
func (d *Device) Control(setup [8]byte) ([]byte, error) {
	value, length := binary.LittleEndian.Uint16(setup[2:]), int(binary.LittleEndian.Uint16(setup[6:]))
	var b []byte
	switch {
	case setup[0] == 0x80 && setup[1] == 6: // GET_DESCRIPTOR
		device, configuration := d.Descriptors()
		switch value >> 8 {
		case 1:
			b = device
		case 2:
			b = configuration
		case 3:
			b = d.text(byte(value))
		default:
			return nil, ErrStall
		}
	case setup[0] == 0x80 && setup[1] == 0: // GET_STATUS
		b = []byte{0, 0}
	case setup[0] == 2 && setup[1] == 1: // CLEAR_FEATURE(ENDPOINT_HALT)
	case setup[0] == 0x21 && setup[1] == ccid.RequestAbort:
		return nil, d.ControlAbort(byte(value), byte(value>>8))
	default:
		return nil, ErrStall
	}
	return b[:min(len(b), length)], nil
}

// text is a string descriptor; 0 is the list of languages.
func (d *Device) text(index byte) []byte {
	words := utf16.Encode([]rune(d.Text(index)))
	if index == 0 {
		words = []uint16{0x0409}
	}
	b := []byte{byte(2 + 2*len(words)), 3}
	for _, w := range words {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return b
}

// Insert puts a card in a slot.
func (d *Device) Insert(slot int, c Card) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots[slot].insert(c)
	d.changed(slot)
}

// Remove pulls a slot's card.
func (d *Device) Remove(slot int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots[slot].remove()
	d.changed(slot)
}

// changed tells the interrupt pipe. d.mu is held.
func (d *Device) changed(slot int) {
	if !d.listening {
		d.slots[slot].dirty = true
		return
	}
	changes := make([]ccid.Change, len(d.slots))
	for i, s := range d.slots {
		changes[i] = ccid.Change{Present: s.card != nil, Changed: i == slot}
	}
	d.notices = append(d.notices, ccid.AppendSlotChange(nil, changes))
	d.signal()
}

// signal wakes who waits for something to take. d.mu is held.
func (d *Device) signal() {
	close(d.wake)
	d.wake = make(chan struct{})
}

// Stall halts the bulk pipe for the next n transfers to the reader.
func (d *Device) Stall(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalls = n
}

// Spoil loses the next blocks from a card: the reader answers with these errors.
func (d *Device) Spoil(codes ...byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoils = codes
}

// Silence has the next command not answered until it is aborted. The channel
// is closed when that command came.
func (d *Device) Silence() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = make(chan struct{})
	return d.silent
}

// Commands lists what came, a copy.
func (d *Device) Commands() []ccid.Command {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log)
}

// Powered reports whether a slot's card has power.
func (d *Device) Powered(slot int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slots[slot].powered
}

// Configure is what a computer does first: the reader forgets what it was doing.
func (d *Device) Configure() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out, d.notices, d.empty = nil, nil, false
	if d.listening {
		d.listening, d.heard = false, make(chan struct{})
	}
	for _, s := range d.slots {
		s.off()
	}
}

// Heard is closed while somebody takes the messages of the interrupt pipe, so
// that no change is lost on him.
func (d *Device) Heard() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heard
}

// Listen begins to tell slot changes, with what is in now as the first.
func (d *Device) Listen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listening {
		return
	}
	d.listening = true
	close(d.heard)
	for i, s := range d.slots {
		if s.card != nil || s.dirty {
			d.changed(i)
		}
		s.dirty = false
	}
}

// ControlAbort is the class request of that name.
func (d *Device) ControlAbort(slot, seq byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(slot) >= len(d.slots) || d.cfg.NoAbort {
		return ErrStall
	}
	d.slots[slot].abort(seq)
	return nil
}

// Send is a transfer to the reader: one message.
func (d *Device) Send(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stalls > 0 {
		d.stalls--
		return ErrStall
	}
	c, err := ccid.ParseCommand(b)
	if err != nil || len(b) > int(d.cfg.MaxMessage) {
		return ErrStall
	}
	c.Data = slices.Clone(c.Data)
	d.log = append(d.log, c)
	if int(c.Slot) >= len(d.slots) {
		d.answer(ccid.Answer{Type: ccid.SlotStatus, Slot: c.Slot, Seq: c.Seq, Status: byte(ccid.Failed<<6) | byte(ccid.IccAbsent), Error: 5})
		return nil
	}
	d.slots[c.Slot].command(c)
	return nil
}

// answer queues a message. d.mu is held.
func (d *Device) answer(a ccid.Answer) {
	d.out = append(d.out, a.Append(nil))
	d.signal()
}

// Receive is a transfer from the reader of at most n bytes, n whole packets.
func (d *Device) Receive(ctx context.Context, n int) ([]byte, error) {
	for {
		d.mu.Lock()
		wake := d.wake
		switch {
		case d.empty:
			d.empty = false
			d.mu.Unlock()
			return nil, nil
		case len(d.out) > 0:
			m := d.out[0]
			n = min(n, len(m))
			b := m[:n:n]
			if d.out[0] = m[n:]; len(m) == n {
				d.out = d.out[1:]
				d.empty = d.cfg.EmptyPacket && n%Packet == 0
			}
			d.mu.Unlock()
			return b, nil
		}
		d.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Interrupt takes a message of the interrupt pipe.
func (d *Device) Interrupt(ctx context.Context) ([]byte, error) {
	d.Listen()
	for {
		d.mu.Lock()
		wake := d.wake
		if len(d.notices) > 0 {
			b := d.notices[0]
			d.notices = d.notices[1:]
			d.mu.Unlock()
			return b, nil
		}
		d.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ATR makes one of a protocol with a few historical bytes; ta1 0: none.
func ATR(protocol int, ta1 byte, historical string) []byte {
	a := atr.ATR{TS: atr.Direct, Levels: []atr.Level{{}}, Historical: []byte(historical)}
	if ta1 != 0 {
		a.Levels[0] = atr.Level{Has: atr.HasTA, TA: ta1}
	}
	if protocol == 1 {
		a.Levels[0].Has |= atr.HasTD
		a.Levels[0].Protocol = 1
		// TD2 says T=1 again; TA3 is IFSC, TB3 the waiting times.
		a.Levels = append(a.Levels, atr.Level{Has: atr.HasTD, Protocol: 1}, atr.Level{Has: atr.HasTA | atr.HasTB, TA: 64, TB: 0x45})
	}
	return a.Seal().Append(nil)
}
