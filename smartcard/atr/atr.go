// Package atr is the codec of the answer to reset, the first bytes that a card
// says: which protocols it speaks, how fast, and who it is.
//
// Source: ISO 7816-3 section 8 (TS, T0, interface bytes, TCK), ISO 7816-4
// section 12.1.1 (historical bytes), PC/SC part 3 section 3.1.3.2.3 (what a
// reader makes up for a contactless card).
//
// Invariants:
//  1. Append(Parse(b)) == b for every b that Parse accepts.
//  2. Parse accepts what ISO 7816-3 allows and nothing else; its errors say
//     which byte is wrong and what it should be.
//
// The package does no I/O. Limits: MaxSize, MaxHistorical.
package atr

import (
	"errors"
	"fmt"
	"slices"
)

const (
	// MaxSize bounds an ATR: TS and 32 bytes more.
	MaxSize = 33
	// MaxHistorical bounds the historical bytes.
	MaxHistorical = 15
)

// TS, the first byte.
const (
	Direct  = 0x3B
	Inverse = 0x3F
)

// ErrATR is wrapped by every error of Parse.
var ErrATR = errors.New("atr: bad answer to reset")

// Which bytes a Level has.
const (
	HasTA = 1 << iota
	HasTB
	HasTC
	HasTD
)

// A Level is the interface bytes TAi to TDi.
type Level struct {
	Has        byte // HasTA and so on
	TA, TB, TC byte
	Protocol   byte // T, the low half of TDi
}

// ATR is an answer to reset.
type ATR struct {
	TS         byte
	Levels     []Level // i = 1, 2 and so on; one more than there are TDi
	Historical []byte
	HasTCK     bool
	TCK        byte
}

// Parse reads a whole ATR.
func Parse(b []byte) (ATR, error) {
	fail := func(format string, args ...any) (ATR, error) {
		return ATR{}, fmt.Errorf("%w: %s", ErrATR, fmt.Sprintf(format, args...))
	}
	switch {
	case len(b) < 2:
		return fail("%d bytes; TS and T0 are needed", len(b))
	case len(b) > MaxSize:
		return fail("%d bytes; at most %d", len(b), MaxSize)
	case b[0] == 0x03:
		return fail("TS is 03: the reader does not decode the inverse convention (it should give 3F)")
	case b[0] != Direct && b[0] != Inverse:
		return fail("TS is %02X; 3B or 3F", b[0])
	}
	a := ATR{TS: b[0]}
	historical := int(b[1] & 15)
	rest := b[2:]
	take := func() (v byte, ok bool) {
		if len(rest) == 0 {
			return 0, false
		}
		v, rest = rest[0], rest[1:]
		return v, true
	}
	has := b[1] >> 4
	for i := 1; ; i++ {
		l := Level{Has: has}
		var td byte
		for n, dst := range []*byte{&l.TA, &l.TB, &l.TC, &td} {
			if has&(1<<n) == 0 {
				continue
			}
			v, ok := take()
			if !ok {
				return fail("ends before T%c%d, which is announced", 'A'+n, i)
			}
			*dst = v
		}
		l.Protocol = td & 15
		a.Levels = append(a.Levels, l)
		if has&HasTD == 0 {
			break
		}
		if err := a.order(i, l.Protocol); err != nil {
			return ATR{}, err
		}
		has = td >> 4
	}
	if len(rest) < historical {
		return fail("%d historical bytes announced, %d there", historical, len(rest))
	}
	if historical > 0 {
		a.Historical = rest[:historical:historical]
	}
	rest = rest[historical:]
	if !a.needsTCK() {
		if len(rest) > 0 {
			return fail("%d bytes too many; a card that offers T=0 only has no TCK", len(rest))
		}
		return a, nil
	}
	if len(rest) != 1 {
		return fail("%d bytes after the historical bytes; exactly TCK must stand there, as a protocol other than T=0 is offered", len(rest))
	}
	a.HasTCK, a.TCK = true, rest[0]
	if sum := xor(b[1:]); sum != 0 {
		return fail("TCK is %02X, must be %02X", a.TCK, a.TCK^sum)
	}
	return a, nil
}

// order checks the T of TDi against those before it: ascending, T=15 not first
// (ISO 7816-3 section 8.2.3).
func (a ATR) order(i int, t byte) error {
	if i == 1 {
		if t == 15 {
			return fmt.Errorf("%w: TD1 names T=15, which is no protocol", ErrATR)
		}
		return nil
	}
	if before := a.Levels[i-2].Protocol; t < before {
		return fmt.Errorf("%w: TD%d names T=%d after T=%d; they must ascend", ErrATR, i, t, before)
	}
	return nil
}

func (a ATR) needsTCK() bool {
	for _, l := range a.Levels {
		if l.Has&HasTD != 0 && l.Protocol != 0 {
			return true
		}
	}
	return false
}

func xor(b []byte) byte {
	var sum byte
	for _, v := range b {
		sum ^= v
	}
	return sum
}

// Append writes a as it stands; it does not make TCK. It panics where a cannot
// be written (a caller's bug).
func (a ATR) Append(b []byte) []byte {
	if len(a.Levels) == 0 || len(a.Historical) > MaxHistorical {
		panic(fmt.Sprintf("atr: %d levels, %d historical bytes", len(a.Levels), len(a.Historical)))
	}
	b = append(b, a.TS, a.Levels[0].Has<<4|byte(len(a.Historical)))
	for i, l := range a.Levels {
		if l.Has&HasTA != 0 {
			b = append(b, l.TA)
		}
		if l.Has&HasTB != 0 {
			b = append(b, l.TB)
		}
		if l.Has&HasTC != 0 {
			b = append(b, l.TC)
		}
		if l.Has&HasTD != 0 {
			if i+1 == len(a.Levels) {
				panic("atr: TD announces a level that is not there")
			}
			b = append(b, a.Levels[i+1].Has<<4|l.Protocol)
		}
	}
	b = append(b, a.Historical...)
	if a.HasTCK {
		b = append(b, a.TCK)
	}
	return b
}

// Seal returns a with the TCK that it must have, or none.
func (a ATR) Seal() ATR {
	a.HasTCK, a.TCK = false, 0
	if a.needsTCK() {
		a.TCK, a.HasTCK = xor(a.Append(nil)[1:]), true
	}
	return a
}

// Protocols lists the transmission protocols that the card offers, the first
// one first: 0, 1 and so on. A card that names none offers T=0.
func (a ATR) Protocols() []int {
	var list []int
	for _, l := range a.Levels {
		if t := int(l.Protocol); l.Has&HasTD != 0 && t != 15 && (len(list) == 0 || list[len(list)-1] != t) {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return []int{0}
	}
	return list
}

// Offers reports whether the card offers the protocol.
func (a ATR) Offers(protocol int) bool {
	return slices.Contains(a.Protocols(), protocol)
}
