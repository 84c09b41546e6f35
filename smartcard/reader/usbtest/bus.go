package usbtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader/driver"
)

// Bus is a USB in memory.
type Bus struct {
	mu      sync.Mutex
	plugged []*plug
	count   int
	changes chan struct{}
}

// plug is one plugging in of a device.
type plug struct {
	key  string
	port int
	d    *Device
	gone chan struct{}
}

// NewBus makes a bus with nothing on it.
func NewBus() *Bus { return &Bus{changes: make(chan struct{}, 1)} }

// Plug plugs a device in.
func (b *Bus) Plug(port int, d *Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	b.plugged = append(b.plugged, &plug{fmt.Sprintf("%d#%d", port, b.count), port, d, make(chan struct{})})
	b.signal()
}

// Unplug pulls it out.
func (b *Bus) Unplug(d *Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plugged = slices.DeleteFunc(b.plugged, func(p *plug) bool {
		if p.d == d {
			close(p.gone)
		}
		return p.d == d
	})
	b.signal()
}

func (b *Bus) signal() {
	select {
	case b.changes <- struct{}{}:
	default:
	}
}

// Scan implements driver.Bus.
func (b *Bus) Scan() ([]driver.Found, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []driver.Found
	for _, p := range b.plugged {
		found = append(found, driver.Found{Key: p.key, Name: fmt.Sprintf("%s %d", p.d.cfg.Product, p.port)})
	}
	return found, nil
}

// Changes implements driver.Bus.
func (b *Bus) Changes() <-chan struct{} { return b.changes }

// Close implements driver.Bus.
func (b *Bus) Close() error { return nil }

// Open implements driver.Bus.
func (b *Bus) Open(_ context.Context, f driver.Found) (driver.Pipes, ccid.Interface, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.plugged, func(p *plug) bool { return p.key == f.Key })
	if i < 0 {
		return nil, ccid.Interface{}, driver.ErrGone
	}
	p := b.plugged[i]
	_, configuration := p.d.Descriptors()
	list, err := ccid.Interfaces(configuration)
	if err != nil {
		return nil, ccid.Interface{}, err
	}
	p.d.Configure()
	return &pipes{p}, list[0], nil
}

// pipes are those of a plug.
type pipes struct{ *plug }

// until ends with ctx or when the device is pulled.
func (p *pipes) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-p.gone:
			cancel(driver.ErrGone)
		case <-ctx.Done():
		case <-stop:
		}
	}()
	return ctx, func() { close(stop); cancel(nil) }
}

func (p *pipes) transfer(ctx context.Context, run func(context.Context) ([]byte, error), b []byte) (int, error) {
	inner, cancel := p.until(ctx)
	defer cancel()
	got, err := run(inner)
	switch {
	case errors.Is(context.Cause(inner), driver.ErrGone):
		return 0, driver.ErrGone
	case errors.Is(err, ErrStall):
		return 0, driver.ErrStall
	case err != nil:
		return 0, err
	}
	return copy(b, got), nil
}

// Out implements driver.Pipes.
func (p *pipes) Out(ctx context.Context, b []byte) error {
	_, err := p.transfer(ctx, func(context.Context) ([]byte, error) { return nil, p.d.Send(b) }, nil)
	return err
}

// In implements driver.Pipes.
func (p *pipes) In(ctx context.Context, b []byte) (int, error) {
	return p.transfer(ctx, func(ctx context.Context) ([]byte, error) { return p.d.Receive(ctx, len(b)) }, b)
}

// Notify implements driver.Pipes.
func (p *pipes) Notify(ctx context.Context, b []byte) (int, error) {
	return p.transfer(ctx, p.d.Interrupt, b)
}

// Control implements driver.Pipes.
func (p *pipes) Control(ctx context.Context, request byte, value uint16) error {
	_, err := p.transfer(ctx, func(context.Context) ([]byte, error) {
		if request != ccid.RequestAbort {
			return nil, ErrStall
		}
		return nil, p.d.ControlAbort(byte(value), byte(value>>8))
	}, nil)
	return err
}

// ClearHalt implements driver.Pipes.
func (p *pipes) ClearHalt() error { return nil }

// Reset implements driver.Pipes.
func (p *pipes) Reset() error {
	p.d.Configure()
	return nil
}

// Close implements driver.Pipes.
func (p *pipes) Close() error { return nil }
