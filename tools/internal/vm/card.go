package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
)

// A Slot is the card's side of one of the machine's card readers: what is put
// in is there for the guest. Safe for concurrent use.
//
// qemu's reader works at TPDU level, so the card must be one of T=0; its
// answers to commands with data wait for GET RESPONSE, as T=0 has it.
type Slot struct {
	conn net.Conn

	mu     sync.Mutex
	card   reader.Card
	cancel context.CancelFunc // of the exchanges with card
	ctx    context.Context
	err    error
	done   chan struct{}
}

// Types of VSCard messages.
const (
	vscInit    = 1
	vscError   = 2
	vscAdd     = 3
	vscATR     = 5
	vscRemoved = 6
	vscAPDU    = 7
	// maxVSC bounds a message's body; qemu's own bound is the same.
	maxVSC = 64 << 10
	// vscVersion is 0.0.2; the word of capabilities after it is empty.
	vscVersion = 2
)

// newSlot begins the protocol on a connection that qemu opened.
func newSlot(conn net.Conn) (*Slot, error) {
	s := &Slot{conn: conn, done: make(chan struct{})}
	hello := binary.BigEndian.AppendUint32([]byte("VSCD"), vscVersion)
	hello = binary.BigEndian.AppendUint32(hello, 0)
	if err := errors.Join(s.send(vscInit, hello), s.send(vscAdd, []byte("hotdesk\x00"))); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		err := s.serve()
		s.mu.Lock()
		s.err = err
		s.pull()
		s.mu.Unlock()
	}()
	return s, nil
}

// Insert puts a card in. It is for the caller to close the card's own reader
// afterwards.
func (s *Slot) Insert(c reader.Card) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.card != nil {
		return errors.New("vm: a card is in the reader")
	}
	s.card = c
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s.send(vscATR, c.ATR())
}

// Remove pulls the card out.
func (s *Slot) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return errors.New("vm: no card is in the reader")
	}
	s.pull()
	return s.send(vscRemoved, nil)
}

// pull forgets the card. s.mu is held.
func (s *Slot) pull() {
	if s.card != nil {
		s.cancel()
		s.card = nil
	}
}

func (s *Slot) send(kind uint32, body []byte) error {
	b := binary.BigEndian.AppendUint32(nil, kind)
	b = binary.BigEndian.AppendUint32(b, 0) // the one reader
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	if _, err := s.conn.Write(append(b, body...)); err != nil {
		return fmt.Errorf("vm: card reader: %w", err)
	}
	return nil
}

// serve answers qemu until it hangs up.
func (s *Slot) serve() error {
	var last reader.Card
	var t0 t0Card
	for {
		var head [12]byte
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return fmt.Errorf("vm: card reader: %w", err)
		}
		kind, n := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[8:])
		if n > maxVSC {
			return fmt.Errorf("vm: card reader: message of %d bytes", n)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.conn, body); err != nil {
			return fmt.Errorf("vm: card reader: %w", err)
		}
		if kind != vscAPDU { // acknowledgements, and qemu's own hello
			continue
		}
		s.mu.Lock()
		card, ctx := s.card, s.ctx
		s.mu.Unlock()
		if card == nil {
			continue // pulled while the command was on its way
		}
		if card != last {
			last, t0 = card, t0Card{}
		}
		answer, err := t0.exchange(body, func(command []byte) ([]byte, error) { return card.Transmit(ctx, command) })
		if err != nil {
			continue // mute, or pulled: the guest's own time runs out
		}
		s.mu.Lock()
		if s.card == card {
			err = s.send(vscAPDU, answer)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// t0Card makes of a card that takes APDUs one that takes the TPDUs of T=0 (ISO
// 7816-3 section 12.2): a command has data or Le, and what it would answer to
// data waits for GET RESPONSE.
type t0Card struct {
	waiting []byte
	status  uint16 // after the last of it
}

func (t *t0Card) exchange(tpdu []byte, card func([]byte) ([]byte, error)) ([]byte, error) {
	if len(tpdu) == 5 && tpdu[1] == apdu.InsGetResponse && len(t.waiting) > 0 {
		n := min(int(tpdu[4]+255)+1, len(t.waiting))
		b := t.waiting[:n:n]
		t.waiting = t.waiting[n:]
		return apdu.Response{Data: b, Status: t.next()}.Append(nil), nil
	}
	t.waiting = nil
	if len(tpdu) <= 5 || tpdu[0]&apdu.ChainBit != 0 {
		return card(tpdu)
	}
	answer, err := card(append(tpdu[:len(tpdu):len(tpdu)], 0)) // Le: all that there is
	if err != nil {
		return nil, err
	}
	r, err := apdu.ParseResponse(answer)
	if err != nil || len(r.Data) == 0 {
		return answer, err
	}
	t.waiting, t.status = r.Data, r.Status
	return apdu.Response{Status: t.next()}.Append(nil), nil
}

// next is the status word that says what waits: here, or with the card itself.
func (t *t0Card) next() uint16 {
	if len(t.waiting) == 0 {
		return t.status
	}
	return apdu.MoreData | uint16(byte(min(len(t.waiting), apdu.MaxShortLe)))
}
