// Package input is what a terminal tells a media end after its Hello: keys,
// pointer, the size of its screen, and which frames it has drawn.
//
// Source: design section 2; USB HID Usage Tables 1.12 section 10 (keys).
//
// A record is a type byte and fixed big-endian fields. Records come back to
// back on the input stream.
//
// Invariants:
//  1. Next(Append(r)) == r, and Append(Next(b)) == b for every b that Next
//     accepts.
//  2. Every record has the size that Size gives for its type, at most MaxSize.
//
// The package does no I/O and reads no clock. Limits: MaxSize, and screen
// sides as in package alp.
package input

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hotdesk/protocol/alp"
)

// Type is a record's first byte. Only ever appended to.
type Type byte

const (
	Key     Type = 1 // u16 HID usage, u8 1 down or 0 up
	Pointer Type = 2 // u16 x, u16 y, u8 buttons now down
	Wheel   Type = 3 // i16 notches right, i16 notches down
	Release Type = 4 // nothing: every key and button is up (focus lost)
	Resize  Type = 5 // u16 width, u16 height of the terminal's screen
	Ack     Type = 6 // u32 sequence of the newest frame that is on the screen
)

// Buttons of a pointer record.
const (
	ButtonLeft    = 1 << 0
	ButtonMiddle  = 1 << 1
	ButtonRight   = 1 << 2
	ButtonBack    = 1 << 3
	ButtonForward = 1 << 4
	buttonsAll    = 1<<5 - 1
)

// MaxUsage is the highest usage of the keyboard page that is a key.
const MaxUsage = 0xE7

// MaxWheel bounds the notches of one record.
const MaxWheel = 64

// MaxSize is the longest record in bytes.
const MaxSize = 6

// A Record is one thing a person did, or an acknowledgement. Which fields
// count is said beside its Type.
type Record struct {
	Type    Type
	Usage   uint16 // Key
	Down    bool   // Key
	X, Y    int    // Pointer: pixels; Wheel: notches; Resize: width and height
	Buttons byte   // Pointer
	Seq     uint32 // Ack
}

// ErrRecord is wrapped by every error of Next but ErrShort.
var ErrRecord = errors.New("input: bad record")

// ErrShort means that b may be the start of a record.
var ErrShort = errors.New("input: more bytes needed")

// Size returns the length of a record of type t, its type byte included, or 0
// for an unknown type.
func Size(t Type) int {
	switch t {
	case Release:
		return 1
	case Key:
		return 4
	case Wheel, Resize, Ack:
		return 5
	case Pointer:
		return 6
	}
	return 0
}

// Append writes r. It panics on a record that Next would refuse (a caller's
// bug).
func (r Record) Append(b []byte) []byte {
	if err := r.check(); err != nil {
		panic(err)
	}
	b = append(b, byte(r.Type))
	u16 := binary.BigEndian.AppendUint16
	switch r.Type {
	case Key:
		b = u16(b, r.Usage)
		if r.Down {
			return append(b, 1)
		}
		return append(b, 0)
	case Pointer:
		return append(u16(u16(b, uint16(r.X)), uint16(r.Y)), r.Buttons)
	case Wheel:
		return u16(u16(b, uint16(int16(r.X))), uint16(int16(r.Y)))
	case Resize:
		return u16(u16(b, uint16(r.X)), uint16(r.Y))
	case Ack:
		return binary.BigEndian.AppendUint32(b, r.Seq)
	}
	return b
}

func (r Record) check() error {
	bad := false
	switch r.Type {
	case Key:
		bad = r.Usage == 0 || r.Usage > MaxUsage
	case Pointer:
		bad = r.X < 0 || r.X >= alp.MaxSide || r.Y < 0 || r.Y >= alp.MaxSide || r.Buttons > buttonsAll
	case Wheel:
		bad = r.X < -MaxWheel || r.X > MaxWheel || r.Y < -MaxWheel || r.Y > MaxWheel
	case Resize:
		bad = r.X < alp.MinSide || r.X > alp.MaxSide || r.Y < alp.MinSide || r.Y > alp.MaxSide
	case Release, Ack:
	default:
		return fmt.Errorf("%w: type %d", ErrRecord, r.Type)
	}
	if bad {
		return fmt.Errorf("%w: %+v", ErrRecord, r)
	}
	return nil
}

// Next reads the first record of b and returns what follows it. ErrShort means
// that b ends within one.
func Next(b []byte) (r Record, rest []byte, err error) {
	if len(b) == 0 {
		return Record{}, nil, ErrShort
	}
	r.Type = Type(b[0])
	n := Size(r.Type)
	if n == 0 {
		return Record{}, nil, fmt.Errorf("%w: type %d", ErrRecord, b[0])
	}
	if len(b) < n {
		return Record{}, nil, ErrShort
	}
	f := b[1:n]
	at := func(i int) int { return int(binary.BigEndian.Uint16(f[i:])) }
	switch r.Type {
	case Key:
		r.Usage, r.Down = uint16(at(0)), f[2] == 1
		if f[2] > 1 {
			return Record{}, nil, fmt.Errorf("%w: key state %d", ErrRecord, f[2])
		}
	case Pointer:
		r.X, r.Y, r.Buttons = at(0), at(2), f[4]
	case Wheel:
		r.X, r.Y = int(int16(at(0))), int(int16(at(2)))
	case Resize:
		r.X, r.Y = at(0), at(2)
	case Ack:
		r.Seq = binary.BigEndian.Uint32(f)
	}
	if err := r.check(); err != nil {
		return Record{}, nil, err
	}
	return r, b[n:], nil
}
