package driver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/driver"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/readertest"
	"hotdesk/smartcard/reader/usbtest"
)

const patience = 30 * time.Second

var id = []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}

// automatic is what most readers do by themselves.
const automatic = ccid.AutoATR | ccid.AutoActivate | ccid.AutoVoltage | ccid.AutoClock | ccid.AutoRate | ccid.AutoNegotiate

// kinds are the readers that the tests run with, each with its cards.
var kinds = []struct {
	name     string
	cfg      usbtest.Config
	protocol int
	ta1      byte
}{
	{"T=0, TPDU, nothing automatic", usbtest.Config{}, 0, 0},
	{"T=0, TPDU, PPS", usbtest.Config{}, 0, 0x95},
	{"T=0, TPDU, automatic", usbtest.Config{Features: automatic}, 0, 0},
	{"T=1, TPDU, nothing automatic", usbtest.Config{}, 1, 0},
	{"T=1, TPDU, PPS", usbtest.Config{EmptyPacket: true}, 1, 0x95},
	{"T=1, TPDU, PPS refused", usbtest.Config{SlowPPS: true}, 1, 0x95},
	{"T=1, TPDU, the reader's PPS", usbtest.Config{Features: ccid.AutoPPS | ccid.AutoVoltage}, 1, 0x95},
	{"T=1, TPDU, the reader's PPS refused", usbtest.Config{Features: ccid.AutoPPS | ccid.AutoVoltage, SlowPPS: true}, 1, 0x95},
	{"T=1, TPDU, automatic", usbtest.Config{Features: automatic | ccid.AutoIFSD}, 1, 0},
	{"T=1, TPDU, cards of 5 V", usbtest.Config{CardVoltage: 1}, 1, 0},
	{"short APDU", usbtest.Config{Level: ccid.ShortAPDU, Features: automatic}, 1, 0},
	{"extended APDU in pieces", usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic}, 1, 0},
	{"extended APDU, large messages", usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, MaxMessage: 65554, Extensions: 3, EmptyPacket: true}, 1, 0},
	{"polled", usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, NoInterrupt: true}, 0, 0},
}

func cardFile(protocol int, ta1 byte) string {
	return fmt.Sprintf("atr = %x\ntype = simple\nid = %x\nsecret = 00112233445566778899aabbccddeeff\n", usbtest.ATR(protocol, ta1, "HOTDESK1"), id)
}

// hands put cards from a folder into a slot of a reader.
type hands struct {
	d     *usbtest.Device
	cards *emulated.Reader
	slot  int
}

func newHands(t *testing.T, d *usbtest.Device, slot int, file string) *hands {
	h := &hands{d, emulated.New(fstest.MapFS{"a.card": {Data: []byte(file)}}), slot}
	t.Cleanup(func() { h.cards.Close() })
	return h
}

func (h *hands) insert(t *testing.T) {
	t.Helper()
	c, err := h.cards.Insert("a")
	if err != nil {
		t.Fatal(err)
	}
	h.d.Insert(h.slot, c)
}

func (h *hands) remove(t *testing.T) {
	t.Helper()
	if _, err := h.cards.Remove(); err != nil {
		t.Fatal(err)
	}
	h.d.Remove(h.slot)
}

func TestConformance(t *testing.T) {
	for _, k := range kinds {
		if k.cfg.NoInterrupt {
			continue // what comes and goes between two looks is not seen
		}
		t.Run(k.name, func(t *testing.T) {
			readertest.Run(t, func(t *testing.T) readertest.Bench {
				bus, d := usbtest.NewBus(), usbtest.New(k.cfg)
				bus.Plug(1, d)
				h := newHands(t, d, 0, cardFile(k.protocol, k.ta1))
				return readertest.Bench{
					Open: func(t *testing.T) reader.Source {
						heard := d.Heard()
						s := driver.Open(t.Context(), bus, nil)
						<-heard
						return s
					},
					Insert: h.insert, Remove: h.remove, ID: id, ATR: usbtest.ATR(k.protocol, k.ta1, "HOTDESK1"),
				}
			})
		})
	}
}

// desk is a source with the bus it is made of.
type desk struct {
	t   *testing.T
	bus *usbtest.Bus
	s   *driver.Source
}

func newDesk(t *testing.T, devices ...*usbtest.Device) *desk {
	d := &desk{t: t, bus: usbtest.NewBus()}
	for i, dev := range devices {
		d.bus.Plug(i+1, dev)
	}
	d.s = driver.Open(t.Context(), d.bus, nil)
	t.Cleanup(func() { d.s.Close() })
	return d
}

func (d *desk) next(kind reader.Kind) reader.Event {
	d.t.Helper()
	select {
	case e := <-d.s.Events():
		if e.Kind != kind {
			d.t.Fatalf("%+v, want kind %d", e, kind)
		}
		return e
	case <-time.After(patience):
		d.t.Fatalf("no event of kind %d", kind)
	}
	return reader.Event{}
}

// echo is a card that answers with the command it got and 9000, and may be
// told to hang.
type echo struct {
	atr    []byte
	hang   chan struct{} // not nil: Transmit says so here, and waits
	resets int
}

func (e *echo) ATR() []byte { return e.atr }
func (e *echo) Reset()      { e.resets++ }
func (e *echo) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if e.hang != nil {
		e.hang <- struct{}{}
		<-ctx.Done()
		return nil, reader.ErrRemoved
	}
	return append(bytes.Clone(command), 0x90, 0), nil
}

// TestLengths: commands and answers of all lengths that matter come through
// whole, at each level that has room for them.
func TestLengths(t *testing.T) {
	for _, k := range kinds {
		if k.protocol == 0 && k.cfg.Level != ccid.ExtendedAPDU {
			continue // the echo is no answer of T=0
		}
		t.Run(k.name, func(t *testing.T) {
			dev := usbtest.New(k.cfg)
			dev.Insert(0, &echo{atr: usbtest.ATR(k.protocol, k.ta1, "")})
			d := newDesk(t, dev)
			d.next(reader.ReaderAdded)
			c := d.next(reader.Inserted).Card
			for _, n := range []int{0, 1, 20, 47, 48, 49, 52, 53, 64, 65, 200, 240, 241, 255, 256, 257, 500, 2000, 65000} {
				short := n <= apdu.MaxShortData
				if !short && k.cfg.Level == ccid.ShortAPDU {
					continue
				}
				cmd := apdu.Command{INS: 0x10, Data: bytes.Repeat([]byte{byte(n)}, n)}.Append(nil)
				answer, err := c.Transmit(t.Context(), cmd)
				if err != nil || !bytes.Equal(answer, append(cmd, 0x90, 0)) {
					t.Fatalf("%d bytes: %d came, %v", n, len(answer), err)
				}
			}
			if k.cfg.Level == ccid.ShortAPDU {
				answer, err := c.Transmit(t.Context(), apdu.Command{INS: 0x10, Data: make([]byte, 300)}.Append(nil))
				if err != nil || !bytes.Equal(answer, []byte{0x67, 0}) {
					t.Errorf("too long: %x, %v", answer, err)
				}
			}
		})
	}
}

// TestT0: commands of each case over T=0 at TPDU level.
func TestT0(t *testing.T) {
	dev := usbtest.New(usbtest.Config{})
	h := newHands(t, dev, 0, cardFile(0, 0))
	h.insert(t)
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	c := d.next(reader.Inserted).Card
	for _, step := range []struct {
		cmd  apdu.Command
		want string
	}{
		{apdu.Command{INS: 0x04}, "6d00"},
		{apdu.Select(apdu.SimpleAID), "9000"},
		{apdu.GetData(apdu.SimpleID), "0123456789abcdef9000"},
		{apdu.Command{INS: apdu.InsGetData, P1: 1, P2: 1, Le: 65536}, "6700"},
		{apdu.Command{INS: apdu.InsInternalAuthenticate, Data: make([]byte, 16), Le: 256}, "32"},
	} {
		answer, err := c.Transmit(t.Context(), step.cmd.Append(nil))
		switch {
		case err != nil:
			t.Errorf("%+v: %v", step.cmd, err)
		case step.want == "32":
			if len(answer) != 34 || !bytes.HasSuffix(answer, []byte{0x90, 0}) {
				t.Errorf("%+v: %x", step.cmd, answer)
			}
		case fmt.Sprintf("%x", answer) != step.want:
			t.Errorf("%+v: %x, want %s", step.cmd, answer, step.want)
		}
	}
}

// TestPulledInTheMiddle: an exchange that runs when its card is pulled, or the
// whole reader, ends with ErrRemoved, and the reader goes on.
func TestPulledInTheMiddle(t *testing.T) {
	for _, what := range []string{"card", "reader", "silent reader"} {
		t.Run(what, func(t *testing.T) {
			dev := usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic})
			card := &echo{atr: usbtest.ATR(1, 0, ""), hang: make(chan struct{})}
			dev.Insert(0, card)
			d := newDesk(t, dev)
			d.next(reader.ReaderAdded)
			c := d.next(reader.Inserted).Card
			begun := (<-chan struct{})(card.hang)
			if what == "silent reader" {
				begun = dev.Silence()
			}
			result := make(chan error)
			go func() {
				_, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0})
				result <- err
			}()
			<-begun
			if what == "reader" {
				d.bus.Unplug(dev)
			} else {
				dev.Remove(0)
			}
			if err := <-result; !errors.Is(err, reader.ErrRemoved) {
				t.Errorf("%v", err)
			}
			if e := d.next(reader.Removed); e.Card != c {
				t.Errorf("%+v", e)
			}
			if what == "reader" {
				d.next(reader.ReaderRemoved)
				card.hang = nil
				d.bus.Plug(1, dev)
				d.next(reader.ReaderAdded)
			}
			card.hang = nil
			if what != "reader" {
				dev.Insert(0, card)
			}
			if c = d.next(reader.Inserted).Card; c == nil {
				t.Fatal("no card")
			}
			if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 6 {
				t.Errorf("%x, %v", b, err)
			}
		})
	}
}

// TestAnswerLost: a card is pulled while it gets its power, or in an exchange, and
// its reader, which knows no abort, forgets to answer, as qemu's does. The next card
// is there a moment later, and the reader is not reset.
func TestAnswerLost(t *testing.T) {
	for _, at := range []string{"power", "exchange"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dev := usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, NoAbort: true})
				card := &echo{atr: usbtest.ATR(1, 0, "")}
				d := newDesk(t, dev)
				defer d.s.Close() // before the bubble ends
				d.next(reader.ReaderAdded)
				synctest.Wait()
				if at == "power" {
					silent := dev.Silence()
					dev.Insert(0, card)
					<-silent
					dev.Remove(0)
				} else {
					dev.Insert(0, card)
					c := d.next(reader.Inserted).Card
					silent := dev.Silence()
					result := make(chan error)
					go func() {
						_, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0})
						result <- err
					}()
					<-silent
					dev.Remove(0)
					if err := <-result; !errors.Is(err, reader.ErrRemoved) {
						t.Errorf("%v", err)
					}
				}
				began := time.Now()
				dev.Insert(0, card)
				if at == "power" {
					first := d.next(reader.Inserted).Card
					if _, err := first.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); !errors.Is(err, reader.ErrRemoved) {
						t.Errorf("the card that was pulled: %v", err)
					}
				}
				d.next(reader.Removed)
				c := d.next(reader.Inserted).Card
				if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 6 {
					t.Errorf("%x, %v", b, err)
				}
				if took := time.Since(began); took > 1100*time.Millisecond {
					t.Errorf("the next card is there after %v", took)
				}
			})
		})
	}
}

// TestGivenUp: who gives an exchange up does not disturb the next one.
func TestGivenUp(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Level: ccid.ShortAPDU, Features: automatic})
	card := &echo{atr: usbtest.ATR(1, 0, ""), hang: make(chan struct{})}
	dev.Insert(0, card)
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	c := d.next(reader.Inserted).Card
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := c.Transmit(ctx, []byte{0, 0x10, 0, 0})
		result <- err
	}()
	<-card.hang
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := c.Transmit(ctx, []byte{0, 0x10, 0, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestTwoReaders: each with its own cards, one of them with two slots.
func TestTwoReaders(t *testing.T) {
	one := usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, Product: "One"})
	two := usbtest.New(usbtest.Config{Features: automatic, Product: "Two", Slots: 2})
	d := newDesk(t, one, two)
	names := []string{d.next(reader.ReaderAdded).Reader, d.next(reader.ReaderAdded).Reader, d.next(reader.ReaderAdded).Reader}
	slices.Sort(names)
	if want := []string{"One 1", "Two 2 slot 1", "Two 2 slot 2"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	var cards []reader.Card
	for i, put := range []func(usbtest.Card){func(c usbtest.Card) { one.Insert(0, c) }, func(c usbtest.Card) { two.Insert(0, c) }, func(c usbtest.Card) { two.Insert(1, c) }} {
		put(&echo{atr: usbtest.ATR(1, 0, names[i][:3])})
		e := d.next(reader.Inserted)
		if e.Reader != names[i] || !bytes.Equal(e.Card.ATR(), usbtest.ATR(1, 0, names[i][:3])) {
			t.Errorf("%d: %+v", i, e)
		}
		cards = append(cards, e.Card)
	}
	two.Remove(0)
	if e := d.next(reader.Removed); e.Card != cards[1] {
		t.Errorf("%+v", e)
	}
	for _, c := range []reader.Card{cards[0], cards[2]} {
		if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 6 {
			t.Errorf("%x, %v", b, err)
		}
	}
	d.bus.Unplug(two)
	if e := d.next(reader.Removed); e.Card != cards[2] {
		t.Errorf("%+v", e)
	}
	if e := d.next(reader.ReaderRemoved); e.Reader != names[1] && e.Reader != names[2] {
		t.Errorf("%+v", e)
	}
}

// TestPolled: a reader without an interrupt pipe.
func TestPolled(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic, NoInterrupt: true})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	for range 2 {
		dev.Insert(0, &echo{atr: usbtest.ATR(1, 0, "")})
		c := d.next(reader.Inserted).Card
		if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 6 {
			t.Errorf("%x, %v", b, err)
		}
		dev.Remove(0)
		d.next(reader.Removed)
	}
	// Pulled and pushed between two looks: the exchange finds it without power.
	card := &echo{atr: usbtest.ATR(1, 0, "")}
	dev.Insert(0, card)
	c := d.next(reader.Inserted).Card
	dev.Remove(0)
	dev.Insert(0, card)
	if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); !errors.Is(err, reader.ErrRemoved) {
		t.Errorf("%x, %v", b, err)
	}
	d.next(reader.Removed)
	if again := d.next(reader.Inserted).Card; again == c {
		t.Error("the same Card")
	}
}

// TestNotPolled: a reader with an interrupt pipe is asked for its slot once.
func TestNotPolled(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Features: automatic})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	for range 5 {
		dev.Insert(0, &echo{atr: usbtest.ATR(0, 0, "")})
		d.next(reader.Inserted)
		dev.Remove(0)
		d.next(reader.Removed)
	}
	asked := 0
	for _, c := range dev.Commands() {
		if c.Type == ccid.GetSlotStatus {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestReset: nothing is selected after a reset, at each level.
func TestReset(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			dev := usbtest.New(k.cfg)
			newHands(t, dev, 0, cardFile(k.protocol, k.ta1)).insert(t)
			d := newDesk(t, dev)
			d.next(reader.ReaderAdded)
			c := d.next(reader.Inserted).Card
			if p, ok := reader.Protocol(c); !ok || p != k.protocol {
				t.Errorf("protocol %d, %v, want %d", p, ok, k.protocol)
			}
			for _, step := range []struct {
				cmd  apdu.Command
				want uint16
			}{{apdu.Select(apdu.SimpleAID), apdu.OK}, {apdu.GetData(apdu.SimpleID), apdu.OK}, {}, {apdu.GetData(apdu.SimpleID), apdu.ConditionsNotMet}} {
				if step.want == 0 {
					if err := c.(*driver.Card).Reset(t.Context()); err != nil {
						t.Fatal(err)
					}
					continue
				}
				b, err := c.Transmit(t.Context(), step.cmd.Append(nil))
				if err != nil {
					t.Fatal(err)
				}
				if r, err := apdu.ParseResponse(b); err != nil || r.Status != step.want {
					t.Errorf("%02x: %x, want %04x", step.cmd.INS, b, step.want)
				}
			}
		})
	}
}

// TestClosed: a card has no power once its Source is closed.
func TestClosed(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Features: automatic})
	dev.Insert(0, &echo{atr: usbtest.ATR(0, 0, "")})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	d.next(reader.Inserted)
	if !dev.Powered(0) {
		t.Error("no power")
	}
	d.s.Close()
	if dev.Powered(0) {
		t.Error("power after Close")
	}
}

// slow is a card that takes its time.
type slow struct {
	echo
	takes time.Duration
}

func (s *slow) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	time.Sleep(s.takes)
	return s.echo.Transmit(ctx, command)
}

// TestLongExtension: a reader that asks for many times the waiting time at once
// gets them, and is silent meanwhile.
func TestLongExtension(t *testing.T) {
	for multiplier, ok := range map[byte]bool{1: false, 10: true} {
		synctest.Test(t, func(t *testing.T) {
			dev := usbtest.New(usbtest.Config{Level: ccid.ShortAPDU, Features: automatic, Extensions: 1, Multiplier: multiplier})
			dev.Insert(0, &slow{echo{atr: usbtest.ATR(1, 0, "")}, 40 * time.Second})
			d := newDesk(t, dev)
			d.next(reader.ReaderAdded)
			c := d.next(reader.Inserted).Card
			b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0})
			if ok && (err != nil || len(b) != 6) || !ok && err == nil {
				t.Errorf("%d times: %x, %v", multiplier, b, err)
			}
			time.Sleep(time.Minute) // what the card is at ends
			d.s.Close()
		})
	}
}

// TestMute: cards that do not answer, or in a way that nobody understands.
func TestMute(t *testing.T) {
	for name, atr := range map[string][]byte{"no ATR": nil, "a bad ATR": {0x3b, 0x85, 1}, "T=14": {0x3b, 0x80, 0x0e, 0x8e}} {
		t.Run(name, func(t *testing.T) {
			dev := usbtest.New(usbtest.Config{})
			dev.Insert(0, &echo{atr: atr})
			d := newDesk(t, dev)
			d.next(reader.ReaderAdded)
			c := d.next(reader.Inserted).Card
			if !bytes.Equal(c.ATR(), atr) {
				t.Errorf("ATR %x", c.ATR())
			}
			if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); !errors.Is(err, reader.ErrMute) {
				t.Errorf("%x, %v", b, err)
			}
			dev.Remove(0)
			d.next(reader.Removed)
		})
	}
}

// TestSpoiledBlocks: over T=1 a block that got lost between reader and card, or
// was bent there, is asked for again; a card that cannot be heard at all is given
// up, and needs to be put in again.
func TestSpoiledBlocks(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Features: automatic})
	dev.Insert(0, &echo{atr: usbtest.ATR(1, 0, "")})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	c := d.next(reader.Inserted).Card
	cmd := apdu.Command{INS: 0x10, Data: bytes.Repeat([]byte{7}, 700)}.Append(nil) // in several blocks, there and back
	for _, codes := range [][]byte{
		{ccid.XfrParity}, {ccid.IccMute}, {ccid.XfrOverrun}, {ccid.XfrParity, ccid.IccMute},
		{ccid.XfrParity, ccid.XfrParity, ccid.XfrParity}, // once more from the beginning
	} {
		dev.Spoil(codes...)
		if b, err := c.Transmit(t.Context(), cmd); err != nil || !bytes.Equal(b, append(bytes.Clone(cmd), 0x90, 0)) {
			t.Errorf("%x: %d bytes, %v", codes, len(b), err)
		}
	}
	dev.Spoil(bytes.Repeat([]byte{ccid.XfrParity}, 100)...)
	for range 2 {
		if b, err := c.Transmit(t.Context(), cmd); !errors.Is(err, reader.ErrMute) {
			t.Errorf("%x, %v", b, err)
		}
	}
	dev.Spoil()
	dev.Remove(0)
	d.next(reader.Removed)
	dev.Insert(0, &echo{atr: usbtest.ATR(1, 0, "")})
	if b, err := d.next(reader.Inserted).Card.Transmit(t.Context(), cmd); err != nil || len(b) != len(cmd)+2 {
		t.Errorf("%x, %v", b, err)
	}
}

// TestStall: a halted pipe is cleared and the command sent again.
func TestStall(t *testing.T) {
	dev := usbtest.New(usbtest.Config{Level: ccid.ShortAPDU, Features: automatic})
	dev.Insert(0, &echo{atr: usbtest.ATR(1, 0, "")})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	c := d.next(reader.Inserted).Card
	dev.Stall(1)
	if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err != nil || len(b) != 6 {
		t.Errorf("%x, %v", b, err)
	}
	// Twice in a row: the reader is given up, reset and taken again.
	dev.Stall(2)
	if b, err := c.Transmit(t.Context(), []byte{0, 0x10, 0, 0}); err == nil {
		t.Errorf("%x", b)
	}
	d.next(reader.Removed)
	d.next(reader.ReaderRemoved)
	d.next(reader.ReaderAdded)
	d.next(reader.Inserted)
}

// TestHowLong tells how long it takes from the card's being pushed in until
// the program has its ATR, in memory: through the driver, and for cards as files.
func TestHowLong(t *testing.T) {
	const rounds = 50
	figure := func(what string, list []time.Duration) {
		slices.Sort(list)
		t.Logf("figure: %s: card in, Inserted with ATR: median %v, p90 %v, worst %v", what, list[rounds/2], list[rounds*9/10], list[rounds-1])
	}
	dev := usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU, Features: automatic})
	d := newDesk(t, dev)
	d.next(reader.ReaderAdded)
	var list []time.Duration
	for range rounds {
		began := time.Now()
		dev.Insert(0, &echo{atr: usbtest.ATR(1, 0, "")})
		if e := d.next(reader.Inserted); len(e.Card.ATR()) == 0 {
			t.Error("no ATR")
		}
		list = append(list, time.Since(began))
		dev.Remove(0)
		d.next(reader.Removed)
	}
	figure("driver", list)
	r := emulated.New(fstest.MapFS{"a.card": {Data: []byte(cardFile(1, 0))}})
	defer r.Close()
	<-r.Events()
	list = nil
	for range rounds {
		began := time.Now()
		if _, err := r.Insert("a"); err != nil {
			t.Fatal(err)
		}
		if e := <-r.Events(); len(e.Card.ATR()) == 0 {
			t.Error("no ATR")
		}
		list = append(list, time.Since(began))
		if _, err := r.Remove(); err != nil {
			t.Fatal(err)
		}
		<-r.Events()
	}
	figure("emulated", list)
}
