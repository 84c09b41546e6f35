// Package tpdu is the transmission protocols T=0 and T=1 for readers that leave
// them to the computer (CCID's TPDU and character level), as pure machines.
//
// Source: ISO 7816-3 section 10 (T=0: procedure bytes, NULL, ACK), section 11
// (T=1: blocks, error detection, rules of section 11.6), section 12.2 (APDUs
// over T=0) and 12.3 (over T=1).
//
// Invariants:
//  1. Append(ParseBlock(b)) == b for every block that ParseBlock accepts.
//  2. A T1 ends every command: with the answer, or with an error after at most
//     MaxRetries repetitions and one resynchronisation of MaxRetries tries.
//  3. A T0 never sends more than the command's data, never takes more than
//     apdu.MaxShortLe bytes and two of status.
//
// The package does no I/O and reads no clock; callers pass the time, ask Next
// for the deadline and call Tick when it is past. Machines are not safe for
// concurrent use. Limits: MaxINF, MaxRetries, MaxExtensions, apdu.MaxLe.
package tpdu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxINF bounds a block's information field, in bytes.
	MaxINF = 254
	// MaxBlock bounds a block: NAD, PCB, LEN, the information, two of CRC.
	MaxBlock = 3 + MaxINF + 2
	// MaxRetries is how often a block is repeated.
	MaxRetries = 2
)

// ErrBlock is wrapped by every error of ParseBlock.
var ErrBlock = errors.New("tpdu: bad block")

// A Block is a block of T=1.
type Block struct {
	NAD, PCB byte
	INF      []byte
}

// Kinds of blocks, by PCB.
const (
	sBit      = 0xC0 // supervisory; with 0x20 the answer
	rBit      = 0x80
	responseS = 0x20
	rSequence = 0x10
	iSequence = 0x40
	iMore     = 0x20
)

// Supervisory blocks, PCB of the request.
const (
	Resynch = 0xC0
	IFS     = 0xC1
	AbortS  = 0xC2
	WTX     = 0xC3
)

// R is a receive ready block: it asks for the block of the number, with a
// reason: 0 none, 1 parity or error detection code, 2 other.
func R(number, reason byte) Block { return Block{PCB: rBit | number<<4 | reason} }

// I is an information block.
func I(number byte, more bool, inf []byte) Block {
	b := Block{PCB: number << 6, INF: inf}
	if more {
		b.PCB |= iMore
	}
	return b
}

// S is a supervisory block.
func S(pcb byte, inf ...byte) Block { return Block{PCB: pcb, INF: inf} }

// IsI, IsR and IsS tell the kind.
func (b Block) IsI() bool { return b.PCB&0x80 == 0 }

// IsR: see IsI.
func (b Block) IsR() bool { return b.PCB&0xC0 == rBit }

// IsS: see IsI.
func (b Block) IsS() bool { return b.PCB&0xC0 == sBit }

// Number is an I-block's or R-block's.
func (b Block) Number() byte {
	if b.IsI() {
		return b.PCB & iSequence >> 6
	}
	return b.PCB & rSequence >> 4
}

// More reports whether an I-block goes on.
func (b Block) More() bool { return b.IsI() && b.PCB&iMore != 0 }

// Append writes b with its error detection code, CRC or LRC. It panics on more
// than MaxINF (a caller's bug).
func (b Block) Append(dst []byte, crc bool) []byte {
	if len(b.INF) > MaxINF {
		panic(fmt.Sprintf("tpdu: block of %d bytes", len(b.INF)))
	}
	begin := len(dst)
	dst = append(append(dst, b.NAD, b.PCB, byte(len(b.INF))), b.INF...)
	if crc {
		return binary.BigEndian.AppendUint16(dst, CRC(dst[begin:]))
	}
	return append(dst, LRC(dst[begin:]))
}

// ParseBlock reads a whole block.
func ParseBlock(b []byte, crc bool) (Block, error) {
	edc := 1
	if crc {
		edc = 2
	}
	switch {
	case len(b) < 3+edc || len(b) > 3+MaxINF+edc:
		return Block{}, fmt.Errorf("%w: %d bytes", ErrBlock, len(b))
	case int(b[2]) != len(b)-3-edc:
		return Block{}, fmt.Errorf("%w: %d bytes of information announced, %d there", ErrBlock, b[2], len(b)-3-edc)
	}
	end := len(b) - edc
	if crc && CRC(b[:end]) != binary.BigEndian.Uint16(b[end:]) || !crc && LRC(b[:end]) != b[end] {
		return Block{}, fmt.Errorf("%w: error detection code", ErrBlock)
	}
	blk := Block{NAD: b[0], PCB: b[1]}
	if end > 3 {
		blk.INF = b[3:end:end]
	}
	if err := blk.check(); err != nil {
		return Block{}, err
	}
	return blk, nil
}

// check refuses what section 11.3.2 does not define.
func (b Block) check() error {
	ok := true
	switch {
	case b.IsI():
		ok = b.PCB&0x1f == 0
	case b.IsR():
		ok = b.PCB&0x2f <= 2 && len(b.INF) == 0
	default:
		switch b.PCB &^ responseS {
		case Resynch, AbortS:
			ok = len(b.INF) == 0
		case IFS, WTX:
			ok = len(b.INF) == 1 && b.INF[0] != 0
		default:
			ok = b.PCB == 0xE4 && len(b.INF) == 0 // answer: error on VPP, of old cards
		}
	}
	if !ok {
		return fmt.Errorf("%w: PCB %02x with %d bytes of information", ErrBlock, b.PCB, len(b.INF))
	}
	return nil
}

// LRC is the exclusive or of all bytes.
func LRC(b []byte) byte {
	var sum byte
	for _, v := range b {
		sum ^= v
	}
	return sum
}

// CRC is that of ISO/IEC 13239 (polynomial x^16+x^12+x^5+1, reflected, initial
// value and final complement FFFF), its high byte first on the wire.
func CRC(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, v := range b {
		crc ^= uint16(v)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8408
			} else {
				crc >>= 1
			}
		}
	}
	return crc ^ 0xffff
}
