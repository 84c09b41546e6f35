// Package badge is the block of pixels by which a session of the fleet says who
// it is: whose, which run of it, how far its clock is, and what was typed.
//
// Source: this project's own. A badge is Columns by Rows squares of Cell
// pixels, black for 0 and white for 1, row by row, most significant bit first:
// magic 16 bits, owner 16, nonce 32, count 32, typed 32, flags 8, last 8, zero
// 16, CRC-32 (IEEE) of all that 32.
//
// Invariants:
//  1. Find returns a badge only where every pixel of it is black or white, every
//     square is of one colour and the sum is right: half a picture is none.
//  2. Around the badge everything has the colour Colour(nonce), so that every
//     pixel says whose it is. Where a moving picture may be is Video.
//
// The package does no I/O and reads no clock.
package badge

import (
	"encoding/binary"
	"hash/crc32"
	"image"
)

// Geometry, in pixels but for Columns and Rows.
const (
	Cell    = 8
	Columns = 16
	Rows    = 12
	X, Y    = 16, 16
	Width   = Columns * Cell
	Height  = Rows * Cell

	magic = 0xb46d
	size  = Columns * Rows / 8
)

// Rect is where a badge is on the session's screen.
var Rect = image.Rect(X, Y, X+Width, Y+Height)

// Video is where a session shows moving pictures, when it does.
var Video = image.Rect(160, 16, 480, 256)

// Flags.
const (
	// Conflict: somebody else's name was typed into a session that has one.
	Conflict = 1 << iota
	// Playing: a moving picture is shown.
	Playing
)

// A Badge is what a session shows of itself.
type Badge struct {
	Owner uint16 // number of the card, as it was typed; 0: nobody's yet
	Nonce uint32 // drawn when the program started; never 0
	Count uint32 // tenths of a second since then
	Typed uint32 // keys, but for those that name an owner
	Flags byte
	Last  byte // X keycode of the last of them
}

func (b Badge) bytes() (d [size]byte) {
	e := binary.BigEndian
	e.PutUint16(d[0:], magic)
	e.PutUint16(d[2:], b.Owner)
	e.PutUint32(d[4:], b.Nonce)
	e.PutUint32(d[8:], b.Count)
	e.PutUint32(d[12:], b.Typed)
	d[16], d[17] = b.Flags, b.Last
	e.PutUint32(d[20:], crc32.ChecksumIEEE(d[:20]))
	return d
}

// Pixels is the badge as B G R X, Width by Height, without gaps.
func (b Badge) Pixels() []byte {
	d := b.bytes()
	pix := make([]byte, Width*Height*4)
	for y := range Height {
		for x := range Width {
			if bit(d[:], x/Cell, y/Cell) {
				copy(pix[(y*Width+x)*4:], []byte{0xff, 0xff, 0xff})
			}
		}
	}
	return pix
}

func bit(d []byte, column, row int) bool {
	n := row*Columns + column
	return d[n/8]>>(7-n%8)&1 == 1
}

// Find reads a badge from pixels as Pixels makes them.
func Find(pix []byte) (Badge, bool) {
	if len(pix) != Width*Height*4 {
		return Badge{}, false
	}
	var d [size]byte
	for y := range Height {
		for x := range Width {
			p := pix[(y*Width+x)*4:][:3]
			white := p[0] == 0xff
			if p[0] != p[1] || p[0] != p[2] || !white && p[0] != 0 {
				return Badge{}, false
			}
			n := y/Cell*Columns + x/Cell
			mask := byte(1) << (7 - n%8)
			switch first := x%Cell == 0 && y%Cell == 0; {
			case first && white:
				d[n/8] |= mask
			case !first && white != (d[n/8]&mask != 0):
				return Badge{}, false
			}
		}
	}
	e := binary.BigEndian
	if e.Uint16(d[0:]) != magic || e.Uint16(d[18:]) != 0 || e.Uint32(d[20:]) != crc32.ChecksumIEEE(d[:20]) {
		return Badge{}, false
	}
	return Badge{
		Owner: e.Uint16(d[2:]), Nonce: e.Uint32(d[4:]), Count: e.Uint32(d[8:]), Typed: e.Uint32(d[12:]),
		Flags: d[16], Last: d[17],
	}, true
}

// Colour is what surrounds a session's badge, 0xRRGGBB: strong in one of red,
// green and blue and weak in another, as no words on a screen are.
func Colour(nonce uint32) uint32 {
	h := nonce * 0x9e3779b1
	strong, weak, any := 0xa0|h>>24&0x1f, h>>16&0x1f, h>>8&0xff
	switch h % 3 {
	case 0:
		return strong<<16 | any<<8 | weak
	case 1:
		return weak<<16 | strong<<8 | any
	}
	return any<<16 | weak<<8 | strong
}

// The keys by which a session is told whose it is, as X keycodes of a PC's
// keyboard: Begin, the five digits of Digits, End. They are the same in every
// layout.
const (
	Begin = 75 // F9
	End   = 76 // F10
	Play  = 74 // F8, begins or ends the moving picture
	one   = 10 // of the row of digits: 1 to 9, then 0
)

// Digits are the owner's number in four digits and one to check them, so that a
// name of which a key was lost is none.
func Digits(owner uint16) [5]byte {
	n := owner % 10000
	d := [5]byte{byte(n / 1000), byte(n / 100 % 10), byte(n / 10 % 10), byte(n % 10)}
	d[4] = (3*d[0] + 7*d[1] + d[2] + 9*d[3] + 5) % 10
	return d
}

// A Name collects what is typed between Begin and End.
type Name struct {
	on bool
	d  []byte
}

// Key takes one X keycode. used says that it was of a name; owner is not 0
// where that name is complete now.
func (n *Name) Key(code byte) (owner uint16, used bool) {
	switch {
	case code == Begin:
		n.on, n.d = true, n.d[:0]
		return 0, true
	case !n.on:
		return 0, false
	case code >= one && code < one+10 && len(n.d) < 5:
		n.d = append(n.d, (code-one+1)%10)
		return 0, true
	}
	n.on = false
	if code != End || len(n.d) != 5 {
		return 0, code == End
	}
	for _, d := range n.d[:4] {
		owner = owner*10 + uint16(d)
	}
	if Digits(owner)[4] != n.d[4] {
		return 0, true
	}
	return owner, true
}
