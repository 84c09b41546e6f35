package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/atr"
	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/ccid/tpdu"
	"hotdesk/smartcard/reader"
)

// contact is a powered card as the slot speaks with it.
type contact struct {
	l      *link
	slot   byte
	atr    []byte
	choice ccid.Choice
	t1     *tpdu.T1
	wait   time.Duration
	agreed bool  // on choice
	warn   error // why the card cannot be spoken with; nil: it can
}

// powerOn powers the slot's card and agrees with it on how to speak. A card
// that does not answer is no error: it has no ATR.
func powerOn(ctx context.Context, l *link, slot byte) (*contact, error) {
	k := &contact{l: l, slot: slot, wait: patience}
	err := k.reset(ctx)
	if err == nil {
		err = k.agree(ctx)
	}
	var refused *ccid.SlotError
	if errors.As(err, &refused) && refused.Icc != ccid.IccAbsent {
		k.warn = err
		return k, nil
	}
	return k, err
}

// reset takes the ATR, at the lowest voltage at which the card answers and
// which it says it can stand.
func (k *contact) reset(ctx context.Context) error {
	d := k.l.i.Class
	voltages := []byte{ccid.Automatic}
	if d.Features&ccid.AutoVoltage == 0 {
		voltages = nil
		for _, v := range []struct{ power, bit byte }{{ccid.Volt18, 4}, {ccid.Volt3, 2}, {ccid.Volt5, 1}} {
			if d.Voltages&v.bit != 0 {
				voltages = append(voltages, v.power)
			}
		}
		if voltages == nil {
			voltages = []byte{ccid.Volt5}
		}
	}
	for i, v := range voltages {
		last := i == len(voltages)-1
		a, err := k.l.command(ctx, ccid.PowerOn(k.slot, 0, v), ccid.DataBlock, patience)
		var refused *ccid.SlotError
		switch {
		case err == nil && len(a.Data) > atr.MaxSize:
			return k.l.fail(fmt.Errorf("%w: an ATR of %d bytes", errBroken, len(a.Data)))
		case err == nil && (last || stands(a.Data, v)):
			k.atr = slices.Clone(a.Data)
			return nil
		case err != nil && (last || !errors.As(err, &refused) || refused.Icc == ccid.IccAbsent):
			return err
		}
		if err := k.off(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stands reports whether a card's ATR allows the voltage.
func stands(b []byte, voltage byte) bool {
	a, err := atr.Parse(b)
	if err != nil {
		return false
	}
	bit := byte(1) << (voltage - ccid.Volt5)
	for _, l := range a.Levels {
		if l.Has&atr.HasTD != 0 && l.Protocol == 15 {
			return a.Global().Classes&bit != 0
		}
	}
	return true // it says nothing
}

func (k *contact) off(ctx context.Context) error {
	_, err := k.l.command(ctx, ccid.Simple(ccid.IccPowerOff, k.slot, 0), ccid.SlotStatus, patience)
	return err
}

// agree chooses protocol and speed; where the card or the reader refuses the
// card's speed, at the default one after another reset.
func (k *contact) agree(ctx context.Context) error {
	d := k.l.i.Class
	parsed, err := atr.Parse(k.atr)
	if err != nil {
		if d.Level() != ccid.ShortAPDU && d.Level() != ccid.ExtendedAPDU {
			k.warn = err
		}
		return nil // otherwise what the reader makes of it counts
	}
	err = k.settle(ctx, parsed, false)
	var refused *ccid.SlotError
	if !errors.As(err, &refused) || refused.Icc == ccid.IccAbsent {
		return err
	}
	if err := k.off(ctx); err != nil {
		return err
	}
	if err := k.reset(ctx); err != nil {
		return err
	}
	return k.settle(ctx, parsed, true)
}

func (k *contact) settle(ctx context.Context, parsed atr.ATR, slow bool) error {
	d := k.l.i.Class
	c, err := ccid.Choose(d, parsed, slow)
	if err != nil {
		k.warn = err
		return nil
	}
	switch d.Level() {
	case ccid.Character:
		k.warn = errors.New("driver: the reader exchanges single characters, which is not supported; use one of TPDU or APDU level")
		return nil
	case ccid.TPDU:
		if d.Features&ccid.AutoNegotiate != 0 {
			a, err := k.l.command(ctx, ccid.Simple(ccid.GetParameters, k.slot, 0), ccid.Parameters, patience)
			if err != nil {
				return err
			}
			if c.Protocol = a.Param; c.Protocol > 1 {
				return k.l.fail(fmt.Errorf("%w: protocol %d", errBroken, a.Param))
			}
		}
	}
	if c.PPS != nil && d.Level() == ccid.TPDU {
		a, err := k.l.command(ctx, ccid.Transfer(k.slot, 0, 0, ccid.Whole, c.PPS), ccid.DataBlock, patience)
		if err != nil {
			return err
		}
		if !c.Agreed(a.Data) {
			return &ccid.SlotError{Type: a.Type, Code: ccid.IccProtocolNotSupported}
		}
	}
	if c.Parameters != nil {
		_, err := k.l.command(ctx, ccid.SetProtocol(k.slot, 0, c.Protocol, c.Parameters), ccid.Parameters, patience)
		if err != nil && !(slow && unknown(err)) {
			return err
		}
	}
	clock := int(d.DefaultClock) * 1000
	bwt := c.Block.BlockWait(parsed.Speed(), clock)
	k.choice, k.wait, k.agreed = c, patience+3*bwt, true
	if c.Protocol == 1 && d.Level() == ccid.TPDU {
		k.t1 = tpdu.NewT1(tpdu.Config{
			IFSC: c.Block.IFSC, IFSD: max(1, int(min(d.MaxIFSD, tpdu.MaxINF))), CRC: c.Block.CRC, BWT: bwt,
			Told: d.Features&ccid.AutoIFSD != 0,
		})
	}
	return nil
}

// unknown reports whether a reader does not know a command at all.
func unknown(err error) bool {
	var refused *ccid.SlotError
	return errors.As(err, &refused) && refused.Code == ccid.CmdNotSupported && refused.Icc != ccid.IccAbsent
}

// exchange carries an APDU to the card and its answer back.
func (k *contact) exchange(ctx context.Context, command []byte) ([]byte, error) {
	cmd, err := apdu.ParseCommand(command)
	if err != nil {
		return apdu.Response{Status: apdu.WrongLength}.Append(nil), nil
	}
	var answer []byte
	switch level := k.l.i.Class.Level(); {
	case level == ccid.ExtendedAPDU:
		answer, err = k.pieces(ctx, command)
	case level == ccid.ShortAPDU && !cmd.Short(), level == ccid.TPDU && k.choice.Protocol == 0 && !cmd.Short():
		// Neither the reader nor T=0 has room for it: as a card would say.
		return apdu.Response{Status: apdu.WrongLength}.Append(nil), nil
	case level == ccid.ShortAPDU:
		cmd.Extended = false
		answer, err = k.block(ctx, cmd.Append(nil), 0)
	case k.choice.Protocol == 1:
		answer, err = k.blocks(ctx, command)
	default:
		answer, err = k.procedure(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	if len(answer) < 2 || len(answer) > reader.MaxAPDU {
		return nil, fmt.Errorf("%w: an answer of %d bytes", errBroken, len(answer))
	}
	return answer, nil
}

// block carries one block there and one back.
func (k *contact) block(ctx context.Context, b []byte, bwi byte) ([]byte, error) {
	if len(b) > k.l.limit-ccid.HeaderSize {
		return nil, fmt.Errorf("driver: a block of %d bytes; the reader takes %d", len(b), k.l.limit-ccid.HeaderSize)
	}
	a, err := k.l.command(ctx, ccid.Transfer(k.slot, 0, bwi, ccid.Whole, b), ccid.DataBlock, k.wait*time.Duration(max(1, bwi)))
	return slices.Clone(a.Data), err
}

// pieces carries an APDU at the extended level (section 3.2.4, 6.1.4): what
// does not fit one message in several, both ways.
func (k *contact) pieces(ctx context.Context, b []byte) ([]byte, error) {
	room := k.l.limit - ccid.HeaderSize
	level := uint16(ccid.Whole)
	var a ccid.Answer
	for first := true; ; first = false {
		n := min(room, len(b))
		switch more := n < len(b); {
		case first && more:
			level = ccid.First
		case !first && more:
			level = ccid.Middle
		case !first:
			level = ccid.Last
		}
		var err error
		if a, err = k.l.command(ctx, ccid.Transfer(k.slot, 0, 0, level, b[:n]), ccid.DataBlock, k.wait); err != nil {
			return nil, err
		}
		if b = b[n:]; len(b) == 0 {
			break
		}
		if a.Param != ccid.Next || len(a.Data) > 0 {
			return nil, k.l.fail(fmt.Errorf("%w: chain parameter %02x and %d bytes to a piece of a command", errBroken, a.Param, len(a.Data)))
		}
	}
	answer := slices.Clone(a.Data)
	for first := true; a.Param != ccid.Whole; first = false {
		switch {
		case first && a.Param == ccid.Last, a.Param == ccid.Next && len(answer) == 0:
			return nil, k.l.fail(fmt.Errorf("%w: chain parameter %02x", errBroken, a.Param))
		case a.Param == ccid.Last:
			return answer, nil
		case first && a.Param != ccid.First, !first && a.Param != ccid.Middle, len(a.Data) == 0:
			return nil, k.l.fail(fmt.Errorf("%w: chain parameter %02x", errBroken, a.Param))
		case len(answer) > reader.MaxAPDU:
			return nil, k.l.fail(fmt.Errorf("%w: an answer without end", errBroken))
		}
		var err error
		if a, err = k.l.command(ctx, ccid.Transfer(k.slot, 0, 0, ccid.Next, nil), ccid.DataBlock, k.wait); err != nil {
			return nil, err
		}
		if a.Param == ccid.Whole {
			return nil, k.l.fail(fmt.Errorf("%w: a whole answer in the middle of one", errBroken))
		}
		answer = append(answer, a.Data...)
	}
	return answer, nil
}

// blocks carries an APDU over T=1.
func (k *contact) blocks(ctx context.Context, b []byte) ([]byte, error) {
	out := k.t1.Begin(time.Now(), b)
	for !out.Done {
		raw, err := k.block(ctx, out.Send, out.WTX)
		var refused *ccid.SlotError
		switch {
		case err == nil:
			out = k.t1.Receive(time.Now(), raw)
		case errors.As(err, &refused) && refused.Icc == ccid.IccActive && (refused.Code == ccid.XfrParity || refused.Code == ccid.XfrOverrun):
			out = k.t1.Receive(time.Now(), nil) // no block: it is asked for again
		case errors.As(err, &refused) && refused.Icc == ccid.IccActive && refused.Code == ccid.IccMute:
			out = k.t1.Tick(k.t1.Next())
		default:
			k.warn = err // the card's count of blocks is not known any more
			return nil, err
		}
	}
	if out.Err != nil {
		k.warn = out.Err
	}
	return out.Response, out.Err
}

// procedure carries a command over T=0 (ISO 7816-3 section 12.2): procedure
// bytes are the reader's matter, GET RESPONSE and a corrected Le are ours.
func (k *contact) procedure(ctx context.Context, cmd apdu.Command) ([]byte, error) {
	var data []byte
	next := cmd
	for corrected, asked := false, false; ; {
		header, body, _ := tpdu.Header(next)
		raw, err := k.block(ctx, append(header[:], body...), 0)
		if err != nil {
			return nil, err
		}
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			return nil, err
		}
		le := int(byte(r.Status)+0xff) + 1 // 00 means 256
		switch {
		case r.Status&0xff00 == apdu.WrongLe && len(r.Data) == 0 && !corrected && next.Le > 0 && len(next.Data) == 0 && le <= cmd.Le:
			corrected = true
			next.Le = le
			continue
		case r.Status&0xff00 == apdu.MoreData && len(cmd.Data) > 0 && cmd.Le > 0 && !asked && len(r.Data) == 0:
			asked = true
			next = apdu.GetResponse(cmd.CLA, min(le, cmd.Le))
			continue
		}
		return apdu.Response{Data: append(data, r.Data...), Status: r.Status}.Append(nil), nil
	}
}
