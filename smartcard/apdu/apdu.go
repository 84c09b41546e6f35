// Package apdu is the codec of the commands that a terminal sends to a card
// and of the card's answers.
//
// Source: ISO 7816-4 section 5.1 (short form); section 11.1.1 SELECT, 11.4.3
// GET DATA.
//
// Invariants:
//  1. ParseCommand(Append(c)) == c, and Append(ParseCommand(b)) == b for every
//     b that ParseCommand accepts.
//  2. The same for responses.
//
// The package does no I/O. Limits: MaxData and MaxLe, those of the short form;
// a command in the extended form is refused by name.
package apdu

import (
	"errors"
	"fmt"
)

const (
	// MaxData bounds a short command's data, in bytes.
	MaxData = 255
	// MaxLe bounds what a short command can ask for, in bytes.
	MaxLe = 256
)

// Instructions.
const (
	InsSelect  = 0xA4
	InsGetData = 0xCA
)

// Status words.
const (
	OK                = 0x9000
	WrongLength       = 0x6700
	ConditionsNotMet  = 0x6985
	FileNotFound      = 0x6A82
	WrongParameters   = 0x6A86
	DataNotFound      = 0x6A88
	InsNotSupported   = 0x6D00
	ClassNotSupported = 0x6E00
)

// SimpleAID is the application of Hotdesk's own simple card: a proprietary
// identifier (first digit F, ISO 7816-4 section 12.2.3.4) and the name.
var SimpleAID = []byte{0xF0, 'H', 'O', 'T', 'D', 'E', 'S', 'K', 0x01}

// SimpleID is the data object with the simple card's id: SimpleIDSize bytes.
const SimpleID = 0x0101

// SimpleIDSize is the length of a simple card's id in bytes.
const SimpleIDSize = 8

// ErrCommand is wrapped by every error of ParseCommand.
var ErrCommand = errors.New("apdu: bad command")

// ErrResponse is wrapped by every error of ParseResponse.
var ErrResponse = errors.New("apdu: bad response")

// A Command is a command APDU.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Le               int // bytes asked for at most, 0 = none
}

// Select is SELECT by application identifier.
func Select(aid []byte) Command {
	return Command{INS: InsSelect, P1: 4, Data: aid, Le: MaxLe}
}

// GetData is GET DATA of one object.
func GetData(object uint16) Command {
	return Command{INS: InsGetData, P1: byte(object >> 8), P2: byte(object), Le: MaxLe}
}

// Append writes c. It panics on a command that does not fit the short form (a
// caller's bug).
func (c Command) Append(b []byte) []byte {
	if len(c.Data) > MaxData || c.Le < 0 || c.Le > MaxLe {
		panic(fmt.Sprintf("apdu: %d bytes of data, %d asked for", len(c.Data), c.Le))
	}
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if len(c.Data) > 0 {
		b = append(append(b, byte(len(c.Data))), c.Data...)
	}
	if c.Le > 0 {
		b = append(b, byte(c.Le)) // 256 is written as 0
	}
	return b
}

// ParseCommand reads a whole command.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes", ErrCommand, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	le := func(v byte) int { return (int(v)+MaxLe-1)%MaxLe + 1 }
	switch b = b[4:]; {
	case len(b) == 0:
		return c, nil
	case len(b) == 1:
		c.Le = le(b[0])
		return c, nil
	case b[0] == 0:
		return Command{}, fmt.Errorf("%w: extended length", ErrCommand)
	}
	n := int(b[0])
	switch b = b[1:]; len(b) {
	case n:
	case n + 1:
		c.Le = le(b[n])
	default:
		return Command{}, fmt.Errorf("%w: %d bytes of data, %d announced", ErrCommand, len(b), n)
	}
	c.Data = b[:n:n]
	return c, nil
}

// A Response is a response APDU.
type Response struct {
	Data   []byte
	Status uint16
}

// Append writes r.
func (r Response) Append(b []byte) []byte {
	return append(append(b, r.Data...), byte(r.Status>>8), byte(r.Status))
}

// ParseResponse reads a whole response of the short form.
func ParseResponse(b []byte) (Response, error) {
	n := len(b) - 2
	if n < 0 || n > MaxLe {
		return Response{}, fmt.Errorf("%w: %d bytes", ErrResponse, len(b))
	}
	r := Response{Status: uint16(b[n])<<8 | uint16(b[n+1])}
	if n > 0 {
		r.Data = b[:n:n]
	}
	return r, nil
}
