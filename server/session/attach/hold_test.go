package attach

import (
	"reflect"
	"testing"

	"hotdesk/protocol/input"
	"hotdesk/server/session/attach/attachtest"
)

// A holder is a Sink that notes when it is to hold.
type holder struct {
	attachtest.Sink
	calls []any
}

func (h *holder) Key(usage uint16, down bool) { h.calls = append(h.calls, usage, down) }
func (h *holder) Hold(more bool)              { h.calls = append(h.calls, more) }

// What comes together is told to be, and nothing else; it is let go of also where
// what follows is half a record or none.
func TestHold(t *testing.T) {
	down := input.Record{Type: input.Key, Usage: 4, Down: true}.Append(nil)
	both := input.Record{Type: input.Key, Usage: 4}.Append(down)
	for _, c := range []struct {
		b    []byte
		rest int
		bad  bool
		want []any
	}{
		{nil, 0, false, nil},
		{down, 0, false, []any{uint16(4), true}},
		{both, 0, false, []any{true, uint16(4), true, uint16(4), false, false}},
		{both[:len(both)-1], len(down) - 1, false, []any{true, uint16(4), true, false}},
		{append(down[:len(down):len(down)], 0xff), 0, true, []any{true, uint16(4), true, false}},
	} {
		h := new(holder)
		a := &attachment{spec: Spec{Sink: h}}
		rest, err := a.records(c.b)
		if !reflect.DeepEqual(h.calls, c.want) || len(rest) != c.rest || (err != nil) != c.bad {
			t.Errorf("%v: %v, %d bytes left, %v; want %v", c.b, h.calls, len(rest), err, c.want)
		}
	}
}
