package usbtest

import (
	"bytes"
	"context"
	"errors"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/atr"
	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
)

// slot is one slot. All of it is guarded by the device's mu, but for what an
// exchange that runs uses.
type slot struct {
	d       *Device
	number  byte
	card    Card
	dirty   bool // changed while nobody took notices
	powered bool
	parsed  atr.ATR

	protocol byte // that is set
	ready    bool // protocol and speed are agreed
	t1       *t1Card
	t0       *t0Card
	command_ []byte // pieces of a long command
	rest     []byte // of a long answer that is taken in pieces

	running  bool // an exchange
	seq      byte // its number
	cancel   context.CancelFunc
	aborting bool
	abortSeq byte
}

func (s *slot) insert(c Card) {
	s.remove()
	s.card = c
}

func (s *slot) remove() {
	s.off()
	s.card = nil
}

// off takes the power. An exchange that runs is answered at once.
func (s *slot) off() {
	if s.running {
		s.finish(ccid.Answer{Type: ccid.DataBlock, Error: ccid.IccMute}, ccid.Failed, ccid.IccAbsent)
	}
	s.powered, s.ready, s.t0, s.t1, s.command_, s.rest = false, false, nil, nil, nil, nil
}

func (s *slot) icc() ccid.Icc {
	switch {
	case s.card == nil:
		return ccid.IccAbsent
	case !s.powered:
		return ccid.IccInactive
	}
	return ccid.IccActive
}

// reply answers a command that takes no time.
func (s *slot) reply(c ccid.Command, kind byte, code int, param byte, data []byte) {
	a := ccid.Answer{Type: kind, Slot: s.number, Seq: c.Seq, Status: byte(s.icc()), Param: param, Data: data}
	if code >= 0 {
		a.Status |= byte(ccid.Failed) << 6
		a.Error = byte(code)
	}
	s.d.answer(a)
}

const well = -1 // no error

// finish answers the exchange that runs.
func (s *slot) finish(a ccid.Answer, o ccid.Outcome, icc ccid.Icc) {
	s.running = false
	s.cancel()
	a.Slot, a.Seq, a.Status = s.number, s.seq, byte(o)<<6|byte(icc)
	s.d.answer(a)
}

// abort is the control request; the message with the same number follows.
func (s *slot) abort(seq byte) {
	s.aborting, s.abortSeq = true, seq
	if s.running {
		s.finish(ccid.Answer{Type: ccid.DataBlock, Error: ccid.CmdAborted}, ccid.Failed, s.icc())
	}
}

func (s *slot) command(c ccid.Command) {
	if s.d.silent != nil && c.Type != ccid.Abort {
		close(s.d.silent)
		s.d.silent = nil
		return
	}
	switch {
	case c.Type == ccid.Abort:
		if !s.aborting || s.abortSeq != c.Seq {
			s.reply(c, ccid.SlotStatus, ccid.CmdAborted, 0, nil)
			return
		}
		s.aborting = false
		s.reply(c, ccid.SlotStatus, well, 0, nil)
	case s.running || s.aborting:
		s.reply(c, ccid.SlotStatus, ccid.CmdSlotBusy, 0, nil)
	case c.Type == ccid.GetSlotStatus:
		s.reply(c, ccid.SlotStatus, well, 0, nil)
	case c.Type == ccid.IccPowerOff:
		s.off()
		s.reply(c, ccid.SlotStatus, well, 0, nil)
	case c.Type == ccid.IccPowerOn:
		s.powerOn(c)
	case c.Type == ccid.GetParameters:
		s.getParameters(c)
	case c.Type == ccid.SetParameters:
		s.setParameters(c)
	case c.Type == ccid.XfrBlock:
		s.transfer(c)
	default:
		s.reply(c, ccid.SlotStatus, ccid.CmdNotSupported, 0, nil)
	}
}

func (s *slot) powerOn(c ccid.Command) {
	automatic := s.d.cfg.Features&ccid.AutoVoltage != 0
	bit := [4]byte{s.d.cfg.Voltages, 1, 2, 4}[c.Param[0]&3]
	switch {
	case s.card == nil:
		s.reply(c, ccid.DataBlock, ccid.IccMute, 0, nil)
		return
	case c.Param[0] > ccid.Volt18, (c.Param[0] == ccid.Automatic) != automatic, bit&s.d.cfg.Voltages == 0:
		s.reply(c, ccid.DataBlock, 7, 0, nil) // the offset of bPowerSelect
		return
	case bit&s.d.cfg.CardVoltage == 0, len(s.card.ATR()) == 0:
		s.off()
		s.reply(c, ccid.DataBlock, ccid.IccMute, 0, nil)
		return
	}
	s.off()
	s.card.Reset()
	s.powered, s.t0 = true, &t0Card{}
	parsed, err := atr.Parse(s.card.ATR())
	if err == nil {
		s.parsed = parsed
		s.protocol = first(parsed)
	}
	s.ready = s.d.cfg.Features&ccid.AutoNegotiate != 0
	if s.ready && s.protocol == 1 {
		s.begin1()
	}
	s.reply(c, ccid.DataBlock, well, 0, s.card.ATR())
}

// first is the protocol that a card begins with.
func first(a atr.ATR) byte {
	if l := a.Levels[0]; l.Has&atr.HasTD != 0 {
		return l.Protocol
	}
	return 0
}

func (s *slot) begin1() {
	p, _ := s.parsed.T1() // checked by who made the card
	s.t1 = &t1Card{ifsd: 32, ifsc: p.IFSC, crc: p.CRC}
	if s.d.cfg.Features&ccid.AutoIFSD != 0 {
		s.t1.ifsd = 254
	}
}

func (s *slot) getParameters(c ccid.Command) {
	if !s.powered {
		s.reply(c, ccid.Parameters, ccid.IccMute, 0, nil)
		return
	}
	data := ccid.ParametersT0{FindexDindex: 0x11}.Append(nil)
	if s.protocol == 1 {
		data = ccid.ParametersT1{FindexDindex: 0x11, TCCKS: 0x10, IFSC: 32}.Append(nil)
	}
	s.reply(c, ccid.Parameters, well, s.protocol, data)
}

func (s *slot) setParameters(c ccid.Command) {
	protocol := c.Param[0]
	switch {
	case !s.powered:
		s.reply(c, ccid.Parameters, ccid.IccMute, 0, nil)
	case protocol > 1 || len(c.Data) != 5+2*int(protocol) || s.d.cfg.Protocols&(1<<protocol) == 0:
		s.reply(c, ccid.Parameters, 7, 0, nil)
	case s.d.cfg.SlowPPS && c.Data[0] != 0x11:
		s.reply(c, ccid.Parameters, 10, 0, nil)
	case s.d.cfg.Features&ccid.AutoPPS == 0 && protocol != s.protocol:
		s.reply(c, ccid.Parameters, ccid.IccProtocolNotSupported, 0, nil) // no PPS was made
	default:
		s.protocol, s.ready = protocol, true
		if protocol == 1 {
			s.begin1()
		}
		s.reply(c, ccid.Parameters, well, protocol, c.Data)
	}
}

// transfer carries a block, an APDU or a piece of one to the card.
func (s *slot) transfer(c ccid.Command) {
	level := uint16(c.Param[1]) | uint16(c.Param[2])<<8
	switch {
	case !s.powered:
		s.reply(c, ccid.DataBlock, ccid.IccMute, 0, nil)
		return
	case s.d.cfg.Level == ccid.ExtendedAPDU:
		s.pieces(c, level)
		return
	case level != 0:
		s.reply(c, ccid.DataBlock, 8, 0, nil)
		return
	case s.d.cfg.Level == ccid.ShortAPDU:
		if cmd, err := apdu.ParseCommand(c.Data); err != nil || cmd.Extended {
			s.reply(c, ccid.DataBlock, 1, 0, nil) // the offset of dwLength
			return
		}
	case len(c.Data) > 0 && c.Data[0] == 0xff && !s.ready:
		s.pps(c)
		return
	case !s.ready:
		s.reply(c, ccid.DataBlock, ccid.IccProtocolNotSupported, 0, nil)
		return
	}
	s.run(c, c.Data)
}

// pps is the card's: it takes what it is offered.
func (s *slot) pps(c ccid.Command) {
	if len(c.Data) != 4 || c.Data[0]^c.Data[1]^c.Data[2]^c.Data[3] != 0 || s.d.cfg.SlowPPS && c.Data[2] != 0x11 {
		s.off()
		s.powered = true
		s.reply(c, ccid.DataBlock, ccid.IccMute, 0, nil)
		return
	}
	s.protocol = c.Data[1] & 15
	s.reply(c, ccid.DataBlock, well, 0, c.Data)
}

// pieces joins a long command, and hands a long answer out.
func (s *slot) pieces(c ccid.Command, level uint16) {
	switch open := s.command_ != nil; {
	case level == ccid.Next && len(s.rest) > 0 && len(c.Data) == 0:
		s.hand(c.Seq, false)
	case level == ccid.First && !open, level == ccid.Middle && open:
		s.command_ = append(append([]byte{}, s.command_...), c.Data...)
		s.reply(c, ccid.DataBlock, well, ccid.Next, nil)
	case level == ccid.Last && open:
		whole := append(s.command_, c.Data...)
		s.command_ = nil
		s.run(c, whole)
	case level == ccid.Whole && !open:
		s.run(c, c.Data)
	default:
		s.command_ = nil
		s.reply(c, ccid.DataBlock, 8, 0, nil)
	}
}

// hand answers with the next piece of a long answer.
func (s *slot) hand(seq byte, begin bool) {
	n := min(len(s.rest), int(s.d.cfg.MaxMessage)-ccid.HeaderSize)
	piece := s.rest[:n]
	s.rest = s.rest[n:]
	param := byte(ccid.Middle)
	switch more := len(s.rest) > 0; {
	case begin && more:
		param = ccid.First
	case begin:
		param = ccid.Whole
	case !more:
		param = ccid.Last
	}
	s.d.answer(ccid.Answer{Type: ccid.DataBlock, Slot: s.number, Seq: seq, Status: byte(s.icc()), Param: param, Data: piece})
}

// run has an exchange on a goroutine of its own.
func (s *slot) run(c ccid.Command, b []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	s.running, s.seq, s.cancel = true, c.Seq, cancel
	for range s.d.cfg.Extensions {
		s.d.answer(ccid.Answer{Type: ccid.DataBlock, Slot: s.number, Seq: c.Seq, Status: byte(ccid.Extension)<<6 | byte(s.icc()), Error: max(1, s.d.cfg.Multiplier)})
	}
	card, t0, t1 := s.card, s.t0, s.t1
	go func() {
		answer, code := s.carry(ctx, card, t0, t1, bytes.Clone(b))
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		if len(s.d.spoils) > 0 && code == well {
			code, s.d.spoils = int(s.d.spoils[0]), s.d.spoils[1:]
		}
		switch {
		case ctx.Err() != nil: // pulled or aborted: answered already
		case code != well:
			s.finish(ccid.Answer{Type: ccid.DataBlock, Error: byte(code)}, ccid.Failed, s.icc())
		case s.d.cfg.Level == ccid.ExtendedAPDU:
			s.running = false
			cancel()
			s.rest = answer
			s.hand(c.Seq, true)
		default:
			s.finish(ccid.Answer{Type: ccid.DataBlock, Data: answer}, ccid.Processed, s.icc())
		}
	}()
}

// carry is the card's part of an exchange, at the reader's level.
func (s *slot) carry(ctx context.Context, card Card, t0 *t0Card, t1 *t1Card, b []byte) ([]byte, int) {
	transmit := func(b []byte) ([]byte, error) { return card.Transmit(ctx, b) }
	var answer []byte
	var err error
	switch {
	case s.d.cfg.Level != ccid.TPDU:
		answer, err = transmit(b)
	case t1 != nil:
		answer, err = t1.answer(b, transmit)
	default:
		answer, err = t0.answer(b, transmit)
	}
	switch {
	case errors.Is(err, reader.ErrRemoved), errors.Is(err, reader.ErrMute):
		return nil, ccid.IccMute
	case err != nil:
		return nil, ccid.HwError
	}
	return answer, well
}

// t0Card is a card of T=0 behind a reader that obeys its procedure bytes: what
// a command with data is answered waits for GET RESPONSE.
type t0Card struct{ held []byte }

func (c *t0Card) answer(b []byte, transmit func([]byte) ([]byte, error)) ([]byte, error) {
	if len(b) < 5 || len(b) > 5 && len(b) != 5+int(b[4]) {
		return nil, errors.New("usbtest: no TPDU of T=0")
	}
	if b[1] == apdu.InsGetResponse && len(c.held) > 0 {
		n := min(len(c.held), int(b[4]+0xff)+1)
		answer := append(bytes.Clone(c.held[:n]), 0x90, 0)
		if c.held = c.held[n:]; len(c.held) > 0 {
			answer[n], answer[n+1] = 0x61, byte(min(len(c.held), 256))
		}
		return answer, nil
	}
	c.held = nil
	if len(b) > 5 {
		b = append(b, 0) // what the card would say if it were asked for all
	}
	answer, err := transmit(b)
	if err != nil || len(b) == 5 || len(answer) == 2 {
		return answer, err
	}
	c.held = answer[:len(answer)-2]
	return []byte{0x61, byte(min(len(c.held), 256))}, nil
}
