package driver_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader/driver"
	"hotdesk/smartcard/reader/usbtest"
)

// hostile is a reader that answers with its own number and slot, and otherwise
// what comes to its mind.
type hostile struct {
	mu  sync.Mutex
	rnd *rand.Rand
	i   ccid.Interface

	seq, command byte // of the last command
	answers      int
}

func (h *hostile) pick(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rnd.IntN(n)
}

func (h *hostile) Scan() ([]driver.Found, error) {
	return []driver.Found{{Key: "1", Name: "hostile"}}, nil
}
func (h *hostile) Changes() <-chan struct{} { return nil }
func (h *hostile) ClearHalt() error         { return nil }
func (h *hostile) Reset() error             { return nil }
func (h *hostile) Close() error             { return nil }
func (h *hostile) Open(context.Context, driver.Found) (driver.Pipes, ccid.Interface, error) {
	return h, h.i, nil
}

func (h *hostile) Out(_ context.Context, b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq, h.command = b[6], b[0]
	return nil
}

func (h *hostile) Control(context.Context, byte, uint16) error { return nil }

func (h *hostile) Notify(ctx context.Context, b []byte) (int, error) {
	select {
	case <-time.After(time.Duration(h.pick(1000)) * time.Millisecond):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	b[0], b[1] = ccid.NotifySlotChange, byte(h.pick(4))
	return h.pick(len(b) + 1), nil
}

func (h *hostile) In(ctx context.Context, b []byte) (int, error) {
	if h.pick(20) == 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	data := make([]byte, h.pick(40))
	for i := range data {
		data[i] = byte(h.pick(256))
	}
	if len(data) > 2 && h.pick(2) == 0 {
		data = usbtest.ATR(h.pick(2), 0, "")
	}
	h.mu.Lock()
	a := ccid.Answer{Seq: h.seq, Type: ccid.SlotStatus}
	command := h.command
	h.answers++
	h.mu.Unlock()
	switch command {
	case ccid.IccPowerOn, ccid.XfrBlock:
		a.Type, a.Param, a.Data = ccid.DataBlock, byte(h.pick(4)*h.pick(2)), data
	case ccid.GetParameters, ccid.SetParameters:
		a.Type, a.Param = ccid.Parameters, byte(h.pick(2))
	}
	m := a.Append(nil)
	if h.pick(30) == 0 {
		m[h.pick(len(m))] = byte(h.pick(256))
	}
	return copy(b, m), nil
}

// TestHostile: whatever a reader says, the source goes on and closes.
func TestHostile(t *testing.T) {
	answers := 0
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			h := &hostile{rnd: rand.New(rand.NewPCG(seed, 2))}
			dev := usbtest.New(usbtest.Config{Features: automatic})
			if seed%2 == 0 {
				dev = usbtest.New(usbtest.Config{Level: ccid.ExtendedAPDU})
			}
			_, configuration := dev.Descriptors()
			list, err := ccid.Interfaces(configuration)
			if err != nil {
				t.Fatal(err)
			}
			h.i = list[0]
			s := driver.Open(t.Context(), h, nil)
			end := time.After(2 * time.Minute)
			for on := true; on; {
				select {
				case e := <-s.Events():
					if e.Card != nil && h.pick(2) == 0 {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						if b, err := e.Card.Transmit(ctx, []byte{0, 0xca, 1, 1, 0}); err == nil && len(b) < 2 {
							t.Errorf("seed %d: an answer of %d bytes", seed, len(b))
						}
						cancel()
					}
				case <-end:
					on = false
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			answers += h.answers
		})
	}
	if answers < 5000 {
		t.Errorf("only %d answers were taken", answers)
	}
}
