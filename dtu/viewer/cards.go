package viewer

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/native"
	"hotdesk/smartcard/reader"
)

// A Card is the card that the session's programs may use while this connection
// lasts, and while it is in. Its methods are called from one goroutine; their
// context ends with the connection or with the card.
type Card interface {
	ATR() []byte
	// Protocol is how the reader speaks with the card.
	Protocol() native.CardProtocol
	Removed() <-chan struct{}
	// Number changes, and Again has something to receive, when others have put
	// the card back to its start: to the session's programs it was out, and is
	// in again. What is asked of another number fails with reader.ErrRemoved.
	Number() uint32
	Again() <-chan struct{}
	Transmit(ctx context.Context, number uint32, command []byte) ([]byte, error)
	Reset(ctx context.Context, number uint32) error
	// Hold keeps others off the card till Release, which is called once more at
	// the end, held or not.
	Hold(ctx context.Context, number uint32) error
	Release()
}

// A cardLine is the two streams of the card.
type cardLine struct {
	ask  chan *quic.ReceiveStream // capacity 1: the media end's stream
	once sync.Once
}

// take keeps the media end's card stream, if there is a card and it is the
// first.
func (v *Viewer) take(s *quic.ReceiveStream) (taken bool) {
	if v.conf.Card == nil {
		return false
	}
	v.line.once.Do(func() {
		v.line.ask <- s
		taken = true
	})
	return taken
}

// card offers the card and does what the media end asks of it. Whatever goes
// wrong costs the session its card, and not its picture.
func (v *Viewer) card() {
	c := v.conf.Card
	ctx, cancel := context.WithCancel(v.conn.Context())
	defer cancel()
	out, err := v.conn.OpenUniStream()
	if err != nil {
		return
	}
	defer out.Close()
	var writing sync.Mutex
	send := func(m native.CardMessage) error {
		writing.Lock()
		defer writing.Unlock()
		_, err := out.Write(m.Append(nil))
		return err
	}
	inserted := func() native.CardMessage {
		return native.CardMessage{Type: native.CardInserted, Card: c.Number(), Seq: uint32(c.Protocol()), Data: c.ATR()}
	}
	if _, err := out.Write(inserted().Append([]byte{byte(native.StreamCard)})); err != nil {
		return
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		for {
			select {
			case <-c.Removed():
				cancel()
				_ = send(native.CardMessage{Type: native.CardRemoved, Card: c.Number()}) // the end of the connection says it too
				return
			case <-c.Again():
				_ = send(inserted()) // of a connection that has ended it fails
			case <-ctx.Done():
				return
			}
		}
	})
	select {
	case in := <-v.line.ask:
		defer in.CancelRead(0)
		defer c.Release()
		err := native.ReadCards(in, func(m native.CardMessage) {
			if answer, ok := v.asked(ctx, c, m); ok {
				if err := send(answer); err != nil {
					in.CancelRead(0)
				}
			}
		})
		if errors.Is(err, native.ErrCard) {
			v.log.Warn("the session loses its card", "reason", err.Error())
		}
	case <-v.conn.Context().Done():
	}
}

// asked does one thing that is asked of the card. There is no answer where
// none is wanted.
func (v *Viewer) asked(ctx context.Context, c Card, m native.CardMessage) (answer native.CardMessage, ok bool) {
	var data []byte
	err := ctx.Err()
	switch m.Type {
	case native.CardTransmit:
		if err == nil {
			data, err = c.Transmit(ctx, m.Card, m.Data)
		}
	case native.CardReset:
		if err == nil {
			err = c.Reset(ctx, m.Card)
		}
	case native.CardHold:
		_ = c.Hold(ctx, m.Card) // what ends it ends the exchanges too
		return native.CardMessage{}, false
	case native.CardRelease:
		c.Release()
		return native.CardMessage{}, false
	default: // a later version's
		return native.CardMessage{}, false
	}
	answer = native.CardMessage{Type: native.CardAnswer, Card: m.Card, Seq: m.Seq, Data: data}
	switch {
	case err == nil && len(data) <= native.MaxCardData:
		return answer, true
	case errors.Is(err, reader.ErrRemoved), ctx.Err() != nil:
		answer.Data = []byte{byte(native.CardGone)}
	default:
		answer.Data = []byte{byte(native.CardMute)}
	}
	answer.Type = native.CardFailed
	return answer, true
}

// stream takes or turns away a stream that is not the picture's.
func (v *Viewer) stream(s *quic.ReceiveStream, kind native.Kind) {
	if kind != native.StreamCardAsk || !v.take(s) {
		s.CancelRead(0)
	}
}

// refuse turns away further streams but the card's.
func (v *Viewer) refuse() {
	for {
		s, err := v.conn.AcceptUniStream(v.conn.Context())
		if err != nil {
			return
		}
		var kind [1]byte
		if _, err := io.ReadFull(s, kind[:]); err != nil {
			s.CancelRead(0)
			continue
		}
		v.stream(s, native.Kind(kind[0]))
	}
}
