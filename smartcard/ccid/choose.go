package ccid

import (
	"fmt"

	"hotdesk/smartcard/atr"
)

// speedDefault is TA1 of a card that says nothing: F = 372, D = 1.
const speedDefault = 0x11

// A Choice is how to speak with a card: its protocol, and what must be sent
// before its first command.
type Choice struct {
	Protocol   byte   // 0 or 1
	Speed      byte   // as TA1
	PPS        []byte // to the card, as a block; nil: not needed, or the reader's duty
	Parameters []byte // of SetParameters; nil: the reader's duty
	Block      atr.BlockParams
}

// Choose chooses for a card in a reader: T=1 before T=0, and the card's speed
// if the reader reaches it. With slow, the default speed. A reader that
// negotiates by itself (AutoNegotiate) chooses alone: the Choice is then what
// its GetParameters will most likely say.
//
// Source: ISO 7816-3 section 6.3 and 9 (PPS), 8.3 (TA2); CCID 1.1 section
// 6.1.7 (SetParameters) and table 5.1-1 (dwFeatures).
func Choose(d Descriptor, a atr.ATR, slow bool) (Choice, error) {
	c := Choice{Speed: speedDefault}
	offered := offers(a)
	specific, implicit, isSpecific := a.Specific()
	if isSpecific {
		offered = []int{specific}
	}
	c.Protocol = 0xff
	for _, p := range offered {
		if p <= 1 && (d.Protocols == 0 || d.Protocols&(1<<p) != 0) && (c.Protocol == 0xff || p == 1) {
			c.Protocol = byte(p)
		}
	}
	if c.Protocol == 0xff {
		return Choice{}, fmt.Errorf("ccid: the card offers the protocols %d, the reader speaks those of bits %02x", offered, d.Protocols)
	}
	var err error
	if c.Block, err = a.T1(); err != nil && c.Protocol == 1 {
		return Choice{}, err
	}
	if l := a.Levels[0]; l.Has&atr.HasTA != 0 && !slow && !implicit && d.reaches(a.Speed()) {
		c.Speed = l.TA
	}
	if d.Features&AutoNegotiate != 0 {
		return c, nil
	}
	if d.Features&AutoPPS == 0 && !isSpecific && (c.Speed != speedDefault || int(c.Protocol) != offered[0]) {
		c.PPS = pps(c.Protocol, c.Speed)
	}
	c.Parameters = parameters(c, a)
	return c, nil
}

// offers lists the protocols that a card offers, the one it begins with first.
func offers(a atr.ATR) []int {
	var list []int
	for _, l := range a.Levels {
		if l.Has&atr.HasTD != 0 && l.Protocol != 15 {
			list = append(list, int(l.Protocol))
		}
	}
	if len(list) == 0 {
		list = []int{0}
	}
	return list
}

// reaches reports whether a reader can go at a card's speed at the clock it
// begins with.
func (d Descriptor) reaches(s atr.Speed) bool {
	if s.F == atr.Reserved || s.D == atr.Reserved || int64(d.DefaultClock) > int64(s.MaxClock) {
		return false
	}
	return int64(d.DefaultClock)*1000*int64(s.D)/int64(s.F) <= int64(d.MaxDataRate)
}

func pps(protocol, speed byte) []byte {
	b := []byte{0xff, 0x10 | protocol, speed, 0}
	b[3] = b[0] ^ b[1] ^ b[2]
	return b
}

// Agreed reports whether a card's answer to PPS agrees.
func (c Choice) Agreed(answer []byte) bool { return string(answer) == string(c.PPS) }

func parameters(c Choice, a atr.ATR) []byte {
	g := a.Global()
	var convention byte
	if a.TS == atr.Inverse {
		convention = 2
	}
	if c.Protocol == 0 {
		return ParametersT0{c.Speed, convention, a.ExtraGuard(), a.WI(), g.ClockStop}.Append(nil)
	}
	check := byte(0x10)
	if c.Block.CRC {
		check |= 1
	}
	return ParametersT1{c.Speed, check | convention, a.ExtraGuard(), c.Block.BWI<<4 | c.Block.CWI, g.ClockStop, byte(c.Block.IFSC), 0}.Append(nil)
}
