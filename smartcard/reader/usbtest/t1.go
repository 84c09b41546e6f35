package usbtest

import (
	"bytes"

	"hotdesk/smartcard/ccid/tpdu"
)

// t1Card is a card's end of T=1 (ISO 7816-3 section 11), of a card that never
// loses a block.
type t1Card struct {
	ifsd, ifsc int
	crc        bool
	ns, nr     byte
	command    []byte
	response   []byte
	more       bool
	out        tpdu.Block // that is out
}

func (c *t1Card) answer(raw []byte, transmit func([]byte) ([]byte, error)) ([]byte, error) {
	b, err := tpdu.ParseBlock(raw, c.crc)
	switch {
	case err != nil, len(b.INF) > c.ifsc && b.IsI():
		return tpdu.R(c.nr, 1).Append(nil, c.crc), nil
	case b.PCB == tpdu.Resynch:
		c.ns, c.nr, c.command, c.response, c.more = 0, 0, nil, nil, false
		c.out = tpdu.S(tpdu.Resynch | 0x20)
	case b.PCB == tpdu.IFS:
		c.ifsd = int(b.INF[0])
		c.out = tpdu.S(tpdu.IFS|0x20, b.INF[0])
	case b.IsR() && c.more && b.Number() == c.ns:
		c.piece()
	case b.IsI() && b.Number() == c.nr:
		c.nr ^= 1
		c.command = append(c.command, b.INF...)
		if b.More() {
			c.out = tpdu.R(c.nr, 0)
			break
		}
		command := bytes.Clone(c.command)
		c.command = nil
		if c.response, err = transmit(command); err != nil {
			return nil, err
		}
		c.piece()
	case b.IsI():
		c.out = tpdu.R(c.nr, 2)
	}
	return c.out.Append(nil, c.crc), nil
}

func (c *t1Card) piece() {
	n := min(len(c.response), c.ifsd)
	c.more = n < len(c.response)
	c.out = tpdu.I(c.ns, c.more, c.response[:n])
	c.response = c.response[n:]
	c.ns ^= 1
}
