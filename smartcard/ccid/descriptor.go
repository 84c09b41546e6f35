package ccid

import (
	"encoding/binary"
	"fmt"
)

const (
	// DescriptorSize is the length of the class descriptor.
	DescriptorSize = 54
	// DescriptorType marks it among a configuration's descriptors.
	DescriptorType = 0x21
	// InterfaceClass marks the interface it belongs to.
	InterfaceClass = 0x0B
)

// Features of a reader, dwFeatures.
const (
	AutoATR          = 0x00000002 // configures itself by the ATR
	AutoActivate     = 0x00000004 // powers a card that comes
	AutoVoltage      = 0x00000008
	AutoClock        = 0x00000010
	AutoRate         = 0x00000020
	AutoNegotiate    = 0x00000040 // makes PPS or speed by itself
	AutoPPS          = 0x00000080
	CanStopClock     = 0x00000100
	TakesNAD         = 0x00000200
	AutoIFSD         = 0x00000400 // tells a T=1 card its block size by itself
	levels           = 0x00070000
	WakesOnCard      = 0x00100000
	levelTPDU        = 0x00010000
	levelShortAPDU   = 0x00020000
	levelExtendedAPU = 0x00040000
)

// Level is what a reader exchanges with the computer.
type Level int

const (
	Character Level = iota // bytes
	TPDU                   // blocks of T=1, header and data of T=0
	ShortAPDU
	ExtendedAPDU // short and extended
)

func (l Level) String() string {
	return [...]string{"character", "TPDU", "short APDU", "extended APDU"}[l]
}

// A Descriptor is the class descriptor.
type Descriptor struct {
	Version        uint16 // bcdCCID
	MaxSlotIndex   byte
	Voltages       byte   // bit 0 = 5 V, 1 = 3 V, 2 = 1.8 V
	Protocols      uint32 // bit 0 = T=0, 1 = T=1
	DefaultClock   uint32 // kHz
	MaximumClock   uint32
	Clocks         byte // how many, 0 = any between the two
	DataRate       uint32
	MaxDataRate    uint32
	DataRates      byte
	MaxIFSD        uint32
	SynchProtocols uint32
	Mechanical     uint32
	Features       uint32
	MaxMessage     uint32
	ClassGetAnswer byte // CLA of GET RESPONSE, FF = that of the command
	ClassEnvelope  byte
	LcdLayout      uint16
	PINSupport     byte // bit 0 = verify, 1 = modify
	MaxBusyAtATime byte // slots
}

// Level reads the level of exchange.
func (d Descriptor) Level() Level {
	switch d.Features & levels {
	case levelTPDU:
		return TPDU
	case levelShortAPDU:
		return ShortAPDU
	case levelExtendedAPU:
		return ExtendedAPDU
	}
	return Character
}

// Append writes d.
func (d Descriptor) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, DescriptorSize, DescriptorType)
	b = le.AppendUint16(b, d.Version)
	b = append(b, d.MaxSlotIndex, d.Voltages)
	b = le.AppendUint32(b, d.Protocols)
	b = le.AppendUint32(b, d.DefaultClock)
	b = le.AppendUint32(b, d.MaximumClock)
	b = append(b, d.Clocks)
	b = le.AppendUint32(b, d.DataRate)
	b = le.AppendUint32(b, d.MaxDataRate)
	b = append(b, d.DataRates)
	for _, v := range []uint32{d.MaxIFSD, d.SynchProtocols, d.Mechanical, d.Features, d.MaxMessage} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, d.ClassGetAnswer, d.ClassEnvelope)
	b = le.AppendUint16(b, d.LcdLayout)
	return append(b, d.PINSupport, d.MaxBusyAtATime)
}

// ParseDescriptor reads a class descriptor of exactly DescriptorSize bytes. It
// refuses one that no reader can mean.
func ParseDescriptor(b []byte) (Descriptor, error) {
	if len(b) != DescriptorSize || b[0] != DescriptorSize || b[1] != DescriptorType {
		return Descriptor{}, fmt.Errorf("%w: class descriptor of %d bytes; %d that begin with 36 21", ErrMessage, len(b), DescriptorSize)
	}
	le := binary.LittleEndian
	d := Descriptor{
		Version: le.Uint16(b[2:]), MaxSlotIndex: b[4], Voltages: b[5], Protocols: le.Uint32(b[6:]),
		DefaultClock: le.Uint32(b[10:]), MaximumClock: le.Uint32(b[14:]), Clocks: b[18],
		DataRate: le.Uint32(b[19:]), MaxDataRate: le.Uint32(b[23:]), DataRates: b[27],
		MaxIFSD: le.Uint32(b[28:]), SynchProtocols: le.Uint32(b[32:]), Mechanical: le.Uint32(b[36:]),
		Features: le.Uint32(b[40:]), MaxMessage: le.Uint32(b[44:]), ClassGetAnswer: b[48], ClassEnvelope: b[49],
		LcdLayout: le.Uint16(b[50:]), PINSupport: b[52], MaxBusyAtATime: b[53],
	}
	if d.MaxMessage <= HeaderSize {
		return Descriptor{}, fmt.Errorf("%w: class descriptor with messages of %d bytes", ErrMessage, d.MaxMessage)
	}
	if n := d.Features & levels; n&(n-1) != 0 {
		return Descriptor{}, fmt.Errorf("%w: class descriptor with two levels of exchange (features %08x)", ErrMessage, d.Features)
	}
	return d, nil
}

// FindDescriptor finds the class descriptor after an interface's own, as they
// stand in a configuration: each begins with its length and its type.
func FindDescriptor(b []byte) (Descriptor, error) {
	for len(b) >= 2 {
		n := int(b[0])
		if n < 2 || n > len(b) {
			return Descriptor{}, fmt.Errorf("%w: descriptor of %d bytes, %d are left", ErrMessage, n, len(b))
		}
		if b[1] == DescriptorType {
			return ParseDescriptor(b[:n])
		}
		b = b[n:]
	}
	return Descriptor{}, fmt.Errorf("%w: no class descriptor", ErrMessage)
}

// ParametersT0 are the data of SetParameters for T=0.
type ParametersT0 struct{ FindexDindex, TCCKS, GuardTime, WaitingInteger, ClockStop byte }

// Append writes p.
func (p ParametersT0) Append(b []byte) []byte {
	return append(b, p.FindexDindex, p.TCCKS, p.GuardTime, p.WaitingInteger, p.ClockStop)
}

// ParametersT1 are the data of SetParameters for T=1.
type ParametersT1 struct {
	FindexDindex, TCCKS, GuardTime, WaitingIntegers, ClockStop, IFSC, NAD byte
}

// Append writes p.
func (p ParametersT1) Append(b []byte) []byte {
	return append(b, p.FindexDindex, p.TCCKS, p.GuardTime, p.WaitingIntegers, p.ClockStop, p.IFSC, p.NAD)
}
