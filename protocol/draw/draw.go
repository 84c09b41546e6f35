// Package draw is what a session's media process tells a terminal's screen:
// frames of drawing operations in the SLIM model.
//
// Source: reference/alp.md sections 6 and 9 (operation numbers and meaning);
// the encoding without per-operation headers is Hotdesk's own.
//
// A display stream is a sequence of frames. A frame is
//
//	uvarint sequence   1 for the first of a stream, +1 for each; 0: see below
//	uvarint packed     bytes that follow, at most MaxPacked
//	uvarint raw        bytes of operations that they unpack to, at most MaxRaw
//	packed bytes       a piece of the stream's one zstd frame, flushed at its end
//
// and unpacks to operations back to back, each an opcode byte and fixed
// big-endian fields, applied in order; the picture is shown when all are.
//
// The first frame of a stream may come in parts, so that what is known of it is on
// its way while the rest is made: those before its last part have sequence 0. Each
// has a header of its own, and whole operations; limits are those of all together.
//
// Invariants:
//  1. Next(Append(op)) == op, and Append(Next(b)) == b for every b that Next
//     accepts.
//  2. An accepted operation has sides of 1..MaxSide (cursor: 0..MaxCursor), a
//     picture at most MaxPixels, and a body of exactly the length its fields say.
//
// The package does no I/O and reads no clock. Next returns pixels that alias
// its input. Limits: MaxSide, MaxPixels, MaxCursor, MaxRaw, MaxPacked, and for
// what a frame may ask of its receiver MaxDrawn and Window.
package draw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
)

const (
	// MaxSide bounds coordinates and sides, in pixels.
	MaxSide = 8192
	// MaxPixels bounds a picture: 7680x4320 fits.
	MaxPixels = 1 << 25
	// MaxDrawn bounds the pixels that the operations of one frame touch, each
	// counted as often as it is touched: a few bytes must not cost seconds.
	MaxDrawn = 2 * MaxPixels
	// Window bounds how far back a stream's zstd frame refers, in bytes.
	Window = 256 << 10
	// MaxCursor bounds a cursor's sides, in pixels.
	MaxCursor = 256
	// MaxPhoto bounds the pixels of one Photo.
	MaxPhoto = 1 << 17
	// MaxBlocks bounds the blocks of one Lossy, and MaxBlockBytes what a field of
	// its Blocks unpacks to, for each block.
	MaxBlocks     = 2048
	MaxBlockBytes = 192
	// MaxColours bounds the colours of one Palette.
	MaxColours = 256
	// MaxRaw bounds the operations of one frame, in bytes: a full 3840x2160
	// picture as SET is 24.9 MB. What its Photos and Lossys unpack to is bounded
	// by it too.
	MaxRaw = 32 << 20
	// MaxPacked bounds a frame's packed bytes: zstd can grow what it cannot
	// shrink by a few bytes a block.
	MaxPacked = MaxRaw + MaxRaw/64
)

// Code is an operation's first byte. Numbers are those of ALRP where that has
// the operation; new ones are only ever appended.
type Code byte

const (
	Fill   Code = 0xA2 // x y w h, B G R: one colour for a rectangle
	Copy   Code = 0xA4 // x y w h (destination), source x y: as if through a buffer
	Set    Code = 0xA6 // x y w h, w*h*3 bytes B G R in rows without padding
	Size   Code = 0xA8 // w h: the picture has this size from now on, all black
	Cursor Code = 0xA9 // hot x, hot y, w h, w*h*4 bytes B G R A, alpha premultiplied; 0x0 hides it
	Warp   Code = 0xAA // x y: a program has moved the pointer

	// x y w h, u8 colours less one, each colour B G R, and the pixels as indices
	// of 1, 2, 4 or 8 bits (IndexBits), first in the high bits, column by
	// column from the top, each column in whole bytes: so that a letter is the
	// same bytes wherever it is in its line. An index without colour is black.
	Palette Code = 0xAB
	// x y w h, u32 length, that many bytes: the planes G, B-G+128 and R-G+128
	// (modulo 256) of at most MaxPhoto pixels, each as PlaneRaw, PlaneFlat or
	// PlaneHuff, with flags, and what that says. A plane is what remains of
	// each pixel when the median of left, above and left+above-aboveleft is
	// taken off (those of the same plane; the first row has left, the first
	// column above, the first pixel nothing).
	Photo Code = 0xAC

	// What a window covers may come back when it goes: Keep puts the pixels of
	// a rectangle by, and Swap exchanges those of a rectangle with what was put
	// by at the same place last, which is black after Size.
	Keep Code = 0xAD // x y w h
	Swap Code = 0xAE // x y w h

	// x y w h, u8 step (not 0), u32 length, that many bytes: a picture that is
	// near the right one, at most MaxBlocks blocks. The bytes are those of a
	// Blocks in the order of its fields, each as PlaneRaw, PlaneFlat or PlaneHuff
	// and u24, the number of bytes it unpacks to, and what that says.
	Lossy Code = 0xAF
)

// The first byte of a plane of a Photo, and of a field of a Lossy.
const (
	PlaneRaw  = 0 // w*h bytes
	PlaneFlat = 1 // one byte, the same for all
	PlaneHuff = 2 // u24 length, that many bytes: Huffman table and four streams (RFC 8878 4.2), w*h bytes in all

	PlaneAlone = 4 // flag, not of the first plane: it is B or R, without G
	PlaneMean  = 8 // flag: (left+above)/2 was taken off instead of the median
)

// IndexBits is the size of an index into so many colours.
func IndexBits(colours int) int {
	switch {
	case colours <= 2:
		return 1
	case colours <= 4:
		return 2
	case colours <= 16:
		return 4
	}
	return 8
}

// An Op is one operation. Which fields count is said beside its Code.
type Op struct {
	Code       Code
	X, Y, W, H int // for Cursor, X and Y are the hot spot
	SrcX, SrcY int
	B, G, R    byte
	Step       byte   // Lossy
	Colours    []byte // Palette
	Pix        []byte
}

// Rect is the rectangle that op is about, the destination of a Copy.
func (op Op) Rect() image.Rectangle { return image.Rect(op.X, op.Y, op.X+op.W, op.Y+op.H) }

// ErrOp is wrapped by every error of Next and ParseHeader.
var ErrOp = errors.New("draw: bad operation")

// ErrShort means that the input ends before the header, or the operation, does.
var ErrShort = errors.New("draw: more bytes needed")

// Append writes op. It panics on an operation that Next would refuse (a
// caller's bug).
func (op Op) Append(b []byte) []byte {
	if err := op.check(); err != nil {
		panic(err)
	}
	b = append(b, byte(op.Code))
	u16 := binary.BigEndian.AppendUint16
	switch op.Code {
	case Size:
		return u16(u16(b, uint16(op.W)), uint16(op.H))
	case Warp:
		return u16(u16(b, uint16(op.X)), uint16(op.Y))
	}
	b = u16(u16(u16(u16(b, uint16(op.X)), uint16(op.Y)), uint16(op.W)), uint16(op.H))
	switch op.Code {
	case Fill:
		return append(b, op.B, op.G, op.R)
	case Copy:
		return u16(u16(b, uint16(op.SrcX)), uint16(op.SrcY))
	}
	switch op.Code {
	case Palette:
		b = append(append(b, byte(len(op.Colours)/3-1)), op.Colours...)
	case Photo:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(op.Pix))), op.Pix...)
	case Lossy:
		return append(binary.BigEndian.AppendUint32(append(b, op.Step), uint32(len(op.Pix))), op.Pix...)
	}
	if len(op.Pix) != op.bodyLen() {
		panic(fmt.Sprintf("draw: %d bytes of pixels for %dx%d", len(op.Pix), op.W, op.H))
	}
	return append(b, op.Pix...)
}

// bodyLen is the number of pixel bytes.
func (op Op) bodyLen() int {
	switch op.Code {
	case Set:
		return op.W * op.H * 3
	case Cursor:
		return op.W * op.H * 4
	case Palette:
		return op.W * ((op.H*IndexBits(len(op.Colours)/3) + 7) / 8)
	case Photo, Lossy:
		return len(op.Pix)
	}
	return 0
}

// maxBody bounds the bytes of a Photo, three raw planes, or of a Lossy, five
// raw fields.
func (op Op) maxBody() int {
	if op.Code == Lossy {
		return 5 * (4 + MaxBlockBytes*BlocksOf(op.W, op.H))
	}
	return 3 * (1 + op.W*op.H)
}

func (op Op) check() error {
	most := MaxSide
	least := 1
	switch op.Code {
	case Fill, Copy, Set, Size, Warp, Palette, Photo, Keep, Swap, Lossy:
	case Cursor:
		most, least = MaxCursor, 0
		if (op.W == 0) != (op.H == 0) || op.X < 0 || op.Y < 0 || op.X >= max(op.W, 1) || op.Y >= max(op.H, 1) {
			return fmt.Errorf("%w: cursor %dx%d, hot spot %d,%d", ErrOp, op.W, op.H, op.X, op.Y)
		}
	default:
		return fmt.Errorf("%w: opcode %#x", ErrOp, byte(op.Code))
	}
	if op.Code != Warp && (op.W < least || op.H < least || op.W > most || op.H > most) {
		return fmt.Errorf("%w: %#x of %dx%d", ErrOp, byte(op.Code), op.W, op.H)
	}
	if n := len(op.Colours); op.Code == Palette && (n < 3 || n > 3*MaxColours || n%3 != 0) {
		return fmt.Errorf("%w: %#x with %d bytes of colours", ErrOp, byte(op.Code), n)
	}
	if op.Code == Photo && (op.W*op.H > MaxPhoto || len(op.Pix) > op.maxBody()) {
		return fmt.Errorf("%w: %#x of %dx%d in %d bytes", ErrOp, byte(op.Code), op.W, op.H, len(op.Pix))
	}
	if op.Code == Lossy && (op.Step == 0 || BlocksOf(op.W, op.H) > MaxBlocks || len(op.Pix) > op.maxBody()) {
		return fmt.Errorf("%w: %#x of %dx%d in %d bytes, step %d", ErrOp, byte(op.Code), op.W, op.H, len(op.Pix), op.Step)
	}
	if op.Code == Size && op.W*op.H > MaxPixels {
		return fmt.Errorf("%w: picture of %dx%d", ErrOp, op.W, op.H)
	}
	for _, v := range [4]int{op.X, op.Y, op.SrcX, op.SrcY} {
		if v < 0 || v >= MaxSide {
			return fmt.Errorf("%w: %#x at %d", ErrOp, byte(op.Code), v)
		}
	}
	if op.bodyLen() > MaxRaw {
		return fmt.Errorf("%w: %#x of %d bytes", ErrOp, byte(op.Code), op.bodyLen())
	}
	return nil
}

// cutShort is the error for an operation that b ends in.
func cutShort(code Code) error {
	return fmt.Errorf("%w: %#x cut short: %w", ErrOp, byte(code), ErrShort)
}

// Next reads the first operation of b and returns what follows it. Its error is
// ErrShort too where b may be the start of one.
func Next(b []byte) (op Op, rest []byte, err error) {
	if len(b) == 0 {
		return Op{}, nil, fmt.Errorf("%w: empty", ErrOp)
	}
	op.Code, b = Code(b[0]), b[1:]
	fixed := 0
	switch op.Code {
	case Size, Warp:
		fixed = 4
	case Set, Cursor, Keep, Swap:
		fixed = 8
	case Palette:
		fixed = 9
	case Fill:
		fixed = 11
	case Copy, Photo:
		fixed = 12
	case Lossy:
		fixed = 13
	default:
		return Op{}, nil, fmt.Errorf("%w: opcode %#x", ErrOp, byte(op.Code))
	}
	if len(b) < fixed {
		return Op{}, nil, cutShort(op.Code)
	}
	at := func(i int) int { return int(binary.BigEndian.Uint16(b[i:])) }
	switch op.Code {
	case Size:
		op.W, op.H = at(0), at(2)
	case Warp:
		op.X, op.Y = at(0), at(2)
	default:
		op.X, op.Y, op.W, op.H = at(0), at(2), at(4), at(6)
	}
	switch op.Code {
	case Fill:
		op.B, op.G, op.R = b[8], b[9], b[10]
	case Copy:
		op.SrcX, op.SrcY = at(8), at(10)
	case Palette:
		n := 3 * (int(b[8]) + 1)
		if len(b) < fixed+n {
			return Op{}, nil, cutShort(op.Code)
		}
		op.Colours = b[fixed : fixed+n : fixed+n]
		fixed += n
	case Photo, Lossy:
		n, most := binary.BigEndian.Uint32(b[fixed-4:]), uint32(3*(1+MaxPhoto))
		if op.Code == Lossy {
			op.Step, most = b[8], 5*(4+MaxBlockBytes*MaxBlocks)
		}
		if n > most {
			return Op{}, nil, fmt.Errorf("%w: %#x of %d bytes", ErrOp, byte(op.Code), n)
		}
		if int(n) > len(b)-fixed {
			return Op{}, nil, cutShort(op.Code)
		}
		op.Pix = b[fixed : fixed+int(n) : fixed+int(n)]
	}
	if err := op.check(); err != nil {
		return Op{}, nil, err
	}
	b = b[fixed:]
	if n := op.bodyLen(); n > 0 {
		if len(b) < n {
			return Op{}, nil, cutShort(op.Code)
		}
		op.Pix, b = b[:n:n], b[n:]
	}
	return op, b, nil
}

// A Header begins a frame.
type Header struct {
	Seq    uint32
	Packed int
	Raw    int
}

// MaxHeader is the longest header in bytes.
const MaxHeader = 3 * 5

// Append writes h.
func (h Header) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(h.Seq))
	b = binary.AppendUvarint(b, uint64(h.Packed))
	return binary.AppendUvarint(b, uint64(h.Raw))
}

// ParseHeader reads a header from the start of b and returns what follows it.
// ErrShort means that b may be the start of one.
func ParseHeader(b []byte) (h Header, rest []byte, err error) {
	var v [3]uint64
	for i := range v {
		x, n := binary.Uvarint(b)
		if n == 0 && len(b) < 5 {
			return Header{}, nil, ErrShort
		}
		if n <= 0 || n > 5 || n > 1 && b[n-1] == 0 { // longer than needed: not what Append writes
			return Header{}, nil, fmt.Errorf("%w: header", ErrOp)
		}
		v[i], b = x, b[n:]
	}
	if v[0] > 1<<32-1 || v[1] > MaxPacked || v[2] > MaxRaw {
		return Header{}, nil, fmt.Errorf("%w: frame %d of %d bytes in %d", ErrOp, v[0], v[2], v[1])
	}
	return Header{uint32(v[0]), int(v[1]), int(v[2])}, b, nil
}
