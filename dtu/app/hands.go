package app

import (
	"errors"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/input"
)

// errNoReader is what inserting a card gets where no emulated reader is.
var errNoReader = errors.New("dtu: no emulated card reader; start dtu with -cards DIR")

// hands are the person's. Input goes straight to the session, past the loop.
type hands struct{ s *shell }

var _ backend.Hands = hands{}

func (h hands) send(r input.Record) {
	if v := h.s.target.Load(); v != nil {
		v.Send(r)
	}
}

func (h hands) Key(usage uint16, down bool) {
	if u := h.s.prompt.Load(); u != nil && down {
		switch usage {
		case keyReturn, keyEnter:
			h.s.decideLater(u, true)
		case keyEscape:
			h.s.decideLater(u, false)
		}
		return
	}
	if p := h.s.pad.Load(); p != nil {
		if down {
			if v := p.key(usage); v != nil {
				h.s.fromHere(v)
			}
		}
		return
	}
	if h.hot(usage, down) {
		return
	}
	if usage != 0 && usage <= input.MaxUsage {
		h.send(input.Record{Type: input.Key, Usage: usage, Down: down})
	}
}

func (h hands) Pointer(x, y int, buttons byte) {
	w, ht := h.s.screen.Size()
	x, y = min(max(x, 0), w-1), min(max(y, 0), ht-1)
	h.s.screen.MovePointer(x, y)
	x, y = h.s.screen.Map(x, y)
	const all = input.ButtonLeft | input.ButtonMiddle | input.ButtonRight | input.ButtonBack | input.ButtonForward
	h.send(input.Record{Type: input.Pointer, X: x, Y: y, Buttons: buttons & all})
}

func (h hands) Wheel(right, down int) {
	bound := func(v int) int { return min(max(v, -input.MaxWheel), input.MaxWheel) }
	if right != 0 || down != 0 {
		h.send(input.Record{Type: input.Wheel, X: bound(right), Y: bound(down)})
	}
}

func (h hands) Release() {
	h.s.hotkeys.release()
	h.send(input.Record{Type: input.Release})
}

func (h hands) Resize(width, height int) {
	bound := func(v int) int { return min(max(v, alp.MinSide), alp.MaxSide) }
	width, height = bound(width), bound(height)
	if w, ht := h.s.screen.Size(); w != width || ht != height {
		h.s.fromHere(terminal.Resized{Width: width, Height: height})
	}
}

func (h hands) Cards() []backend.CardInfo {
	if h.s.cards == nil {
		return nil
	}
	names, err := h.s.cards.Names()
	if err != nil {
		h.s.log.Warn("cards not listed", "reason", err.Error())
	}
	in := h.s.cards.Inserted()
	cards := make([]backend.CardInfo, 0, len(names))
	for _, n := range names {
		cards = append(cards, backend.CardInfo{Name: n, Inserted: in != nil && in.Name() == n})
	}
	return cards
}

func (h hands) Insert(card string) error {
	if h.s.cards == nil {
		return errNoReader
	}
	_, err := h.s.cards.Insert(card)
	return err
}

func (h hands) Remove() error {
	if h.s.cards == nil {
		return errNoReader
	}
	_, err := h.s.cards.Remove()
	return err
}

func (h hands) PowerCycle() { h.s.fromHere(terminal.PowerCycle{}) }
