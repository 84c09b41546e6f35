package tpdu

import (
	"fmt"
	"time"

	"hotdesk/smartcard/apdu"
)

// T0 carries one TPDU of T=0 over a reader of the character level: it sends the
// five bytes of the header and obeys the card's procedure bytes.
//
//	header -> 60: wait on -> INS: the rest -> INS^FF: one byte -> 6x, 9x: status
type T0 struct {
	ins      byte
	data     []byte // to send, that is left
	want     int    // bytes to come
	wt       time.Duration
	nulls    int
	deadline time.Time
	status   []byte
	response []byte
	taking   int // bytes that the last procedure byte announced
	done     bool
}

// Header is the TPDU of a command in the short form (ISO 7816-3 section 12.2.2
// to 12.2.5): its five bytes, P3 last, and the data. Of case 4 Le is not sent:
// the card says 61xx, or GET RESPONSE asks.
func Header(c apdu.Command) (header [5]byte, data []byte, want int) {
	if !c.Short() {
		panic("tpdu: T=0 takes the short form; chain or envelope first")
	}
	header = [5]byte{c.CLA, c.INS, c.P1, c.P2}
	if len(c.Data) > 0 {
		header[4] = byte(len(c.Data))
		return header, c.Data, 0
	}
	header[4] = byte(c.Le)
	return header, nil, c.Le
}

// NewT0 begins: the output is the header. wt is the card's waiting time.
func NewT0(now time.Time, c apdu.Command, wt time.Duration) (*T0, Output) {
	header, data, want := Header(c)
	t := &T0{ins: c.INS, data: data, want: want, wt: wt, deadline: now.Add(wt)}
	return t, Output{Send: header[:]}
}

// Next is when Tick is due; zero: never.
func (t *T0) Next() time.Time {
	if t.done {
		return time.Time{}
	}
	return t.deadline
}

// Tick tells the time. Before Next it does nothing.
func (t *T0) Tick(now time.Time) Output {
	if t.done || now.Before(t.deadline) {
		return Output{}
	}
	return t.fail("it does not answer")
}

// Receive takes bytes from the card, one or many.
func (t *T0) Receive(now time.Time, b []byte) Output {
	var out Output
	for _, v := range b {
		if t.done {
			break
		}
		if len(out.Send) > 0 {
			return t.fail("it speaks out of turn")
		}
		t.deadline = now.Add(t.wt)
		out = t.byte(v)
	}
	return out
}

func (t *T0) byte(v byte) Output {
	switch {
	case t.taking > 0:
		t.taking--
		t.want--
		t.response = append(t.response, v)
	case len(t.status) == 1:
		t.done = true
		return Output{Done: true, Response: append(t.response, t.status[0], v)}
	case v == 0x60:
		if t.nulls++; t.nulls > MaxExtensions {
			return t.fail("it asks for more time without end")
		}
	case v == t.ins, v == t.ins^0xff:
		n := max(len(t.data), t.want)
		if v != t.ins {
			n = min(n, 1)
		}
		if n == 0 {
			return t.fail("a procedure byte, and nothing is left to send or take")
		}
		if t.want > 0 {
			t.taking = n
			return Output{}
		}
		send := t.data[:n]
		t.data = t.data[n:]
		return Output{Send: send}
	case v&0xf0 == 0x60, v&0xf0 == 0x90:
		t.status = []byte{v}
	default:
		return t.fail(fmt.Sprintf("procedure byte %02x to instruction %02x", v, t.ins))
	}
	return Output{}
}

func (t *T0) fail(why string) Output {
	t.done = true
	return Output{Done: true, Err: fmt.Errorf("%w (%s)", ErrCard, why)}
}
