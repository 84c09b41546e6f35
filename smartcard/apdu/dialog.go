package apdu

import (
	"errors"
	"fmt"
)

// ChainBit of CLA says that more commands of the chain follow.
const ChainBit = 0x10

// MaxSteps bounds the commands of one Dialog: a full extended command in short
// pieces and a full extended answer in short pieces.
const MaxSteps = 2*(MaxLe/MaxShortLe) + 4

// ErrDialog is wrapped by every error of Dialog.Take: the card does not keep
// to ISO 7816-4.
var ErrDialog = errors.New("apdu: card breaks the dialog")

// Chain splits a command into one chain of short commands of at most size
// bytes of data each. Only the last one carries Le. The chain of a command
// that fits is the command itself.
func Chain(c Command, size int) []Command {
	if size < 1 || size > MaxShortData {
		panic(fmt.Sprintf("apdu: chain of pieces of %d bytes", size))
	}
	last := c
	last.Le, last.Extended = min(c.Le, MaxShortLe), false
	var chain []Command
	for len(last.Data) > size {
		piece := last
		piece.CLA |= ChainBit
		piece.Data, piece.Le = last.Data[:size:size], 0
		last.Data = last.Data[size:]
		chain = append(chain, piece)
	}
	return append(chain, last)
}

// A Dialog carries one command to a card and its answer back, whatever pieces
// they take: the commands of a chain, GET RESPONSE after 61xx, the same command
// again after 6Cxx.
//
//	sending -> (9000 to each but the last) -> last -> answered
//	last -> 6Cxx: last again, once -> 61xx: GET RESPONSE until none waits
type Dialog struct {
	pending []Command // to send; the first is the one that is out
	cla     byte
	data    []byte
	again   bool // Le was corrected already
	asking  bool // GET RESPONSE
	steps   int
	done    bool
}

// NewDialog begins a dialog. With extended the card and the way to it take
// the extended form; otherwise long data is chained.
func NewDialog(c Command, extended bool) *Dialog {
	d := &Dialog{cla: c.CLA}
	if c.Short() || extended {
		d.pending = []Command{c}
	} else {
		d.pending = Chain(c, MaxShortData)
	}
	return d
}

// Command is what to send now.
func (d *Dialog) Command() Command { return d.pending[0] }

// Take takes the card's answer to Command. It returns true with the whole
// response, or false: send Command.
func (d *Dialog) Take(r Response) (Response, bool, error) {
	d.steps++
	switch {
	case d.done:
		panic("apdu: Take after the end of a dialog")
	case d.steps > MaxSteps:
		return d.fail("%d commands and no end", d.steps)
	case len(d.pending) > 1:
		if r.Status != OK {
			return d.end(r) // the card refuses the chain
		}
		if len(r.Data) > 0 {
			return d.fail("%d bytes in answer to a piece of a chain", len(r.Data))
		}
		d.pending = d.pending[1:]
		return Response{}, false, nil
	case r.Status&0xff00 == WrongLe && len(r.Data) == 0 && !d.again:
		d.again = true
		d.pending[0].Le = shortLe(byte(r.Status))
		return Response{}, false, nil
	}
	if len(d.data)+len(r.Data) > MaxLe {
		return d.fail("more than %d bytes", MaxLe)
	}
	d.data = append(d.data, r.Data...)
	if r.Status&0xff00 != MoreData {
		return d.end(Response{d.data, r.Status})
	}
	if d.asking && len(r.Data) == 0 {
		return d.fail("GET RESPONSE brought nothing")
	}
	d.asking, d.again = true, false
	d.pending[0] = GetResponse(d.cla, shortLe(byte(r.Status)))
	return Response{}, false, nil
}

func (d *Dialog) end(r Response) (Response, bool, error) {
	d.done = true
	return r, true, nil
}

func (d *Dialog) fail(format string, args ...any) (Response, bool, error) {
	d.done = true
	return Response{}, true, fmt.Errorf("%w: %s", ErrDialog, fmt.Sprintf(format, args...))
}

// An Assembler is the card's end: it joins the commands of a chain and hands
// a long answer out by GET RESPONSE. Its zero value is ready.
type Assembler struct {
	head    Command // of the chain that is open
	open    bool
	data    []byte
	waiting []byte // of the last answer
	status  uint16
}

// Command takes one command from the reader. It returns true with a whole
// command to carry out, or false with the answer to give at once.
func (a *Assembler) Command(c Command) (Command, Response, bool) {
	if c.INS == InsGetResponse && !a.open {
		if len(a.waiting) == 0 {
			return Command{}, Response{Status: ConditionsNotMet}, false
		}
		return Command{}, a.hand(c.Le), false
	}
	a.waiting = nil
	more := c.CLA&ChainBit != 0
	c.CLA &^= ChainBit
	if a.open && (c.CLA != a.head.CLA || c.INS != a.head.INS || c.P1 != a.head.P1 || c.P2 != a.head.P2) {
		a.open, a.data = false, nil
		return Command{}, Response{Status: LastExpected}, false
	}
	if len(a.data)+len(c.Data) > MaxData {
		a.open, a.data = false, nil
		return Command{}, Response{Status: WrongLength}, false
	}
	if !a.open && !more {
		return c, Response{}, true
	}
	a.head, a.open = c, more
	a.data = append(a.data, c.Data...)
	if more {
		return Command{}, Response{Status: OK}, false
	}
	c.Data, a.data = a.data, nil
	return c, Response{}, true
}

// Answer takes the response to the command that Command returned and gives
// what fits its Le; GET RESPONSE brings the rest.
func (a *Assembler) Answer(c Command, r Response) Response {
	le := c.Le
	if le == 0 && len(r.Data) > 0 {
		le = MaxShortLe
	}
	if len(r.Data) <= le {
		return r
	}
	a.waiting, a.status = r.Data, r.Status
	return a.hand(le)
}

// hand gives the next n bytes of what waits.
func (a *Assembler) hand(n int) Response {
	n = min(max(n, 1), len(a.waiting))
	r := Response{a.waiting[:n:n], a.status}
	if a.waiting = a.waiting[n:]; len(a.waiting) > 0 {
		r.Status = MoreData | uint16(byte(min(len(a.waiting), MaxShortLe)))
	}
	return r
}
