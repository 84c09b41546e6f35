package tpdu

import (
	"errors"
	"fmt"
	"time"

	"hotdesk/smartcard/apdu"
)

// MaxExtensions bounds how often a card may ask for more time in one command.
const MaxExtensions = 1000

// ErrCard is wrapped where the card does not keep to the protocol, or not
// answer.
var ErrCard = errors.New("tpdu: card breaks the protocol; pull it out and push it in again")

// Config are the parameters of a T1.
type Config struct {
	IFSC int           // bytes that the card takes in a block, from its ATR
	IFSD int           // bytes that we take; other than 32 it is told to the card first
	CRC  bool          // otherwise LRC
	NAD  byte          // node addresses, usually 0
	Told bool          // the reader tells the card IFSD by itself
	BWT  time.Duration // how long the card may take
}

// Output is what to do: send a block, or hand on the end.
type Output struct {
	Send     []byte // a block for the card
	WTX      byte   // with Send: the next answer may take so many BWT, 0 = one
	Done     bool
	Response []byte
	Err      error
}

// T1 is the terminal's end of T=1.
//
//	idle -> Begin: S(IFS) once -> sending I-blocks -> receiving I-blocks -> idle
//	any: bad or no block -> repeated -> S(RESYNCH) -> the command begins again
//	     -> failed: the card needs a reset
type T1 struct {
	cfg        Config
	state      state
	told       bool // IFSD is agreed
	ns, nr     byte // numbers of the next I-block sent and expected
	command    []byte
	left       []byte // of command, from the block that is out
	out        int    // bytes of left in the block that is out
	response   []byte
	last       Block // that is out, for repetition
	retries    int
	resynched  bool
	extensions int
	deadline   time.Time
}

type state int

const (
	idle state = iota
	agreeing
	sending
	receiving
	resynching
	failed
)

// NewT1 is a machine for a card that was just reset.
func NewT1(c Config) *T1 {
	if c.IFSC < 1 || c.IFSC > MaxINF || c.IFSD < 1 || c.IFSD > MaxINF || c.BWT <= 0 {
		panic(fmt.Sprintf("tpdu: T=1 with %+v", c))
	}
	return &T1{cfg: c, told: c.Told || c.IFSD == 32}
}

// Begin sends a command. It panics while another is out (a caller's bug).
func (t *T1) Begin(now time.Time, command []byte) Output {
	if t.state == failed {
		return Output{Done: true, Err: fmt.Errorf("%w: it failed before", ErrCard)}
	}
	if t.state != idle || len(command) == 0 {
		panic("tpdu: Begin in the middle of a command, or without one")
	}
	t.command, t.resynched, t.extensions, t.retries = command, false, 0, 0
	return t.start(now)
}

// start sends the command from its beginning.
func (t *T1) start(now time.Time) Output {
	t.left, t.response = t.command, nil
	if !t.told {
		t.state = agreeing
		return t.send(now, S(IFS, byte(t.cfg.IFSD)), 0)
	}
	t.state = sending
	return t.piece(now)
}

// piece sends the next I-block of the command.
func (t *T1) piece(now time.Time) Output {
	t.out = min(len(t.left), t.cfg.IFSC)
	return t.send(now, I(t.ns, t.out < len(t.left), t.left[:t.out]), 0)
}

func (t *T1) send(now time.Time, b Block, wtx byte) Output {
	t.last = b
	return t.repeat(now, b, wtx)
}

// repeat sends b without making it the block to repeat.
func (t *T1) repeat(now time.Time, b Block, wtx byte) Output {
	t.deadline = now.Add(t.cfg.BWT * time.Duration(max(1, wtx)))
	b.NAD = t.cfg.NAD
	return Output{Send: b.Append(nil, t.cfg.CRC), WTX: wtx}
}

// Next is when Tick is due; zero: never.
func (t *T1) Next() time.Time {
	if t.state == idle || t.state == failed {
		return time.Time{}
	}
	return t.deadline
}

// Tick tells the time. Before Next it does nothing.
func (t *T1) Tick(now time.Time) Output {
	if next := t.Next(); next.IsZero() || now.Before(next) {
		return Output{}
	}
	return t.again(now, 2, "it does not answer")
}

// Receive takes what came from the card.
func (t *T1) Receive(now time.Time, raw []byte) Output {
	if t.state == idle || t.state == failed {
		return Output{}
	}
	b, err := ParseBlock(raw, t.cfg.CRC)
	switch {
	case err != nil:
		return t.again(now, 1, err.Error())
	case t.state == resynching:
		if b.PCB != Resynch|responseS {
			return t.again(now, 2, "no answer to S(RESYNCH)")
		}
		t.ns, t.nr, t.retries = 0, 0, 0
		return t.start(now)
	case b.IsS():
		return t.supervisory(now, b)
	case t.state == agreeing:
		return t.again(now, 2, "no answer to S(IFS)")
	case b.IsR():
		return t.ready(now, b)
	}
	return t.information(now, b)
}

func (t *T1) supervisory(now time.Time, b Block) Output {
	switch {
	case b.PCB == IFS|responseS && t.state == agreeing:
		if b.INF[0] != byte(t.cfg.IFSD) {
			return t.again(now, 2, "another size in the answer to S(IFS)")
		}
		t.told, t.retries, t.state = true, 0, sending
		return t.piece(now)
	case b.PCB == WTX && t.state != agreeing:
		if t.extensions++; t.extensions > MaxExtensions {
			return t.fail("it asks for more time without end")
		}
		t.retries = 0
		return t.repeat(now, S(WTX|responseS, b.INF[0]), b.INF[0])
	case b.PCB == IFS && b.INF[0] <= MaxINF:
		t.cfg.IFSC = int(b.INF[0])
		return t.repeat(now, S(IFS|responseS, b.INF[0]), 0)
	case b.PCB == AbortS:
		return t.fail("it aborted the chain")
	}
	return t.again(now, 2, fmt.Sprintf("an S-block %02x that nobody asked for", b.PCB))
}

// ready takes an R-block: the acknowledgement of a piece, or a request to
// repeat.
func (t *T1) ready(now time.Time, b Block) Output {
	if t.state == sending && t.out < len(t.left) && b.Number() != t.ns {
		t.left, t.ns, t.retries = t.left[t.out:], t.ns^1, 0
		return t.piece(now)
	}
	if t.retries++; t.retries > MaxRetries {
		return t.resynch(now, "it asks for the same block again and again")
	}
	return t.repeat(now, t.last, 0)
}

func (t *T1) information(now time.Time, b Block) Output {
	if b.Number() != t.nr || t.state == sending && t.out < len(t.left) {
		return t.again(now, 2, "an I-block out of order")
	}
	if t.state == sending {
		t.left, t.ns, t.state = nil, t.ns^1, receiving
	}
	if len(b.INF) > t.cfg.IFSD {
		return t.again(now, 2, "a block larger than agreed")
	}
	if len(t.response)+len(b.INF) > apdu.MaxLe+2 {
		return t.fail("it answers without end")
	}
	t.nr ^= 1
	t.retries = 0
	t.response = append(t.response, b.INF...)
	if b.More() {
		return t.send(now, R(t.nr, 0), 0)
	}
	t.state = idle
	return Output{Done: true, Response: t.response}
}

// again asks for the card's last block once more, or repeats ours where the
// card must answer exactly that.
func (t *T1) again(now time.Time, reason byte, why string) Output {
	if t.retries++; t.retries > MaxRetries {
		return t.resynch(now, why)
	}
	if t.state == agreeing || t.state == resynching {
		return t.repeat(now, t.last, 0)
	}
	return t.repeat(now, R(t.nr, reason), 0)
}

func (t *T1) resynch(now time.Time, why string) Output {
	if t.resynched {
		return t.fail(why)
	}
	t.resynched, t.retries, t.state = true, 0, resynching
	return t.send(now, S(Resynch), 0)
}

func (t *T1) fail(why string) Output {
	t.state = failed
	return Output{Done: true, Err: fmt.Errorf("%w (%s)", ErrCard, why)}
}
