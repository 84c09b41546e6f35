package evdev

import (
	"maps"
	"slices"

	"hotdesk/dtu/backend"
	"hotdesk/protocol/input"
)

// Types and codes of events that mean something here (input-event-codes.h).
const (
	evSyn = 0x00
	evKey = 0x01
	evRel = 0x02
	evAbs = 0x03
	evLED = 0x11

	synReport  = 0
	synDropped = 3

	relX      = 0
	relY      = 1
	relHWheel = 6
	relWheel  = 8

	absX = 0
	absY = 1

	btnLeft    = 0x110
	btnRight   = 0x111
	btnMiddle  = 0x112
	btnSide    = 0x113
	btnExtra   = 0x114
	btnForward = 0x115
	btnBack    = 0x116
	btnTouch   = 0x14A
)

// Codes of keys that Seat.Hot may care for.
const (
	LeftControl  = 29
	LeftAlt      = 56
	RightControl = 97
	RightAlt     = 100
	Power        = 116
	Pause        = 119
)

// buttons are the pointer's.
var buttons = map[uint16]byte{
	btnLeft: input.ButtonLeft, btnTouch: input.ButtonLeft, btnRight: input.ButtonRight, btnMiddle: input.ButtonMiddle,
	btnSide: input.ButtonBack, btnBack: input.ButtonBack, btnExtra: input.ButtonForward, btnForward: input.ButtonForward,
}

// locks are the keys that keyboards have a light for, and the light.
var locks = map[uint16]uint16{69: 0, 58: 1, 70: 2} // num, caps, scroll

// An Event is what a device tells, without its time.
type Event struct {
	Type, Code uint16
	Value      int32
}

// A Range is of an absolute axis, both ends included.
type Range struct{ Min, Max int32 }

// Info is what a seat must know of a device.
type Info struct {
	Name string
	X, Y Range // of a tablet or touch screen; empty: it is none
}

// A Seat turns the events of keyboards and pointing devices into what a
// person's hands did. Use by one goroutine.
type Seat struct {
	// Hands get what happens. Size is the screen's.
	Hands backend.Hands
	Size  func() (w, h int)
	// Hot, if not nil, is asked about each key that goes down, with all those
	// that are down; a key that it takes is not typed.
	Hot func(code uint16, down func(code uint16) bool) bool
	// Lights, if not nil, sets the lights of every keyboard: a bit for each of
	// num, caps and scroll lock.
	Lights func(bits byte)

	devices map[string]*device
	x, y    int
	started bool // x and y mean something
	lights  byte
}

type device struct {
	info       Info
	down       map[uint16]bool
	typed      map[uint16]bool // of down: that Hands know of
	dx, dy     int
	moved      bool
	at         [2]int32 // of a tablet
	placed     bool
	right, up  int
	clicked    bool
	incomplete bool // events were lost
}

// Add is a device that came.
func (s *Seat) Add(id string, info Info) {
	if s.devices == nil {
		s.devices = map[string]*device{}
	}
	s.devices[id] = &device{info: info, down: map[uint16]bool{}, typed: map[uint16]bool{}}
}

// Remove is a device that went: what it held is let go.
func (s *Seat) Remove(id string) {
	if d := s.devices[id]; d != nil {
		s.let(d)
		delete(s.devices, id)
	}
}

// let lets go of all that a device holds.
func (s *Seat) let(d *device) {
	for _, code := range slices.Sorted(maps.Keys(d.down)) {
		s.key(d, code, false)
	}
	s.report(d)
}

// Take takes events of a device. It returns true when the device has lost some
// and must be asked which keys are down: Held.
func (s *Seat) Take(id string, events []Event) (lost bool) {
	d := s.devices[id]
	if d == nil {
		return false
	}
	for _, e := range events {
		switch {
		case e.Type == evSyn && e.Code == synDropped:
			d.incomplete = true
		case e.Type == evSyn && e.Code == synReport:
			if d.incomplete {
				d.incomplete, lost = false, true
				d.dx, d.dy, d.right, d.up, d.moved, d.placed = 0, 0, 0, 0, false, false
				continue
			}
			s.report(d)
		case d.incomplete:
		case e.Type == evKey && e.Value < 2: // 2 is repeated: the session's work
			s.key(d, e.Code, e.Value == 1)
		case e.Type == evRel:
			d.turn(e)
		case e.Type == evAbs && e.Code <= absY:
			d.at[e.Code], d.placed = e.Value, true
		}
	}
	return lost
}

// Held is which keys are down on a device that lost events: the others are let
// go. One that went down unseen is left out; its next event tells it.
func (s *Seat) Held(id string, down func(code uint16) bool) {
	d := s.devices[id]
	if d == nil {
		return
	}
	for _, code := range slices.Sorted(maps.Keys(d.down)) {
		if !down(code) {
			s.key(d, code, false)
		}
	}
	s.report(d)
}

func (d *device) turn(e Event) {
	v := int(min(max(e.Value, -1<<15), 1<<15))
	switch e.Code {
	case relX:
		d.dx, d.moved = d.dx+v, true
	case relY:
		d.dy, d.moved = d.dy+v, true
	case relWheel:
		d.up += v
	case relHWheel:
		d.right += v
	}
}

// key is a key or button of a device.
func (s *Seat) key(d *device, code uint16, down bool) {
	if down == d.down[code] {
		return
	}
	if down {
		d.down[code] = true
	} else {
		delete(d.down, code)
	}
	if buttons[code] != 0 {
		d.clicked = true
		s.report(d) // each click at its place
		return
	}
	usage := Usage(code)
	if usage == 0 {
		return
	}
	switch {
	case down && s.Hot != nil && s.Hot(code, s.down):
	case down && !s.typed(code):
		d.typed[code] = true
		s.Hands.Key(usage, true)
		s.lock(code)
	case down:
		d.typed[code] = true
	case d.typed[code]:
		delete(d.typed, code)
		if !s.typed(code) { // else another keyboard holds it
			s.Hands.Key(usage, false)
		}
	}
}

// lock changes a lock's light. What the session does with the key is not known
// here; a keyboard of a computer of its own would show the same.
func (s *Seat) lock(code uint16) {
	if bit, ok := locks[code]; ok && s.Lights != nil {
		s.lights ^= 1 << bit
		s.Lights(s.lights)
	}
}

func (s *Seat) typed(code uint16) bool {
	for _, d := range s.devices {
		if d.typed[code] {
			return true
		}
	}
	return false
}

func (s *Seat) down(code uint16) bool {
	for _, d := range s.devices {
		if d.down[code] {
			return true
		}
	}
	return false
}

// report tells where the pointer is, when something changed.
func (s *Seat) report(d *device) {
	w, h := s.Size()
	if !s.started {
		s.x, s.y, s.started = w/2, h/2, true
	}
	if d.placed && d.info.X.Max > d.info.X.Min && d.info.Y.Max > d.info.Y.Min {
		s.x, s.y = d.info.X.scale(d.at[absX], w), d.info.Y.scale(d.at[absY], h)
		d.moved = true
	}
	s.x, s.y = min(max(s.x+d.dx, 0), w-1), min(max(s.y+d.dy, 0), h-1)
	if d.moved || d.clicked {
		var held byte
		for _, o := range s.devices {
			for code := range o.down {
				held |= buttons[code]
			}
		}
		s.Hands.Pointer(s.x, s.y, held)
	}
	if d.right != 0 || d.up != 0 {
		s.Hands.Wheel(d.right, -d.up)
	}
	d.dx, d.dy, d.right, d.up, d.moved, d.placed, d.clicked = 0, 0, 0, 0, false, false, false
}

// scale maps a place on an axis to a pixel of n.
func (r Range) scale(v int32, n int) int {
	v = min(max(v, r.Min), r.Max)
	return int(int64(v-r.Min) * int64(n) / (int64(r.Max) - int64(r.Min) + 1))
}
