package media

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"hotdesk/protocol/native"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
)

// cardDesk is the card service with a terminal on its other side, which has a
// reader; between the two are the messages of package native.
type cardDesk struct {
	t     testing.TB
	path  string
	cards *emulated.Reader
	serve *cards
	n     uint32
	out   func() // ends the attachment
}

func newCardDesk(t testing.TB, files fs.FS) *cardDesk {
	t.Helper()
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	d := &cardDesk{t: t, path: filepath.Join(dir, "s"), cards: emulated.New(files)}
	if d.serve, err = newCards(d.path, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.serve.run(ctx) })
	wg.Go(func() {
		for range d.cards.Events() {
		}
	})
	t.Cleanup(func() {
		if d.out != nil {
			d.out()
		}
		cancel()
		d.cards.Close()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return d
}

// insert puts a card in: an attachment begins.
func (d *cardDesk) insert(name string) error {
	card, err := d.cards.Insert(name)
	if err != nil {
		return err
	}
	d.n++
	d.attach(card, d.n)
	return nil
}

// attach begins an attachment with a card.
func (d *cardDesk) attach(card reader.Card, n uint32) {
	media, terminal := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer terminal.Close()
		terminal.Write(native.CardMessage{Type: native.CardInserted, Card: n, Data: card.ATR()}.Append(nil))
		_ = native.ReadCards(terminal, func(m native.CardMessage) {
			answer := native.CardMessage{Type: native.CardAnswer, Card: n, Seq: m.Seq}
			var err error
			switch m.Type {
			case native.CardTransmit:
				answer.Data, err = card.Transmit(context.Background(), m.Data)
			case native.CardReset:
				err = reader.Reset(context.Background(), card)
			default:
				return
			}
			if err != nil {
				answer.Type, answer.Data = native.CardFailed, []byte{byte(native.CardMute)}
				if errors.Is(err, reader.ErrRemoved) {
					answer.Data[0] = byte(native.CardGone)
				}
			}
			terminal.Write(answer.Append(nil))
		})
	})
	wg.Go(func() { d.serve.attached(io.Reader(media), media) })
	d.out = func() {
		terminal.Close()
		media.Close()
		wg.Wait()
		d.out = nil
	}
}

// remove pulls the card: the attachment ends.
func (d *cardDesk) remove() error {
	_, err := d.cards.Remove()
	d.out()
	return err
}
