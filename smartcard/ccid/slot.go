package ccid

import "fmt"

// Icc is what bStatus says of the card (bmICCStatus).
type Icc byte

const (
	IccActive   Icc = 0 // there and powered
	IccInactive Icc = 1 // there, without power
	IccAbsent   Icc = 2
)

// Outcome is what bStatus says of the command (bmCommandStatus).
type Outcome byte

const (
	Processed Outcome = 0
	Failed    Outcome = 1 // Error says why
	Extension Outcome = 2 // wait: Error is the multiplier of the waiting time
)

// Icc reads the card's state.
func (a Answer) Icc() Icc { return Icc(a.Status & 3) }

// Outcome reads how the command went.
func (a Answer) Outcome() Outcome { return Outcome(a.Status >> 6) }

// Slot errors, bError of a failed command (section 6.2.6). An error of 1 to
// 127 is the offset of the byte of the command that the reader does not take;
// 0 means a command that it does not know.
const (
	CmdNotSupported         = 0x00
	CmdSlotBusy             = 0xE0
	PinCancelled            = 0xEF
	PinTimeout              = 0xF0
	BusyWithAutoSequence    = 0xF2
	DeactivatedProtocol     = 0xF3
	ProcedureByteConflict   = 0xF4
	IccClassNotSupported    = 0xF5
	IccProtocolNotSupported = 0xF6
	BadATRTCK               = 0xF7
	BadATRTS                = 0xF8
	HwError                 = 0xFB
	XfrOverrun              = 0xFC
	XfrParity               = 0xFD
	IccMute                 = 0xFE
	CmdAborted              = 0xFF
)

var slotErrors = map[byte]string{
	CmdNotSupported:         "the reader does not know the command",
	CmdSlotBusy:             "the slot is busy with another command",
	PinCancelled:            "PIN entry cancelled",
	PinTimeout:              "PIN entry timed out",
	BusyWithAutoSequence:    "the reader is busy with its own sequence",
	DeactivatedProtocol:     "the protocol is deactivated",
	ProcedureByteConflict:   "the card sent a procedure byte that does not fit",
	IccClassNotSupported:    "the reader cannot power a card of this class",
	IccProtocolNotSupported: "the reader does not speak the card's protocol",
	BadATRTCK:               "the check byte of the card's ATR is wrong",
	BadATRTS:                "the card's ATR begins wrongly",
	HwError:                 "the reader has a hardware fault",
	XfrOverrun:              "the card sent more than the reader can hold",
	XfrParity:               "parity error between reader and card; clean the card's contacts",
	IccMute:                 "the card does not answer; pull it out and push it in again",
	CmdAborted:              "the command was aborted",
}

// A SlotError is a command that the reader carried out in vain.
type SlotError struct {
	Type byte // of the answer
	Code byte // bError
	Icc  Icc
}

func (e *SlotError) Error() string {
	text := slotErrors[e.Code]
	switch {
	case e.Icc == IccAbsent:
		text = "no card in the slot"
	case text == "" && e.Code < 0x80:
		text = fmt.Sprintf("the reader does not take byte %d of the command", e.Code)
	case text == "" && e.Code >= 0x81 && e.Code <= 0xC0:
		text = fmt.Sprintf("error %02x of the reader's maker", e.Code)
	case text == "":
		text = fmt.Sprintf("error %02x, which CCID 1.1 does not define", e.Code)
	}
	return "ccid: " + text
}

// Err is a *SlotError if the command failed.
func (a Answer) Err() error {
	if a.Outcome() != Failed {
		return nil
	}
	return &SlotError{a.Type, a.Error, a.Icc()}
}

// A Change is one slot's two bits of NotifySlotChange.
type Change struct{ Present, Changed bool }

// AppendSlotChange writes NotifySlotChange.
func AppendSlotChange(b []byte, slots []Change) []byte {
	if len(slots) == 0 || len(slots) > MaxSlots {
		panic(fmt.Sprintf("ccid: change of %d slots", len(slots)))
	}
	b = append(b, NotifySlotChange)
	begin := len(b)
	b = append(b, make([]byte, (len(slots)+3)/4)...)
	for i, s := range slots {
		if s.Present {
			b[begin+i/4] |= 1 << (i % 4 * 2)
		}
		if s.Changed {
			b[begin+i/4] |= 2 << (i % 4 * 2)
		}
	}
	return b
}

// An Interrupt is a message of the interrupt pipe.
type Interrupt struct {
	Slots []Change // of NotifySlotChange, four for each byte that came
	Fault *Fault   // of HardwareError
}

// A Fault is a HardwareError.
type Fault struct{ Slot, Seq, Code byte }

// Append writes HardwareError.
func (f Fault) Append(b []byte) []byte { return append(b, HardwareError, f.Slot, f.Seq, f.Code) }

// Overcurrent is the one hardware error code that CCID 1.1 defines.
const Overcurrent = 0x01

// ParseInterrupt reads a message of the interrupt pipe.
func ParseInterrupt(b []byte) (Interrupt, error) {
	switch {
	case len(b) < 2:
		return Interrupt{}, fmt.Errorf("%w: interrupt of %d bytes", ErrMessage, len(b))
	case b[0] == HardwareError && len(b) == 4:
		return Interrupt{Fault: &Fault{b[1], b[2], b[3]}}, nil
	case b[0] != NotifySlotChange:
		return Interrupt{}, fmt.Errorf("%w: interrupt of type %02x and %d bytes", ErrMessage, b[0], len(b))
	case len(b)-1 > MaxSlots/4:
		return Interrupt{}, fmt.Errorf("%w: interrupt of %d bytes", ErrMessage, len(b))
	}
	slots := make([]Change, 0, 4*(len(b)-1))
	for _, v := range b[1:] {
		for range 4 {
			slots = append(slots, Change{v&1 != 0, v&2 != 0})
			v >>= 2
		}
	}
	return Interrupt{Slots: slots}, nil
}
