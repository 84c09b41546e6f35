// Package apdu is the codec of the commands that a terminal sends to a card
// and of the card's answers, and the pure machine that carries one command
// through command chaining, GET RESPONSE and a corrected Le.
//
// Source: ISO 7816-3 section 12.1 (cases 1, 2S, 3S, 4S, 2E, 3E, 4E); ISO 7816-4
// section 5.1 (command-response pairs, chaining, status words), 11.1.1 SELECT,
// 11.4.3 GET DATA, 11.5.6 VERIFY, 11.7.1 GET RESPONSE.
//
// Invariants:
//  1. Append(ParseCommand(b)) == b for every b that ParseCommand accepts, and
//     ParseCommand(Append(c)) == c, with Extended set where the lengths of c
//     need the extended form.
//  2. The same for responses.
//  3. A Dialog ends: after at most MaxSteps commands, with at most MaxLe bytes.
//
// The package does no I/O. A Dialog and an Assembler are not safe for concurrent
// use. Limits: MaxData and MaxLe, those of the extended form; MaxSteps.
package apdu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxShortData bounds the data of a command in the short form, in bytes.
	MaxShortData = 255
	// MaxShortLe bounds what a command in the short form can ask for, in bytes.
	MaxShortLe = 256
	// MaxData bounds a command's data, in bytes.
	MaxData = 65535
	// MaxLe bounds what a command can ask for, in bytes.
	MaxLe = 65536
)

// ErrCommand is wrapped by every error of ParseCommand.
var ErrCommand = errors.New("apdu: bad command")

// ErrResponse is wrapped by every error of ParseResponse.
var ErrResponse = errors.New("apdu: bad response")

// A Command is a command APDU.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Le               int  // bytes asked for at most, 0 = none
	Extended         bool // lengths in the extended form although the short one would do
}

// Select is SELECT by application identifier.
func Select(aid []byte) Command {
	return Command{INS: InsSelect, P1: 4, Data: aid, Le: MaxShortLe}
}

// GetData is GET DATA of one object.
func GetData(object uint16) Command {
	return Command{INS: InsGetData, P1: byte(object >> 8), P2: byte(object), Le: MaxShortLe}
}

// GetResponse asks for n more bytes of an answer, on c's logical channel.
func GetResponse(cla byte, n int) Command {
	return Command{CLA: cla &^ ChainBit, INS: InsGetResponse, Le: n}
}

// Short reports whether c fits the short form.
func (c Command) Short() bool { return len(c.Data) <= MaxShortData && c.Le <= MaxShortLe }

// Append writes c, in the extended form if c says so or does not fit the
// short one. It panics on a command that fits neither (a caller's bug).
func (c Command) Append(b []byte) []byte {
	if len(c.Data) > MaxData || c.Le < 0 || c.Le > MaxLe {
		panic(fmt.Sprintf("apdu: %d bytes of data, %d asked for", len(c.Data), c.Le))
	}
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if len(c.Data) == 0 && c.Le == 0 {
		return b
	}
	if c.Short() && !c.Extended {
		if len(c.Data) > 0 {
			b = append(append(b, byte(len(c.Data))), c.Data...)
		}
		if c.Le > 0 {
			b = append(b, byte(c.Le)) // 256 is written as 0
		}
		return b
	}
	b = append(b, 0)
	if len(c.Data) > 0 {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(c.Data))), c.Data...)
	}
	if c.Le > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(c.Le)) // 65536 is written as 0
	}
	return b
}

// ParseCommand reads a whole command, in either form.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes", ErrCommand, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	b = b[4:]
	switch {
	case len(b) == 0:
		return c, nil
	case len(b) == 1:
		c.Le = shortLe(b[0])
		return c, nil
	case b[0] == 0:
		return c.parseExtended(b)
	}
	n := int(b[0])
	switch b = b[1:]; len(b) {
	case n:
	case n + 1:
		c.Le = shortLe(b[n])
	default:
		return Command{}, fmt.Errorf("%w: %d bytes after Lc, which announces %d and at most one more for Le", ErrCommand, len(b), n)
	}
	c.Data = b[:n:n]
	return c, nil
}

// parseExtended reads what follows the header of the extended form.
func (c Command) parseExtended(b []byte) (Command, error) {
	if len(b) < 3 {
		return Command{}, fmt.Errorf("%w: extended form cut short after %d bytes", ErrCommand, len(b))
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	c.Extended = true
	b = b[3:]
	if len(b) == 0 {
		c.Le = extendedLe(n)
		return c, nil
	}
	if n == 0 {
		return Command{}, fmt.Errorf("%w: extended Lc of 0 with %d bytes after it", ErrCommand, len(b))
	}
	switch len(b) {
	case n:
	case n + 2:
		c.Le = extendedLe(int(binary.BigEndian.Uint16(b[n:])))
	default:
		return Command{}, fmt.Errorf("%w: %d bytes after extended Lc, which announces %d and at most two more for Le", ErrCommand, len(b), n)
	}
	c.Data = b[:n:n]
	return c, nil
}

func shortLe(v byte) int { return (int(v)+MaxShortLe-1)%MaxShortLe + 1 }

func extendedLe(v int) int { return (v+MaxLe-1)%MaxLe + 1 }

// A Response is a response APDU.
type Response struct {
	Data   []byte
	Status uint16
}

// Append writes r.
func (r Response) Append(b []byte) []byte {
	return append(append(b, r.Data...), byte(r.Status>>8), byte(r.Status))
}

// ParseResponse reads a whole response.
func ParseResponse(b []byte) (Response, error) {
	n := len(b) - 2
	if n < 0 || n > MaxLe {
		return Response{}, fmt.Errorf("%w: %d bytes", ErrResponse, len(b))
	}
	r := Response{Status: binary.BigEndian.Uint16(b[n:])}
	if n > 0 {
		r.Data = b[:n:n]
	}
	return r, nil
}
