// Package ccid is the codec of the messages between a computer and a USB
// smart card reader.
//
// Source: USB-IF, Specification for Integrated Circuit(s) Cards Interface
// Devices, revision 1.1: section 5.1 (class descriptor), 5.3 (class requests),
// 6.1 (PC_to_RDR), 6.2 (RDR_to_PC), 6.3 (interrupt).
//
// Invariants:
//  1. Append(Parse(b)) == b for every message that Parse accepts.
//  2. A message whose length field and bytes do not agree is refused, and so
//     is one of a type that the package does not name.
//
// The package does no I/O. Limit: MaxData, checked before anything is made of
// the length field. Transmission protocols are in package tpdu.
package ccid

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// HeaderSize is the length of every bulk message without its data.
	HeaderSize = 10
	// MaxData bounds a message's data: an extended APDU, in bytes.
	MaxData = 65544
	// MaxMessage bounds a message, in bytes.
	MaxMessage = HeaderSize + MaxData
	// MaxSlots bounds the slots of a reader.
	MaxSlots = 256
)

// ErrMessage is wrapped by every error of the parsers.
var ErrMessage = errors.New("ccid: bad message")

// Types of messages to the reader. In the comment: the three bytes after the
// header's bSeq, and the data.
const (
	SetParameters       = 0x61 // bProtocolNum 0 0; the protocol's parameters
	IccPowerOn          = 0x62 // bPowerSelect 0 0
	IccPowerOff         = 0x63 // 0 0 0
	GetSlotStatus       = 0x65 // 0 0 0
	Secure              = 0x69 // bBWI wLevelParameter; PIN operation and its data
	T0APDU              = 0x6A // bmChanges bClassGetResponse bClassEnvelope
	Escape              = 0x6B // 0 0 0; what the vendor says
	GetParameters       = 0x6C // 0 0 0
	ResetParameters     = 0x6D // 0 0 0
	IccClock            = 0x6E // bClockCommand 0 0
	XfrBlock            = 0x6F // bBWI wLevelParameter; what goes to the card
	Mechanical          = 0x71 // bFunction 0 0
	Abort               = 0x72 // 0 0 0; with the control request of the same name
	SetRateAndFrequency = 0x73 // 0 0 0; dwClockFrequency dwDataRate
)

// Types of messages from the reader. In the comment: the byte after bError,
// and the data.
const (
	DataBlock         = 0x80 // bChainParameter; ATR or what came from the card
	SlotStatus        = 0x81 // bClockStatus
	Parameters        = 0x82 // bProtocolNum; the protocol's parameters
	EscapeAnswer      = 0x83 // 0; what the vendor says
	RateAndFrequency  = 0x84 // 0; dwClockFrequency dwDataRate
	NotifySlotChange  = 0x50 // interrupt: two bits for each slot
	HardwareError     = 0x51 // interrupt: bSlot bSeq bHardwareErrorCode
	clockChangedBytes = 8
)

// Class requests on the control pipe.
const (
	RequestAbort               = 0x01 // out, wValue = bSeq<<8 | bSlot
	RequestGetClockFrequencies = 0x02 // in, 4 bytes each
	RequestGetDataRates        = 0x03 // in, 4 bytes each
)

// Voltages, bPowerSelect.
const (
	Automatic = 0
	Volt5     = 1
	Volt3     = 2
	Volt18    = 3
)

// wLevelParameter and bChainParameter of short pieces of a long APDU.
const (
	Whole  = 0    // begins and ends here
	First  = 1    // begins here, goes on
	Last   = 2    // goes on and ends here
	Middle = 3    // goes on and does not end
	Next   = 0x10 // empty: asks for the other side's next piece
)

// A Command is a message to the reader.
type Command struct {
	Type      byte
	Slot, Seq byte
	Param     [3]byte
	Data      []byte
}

// PowerOn asks for the card's ATR at a voltage.
func PowerOn(slot, seq, voltage byte) Command {
	return Command{Type: IccPowerOn, Slot: slot, Seq: seq, Param: [3]byte{voltage}}
}

// Transfer sends a block, an APDU or a piece of one to the card. bwi extends
// the time that the card may take, 0 = not.
func Transfer(slot, seq, bwi byte, level uint16, data []byte) Command {
	return Command{Type: XfrBlock, Slot: slot, Seq: seq, Param: [3]byte{bwi, byte(level), byte(level >> 8)}, Data: data}
}

// SetProtocol sets the slot to protocol 0 or 1 with its parameters.
func SetProtocol(slot, seq, protocol byte, parameters []byte) Command {
	return Command{Type: SetParameters, Slot: slot, Seq: seq, Param: [3]byte{protocol}, Data: parameters}
}

// Simple is a command of a type that has neither parameters nor data.
func Simple(kind, slot, seq byte) Command { return Command{Type: kind, Slot: slot, Seq: seq} }

// SetRate sets clock (kHz) and data rate (bit/s) by hand.
func SetRate(slot, seq byte, kHz, bps uint32) Command {
	data := binary.LittleEndian.AppendUint32(nil, kHz)
	return Command{Type: SetRateAndFrequency, Slot: slot, Seq: seq, Data: binary.LittleEndian.AppendUint32(data, bps)}
}

// Append writes c. It panics on more than MaxData (a caller's bug).
func (c Command) Append(b []byte) []byte {
	return appendMessage(b, c.Type, c.Slot, c.Seq, c.Param, c.Data)
}

func appendMessage(b []byte, kind, slot, seq byte, param [3]byte, data []byte) []byte {
	if len(data) > MaxData {
		panic(fmt.Sprintf("ccid: message of %d bytes", len(data)))
	}
	b = binary.LittleEndian.AppendUint32(append(b, kind), uint32(len(data)))
	b = append(b, slot, seq, param[0], param[1], param[2])
	return append(b, data...)
}

// carries says how long a type's data may be.
var carries = map[byte]struct{ least, most int }{
	SetParameters: {5, 7}, IccPowerOn: {}, IccPowerOff: {}, GetSlotStatus: {}, Secure: {1, MaxData},
	T0APDU: {}, Escape: {0, MaxData}, GetParameters: {}, ResetParameters: {}, IccClock: {},
	XfrBlock: {0, MaxData}, Mechanical: {}, Abort: {}, SetRateAndFrequency: {clockChangedBytes, clockChangedBytes},
	DataBlock: {0, MaxData}, SlotStatus: {}, Parameters: {0, 7}, EscapeAnswer: {0, MaxData},
	RateAndFrequency: {0, clockChangedBytes},
}

// parse checks a bulk message and gives its parts.
func parse(b []byte, answers bool) (param [3]byte, data []byte, err error) {
	if len(b) < HeaderSize {
		return param, nil, fmt.Errorf("%w: %d bytes; the header has %d", ErrMessage, len(b), HeaderSize)
	}
	limit, known := carries[b[0]]
	if !known || b[0]&0x80 != 0 != answers {
		return param, nil, fmt.Errorf("%w: type %02x is not known here", ErrMessage, b[0])
	}
	n := binary.LittleEndian.Uint32(b[1:])
	if n > MaxData || int(n) != len(b)-HeaderSize {
		return param, nil, fmt.Errorf("%w: %d bytes of data announced, %d there", ErrMessage, n, len(b)-HeaderSize)
	}
	if int(n) < limit.least || int(n) > limit.most {
		return param, nil, fmt.Errorf("%w: type %02x with %d bytes of data; %d to %d", ErrMessage, b[0], n, limit.least, limit.most)
	}
	if n > 0 {
		data = b[HeaderSize:len(b):len(b)]
	}
	return [3]byte(b[7:10]), data, nil
}

// ParseCommand reads a whole message to the reader, for readers made of
// software.
func ParseCommand(b []byte) (Command, error) {
	param, data, err := parse(b, false)
	if err != nil {
		return Command{}, err
	}
	return Command{b[0], b[5], b[6], param, data}, nil
}

// An Answer is a message from the reader.
type Answer struct {
	Type      byte
	Slot, Seq byte
	Status    byte // bStatus: see Icc and Outcome
	Error     byte // bError
	Param     byte // by type
	Data      []byte
}

// Append writes a. It panics on more than MaxData (a caller's bug).
func (a Answer) Append(b []byte) []byte {
	return appendMessage(b, a.Type, a.Slot, a.Seq, [3]byte{a.Status, a.Error, a.Param}, a.Data)
}

// ParseAnswer reads a whole message from the reader.
func ParseAnswer(b []byte) (Answer, error) {
	param, data, err := parse(b, true)
	if err != nil {
		return Answer{}, err
	}
	return Answer{b[0], b[5], b[6], param[0], param[1], param[2], data}, nil
}

// Announced tells from a header how long the whole message is, so that a
// reader of packets knows when it has all of it.
func Announced(header []byte) (int, error) {
	if len(header) < HeaderSize {
		return 0, fmt.Errorf("%w: %d bytes; the header has %d", ErrMessage, len(header), HeaderSize)
	}
	n := binary.LittleEndian.Uint32(header[1:])
	if n > MaxData {
		return 0, fmt.Errorf("%w: %d bytes of data announced; at most %d", ErrMessage, n, MaxData)
	}
	return HeaderSize + int(n), nil
}
