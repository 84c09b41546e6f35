package app

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
)

// deskCard is a card in a reader, and the lock of its terminal.
func deskCard(t *testing.T) (*emulated.Reader, *emulated.Card, *cardLock) {
	t.Helper()
	r := emulated.New(fstest.MapFS{"one.card": {Data: []byte("atr = 3b08484f544445534b31\ntype = simple\nid = 4d013c7f33545165\nsecret = 3f63e2dd7c0543506ce318c677a5e456\n")}})
	go func() {
		for range r.Events() {
		}
	}()
	t.Cleanup(func() { r.Close() })
	c, err := r.Insert("one")
	if err != nil {
		t.Fatal(err)
	}
	return r, c, newCardLock()
}

var (
	choose = apdu.Select(apdu.SimpleAID).Append(nil)
	getID  = apdu.Command{INS: 0xCA, P2: 1, Le: 256}.Append(nil)
)

func exchangeFine(t *testing.T, c *sessionCard, number uint32, command []byte) {
	t.Helper()
	b, err := c.Transmit(t.Context(), number, command)
	if err != nil || !bytes.HasSuffix(b, []byte{0x90, 0}) {
		t.Errorf("%x: % x, %v", command, b, err)
	}
}

// TestCardLock: dialogues do not interleave, and nobody finds what another
// left in the card.
func TestCardLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, card, lock := deskCard(t)
		a, b := newSessionCard(card, lock), newSessionCard(card, lock)
		exchangeFine(t, a, 0, choose)

		// A transaction keeps the other session off; its end lets it in, and the
		// card is as it was at first.
		if err := a.Hold(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		done := make(chan []byte, 1)
		go func() {
			answer, _ := b.Transmit(t.Context(), 0, choose)
			done <- answer
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("an exchange in another's transaction")
		default:
		}
		exchangeFine(t, a, 0, choose)
		a.Release()
		if answer := <-done; !bytes.HasSuffix(answer, []byte{0x90, 0}) {
			t.Errorf("b: % x", answer)
		}
		if a.Number() != 1 {
			t.Error("a is not told")
		}
		<-a.Again()
		if _, err := a.Transmit(t.Context(), 0, choose); !errors.Is(err, reader.ErrRemoved) {
			t.Errorf("of a transaction that is lost: %v", err)
		}

		// A proof goes before any transaction, and sessions wait for its end.
		if err := b.Hold(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		lock.reserve()
		if err := lock.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if answer, err := card.Transmit(t.Context(), getID); err != nil || bytes.HasSuffix(answer, []byte{0x90, 0}) {
			t.Errorf("the session's application is still selected: % x, %v", answer, err)
		}
		lock.give()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Transmit(ctx, b.Number(), choose); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("between the exchanges of a proof: %v", err)
		}
		lock.free()
		exchangeFine(t, b, b.Number(), choose)

		// Two waits end with their contexts.
		if err := lock.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := lock.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second dialogue: %v", err)
		}
		lock.give()
	})
}

func TestSessionCardOut(t *testing.T) {
	r, card, lock := deskCard(t)
	a := newSessionCard(card, lock)
	exchangeFine(t, a, 0, choose)
	if _, err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Transmit(t.Context(), 0, choose); !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("a card that is out: %v", err)
	}
	if err := a.Reset(t.Context(), 0); !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("reset of a card that is out: %v", err)
	}
	if err := lock.take(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTwoCards: what is done with one card holds up nobody at the other, and
// resets it no more.
func TestTwoCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, lockOne := deskCard(t)
		_, two, lockTwo := deskCard(t)
		a, b := newSessionCard(one, lockOne), newSessionCard(two, lockTwo)
		exchangeFine(t, a, 0, choose)
		exchangeFine(t, b, 0, choose)
		if err := a.Hold(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		lockTwo.reserve()
		if err := lockTwo.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		exchangeFine(t, a, 0, apdu.GetData(apdu.SimpleID).Append(nil)) // selected still
		lockTwo.give()
		lockTwo.free()
		if a.Number() != 0 || b.Number() != 1 {
			t.Errorf("reset %d and %d times, want the second once", a.Number(), b.Number())
		}
		exchangeFine(t, b, 1, choose)
	})
}
