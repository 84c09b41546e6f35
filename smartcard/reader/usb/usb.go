//go:build usb

package usb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/gousb"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/driver"
)

// maxConfigurations bounds the configurations of a device.
const maxConfigurations = 8

// Open watches the machine's USB card readers until ctx ends or the Source is
// closed. log may be nil.
func Open(ctx context.Context, log *slog.Logger) (reader.Source, error) {
	w, err := watch()
	if err != nil {
		return nil, err
	}
	return driver.Open(ctx, &bus{w}, log), nil
}

// watcher tells of changes.
type watcher interface {
	Changes() <-chan struct{}
	Close() error
}

type bus struct{ watcher }

// place names where a device is plugged in, and which plugging in it is.
func place(d *gousb.DeviceDesc) (name, number string) {
	ports := make([]string, len(d.Path))
	for i, p := range d.Path {
		ports[i] = fmt.Sprint(p)
	}
	return fmt.Sprintf("%d-%s", d.Bus, strings.Join(ports, ".")), fmt.Sprint(d.Address)
}

// key is a reader's; configuration and interface stand in it.
func key(d *gousb.DeviceDesc, configuration, number int) string {
	name, address := place(d)
	return fmt.Sprintf("%s:%d.%d#%s", name, configuration, number, address)
}

// Scan implements driver.Bus.
func (b *bus) Scan() ([]driver.Found, error) {
	ctx := gousb.NewContext()
	var found []driver.Found
	_, err := ctx.OpenDevices(func(d *gousb.DeviceDesc) bool {
		for _, c := range d.Configs {
			for _, i := range c.Interfaces {
				if len(i.AltSettings) > 0 && i.AltSettings[0].Class == ccid.InterfaceClass {
					k := key(d, c.Number, i.Number)
					name, _, _ := strings.Cut(k, "#")
					found = append(found, driver.Found{Key: k, Name: fmt.Sprintf("card reader %s:%s %s", d.Vendor, d.Product, name)})
				}
			}
		}
		return false
	})
	if err = errors.Join(err, ctx.Close()); err != nil && len(found) == 0 {
		return nil, fmt.Errorf("usb: %w", err)
	}
	return found, nil
}

// Open claims a reader.
func (b *bus) Open(_ context.Context, f driver.Found) (driver.Pipes, ccid.Interface, error) {
	p := &pipes{ctx: gousb.NewContext()}
	i, err := p.open(f)
	if err != nil {
		return nil, ccid.Interface{}, errors.Join(fmt.Errorf("usb: %w", err), p.Close())
	}
	return p, i, nil
}

// pipes are those of a claimed interface, in a libusb context of their own.
type pipes struct {
	ctx        *gousb.Context
	device     *gousb.Device
	config     *gousb.Config
	claimed    *gousb.Interface
	in, notify *gousb.InEndpoint
	out        *gousb.OutEndpoint
	i          ccid.Interface
}

func (p *pipes) open(f driver.Found) (ccid.Interface, error) {
	_, number, _ := strings.Cut(f.Key, "#")
	at, _, _ := strings.Cut(f.Key, ":")
	list, err := p.ctx.OpenDevices(func(d *gousb.DeviceDesc) bool {
		name, address := place(d)
		return name == at && address == number
	})
	if len(list) == 0 {
		return ccid.Interface{}, errors.Join(driver.ErrGone, err)
	}
	p.device = list[0]
	raw, err := descriptors(p.device)
	if err != nil {
		return ccid.Interface{}, err
	}
	found, err := ccid.Interfaces(raw)
	n := slices.IndexFunc(found, func(i ccid.Interface) bool {
		return key(p.device.Desc, int(i.Configuration), int(i.Number)) == f.Key
	})
	if n < 0 {
		return ccid.Interface{}, errors.Join(errors.New("the interface is not one of a card reader"), err)
	}
	p.i = found[n]
	if p.config, err = p.device.Config(int(p.i.Configuration)); err != nil {
		return ccid.Interface{}, err
	}
	if p.claimed, err = p.config.Interface(int(p.i.Number), 0); err != nil {
		return ccid.Interface{}, err
	}
	var err1, err2, err3 error
	p.in, err1 = p.claimed.InEndpoint(int(p.i.In.Address & 15))
	p.out, err2 = p.claimed.OutEndpoint(int(p.i.Out.Address & 15))
	if p.i.Notify.Address != 0 {
		p.notify, err3 = p.claimed.InEndpoint(int(p.i.Notify.Address & 15))
	}
	return p.i, errors.Join(err1, err2, err3)
}

// descriptors asks for those of all configurations.
func descriptors(d *gousb.Device) ([]byte, error) {
	const in, getDescriptor, configuration = 0x80, 6, 2
	var all []byte
	for n := range min(len(d.Desc.Configs), maxConfigurations) {
		head := make([]byte, 9)
		if m, err := d.Control(in, getDescriptor, configuration<<8|uint16(n), 0, head); err != nil || m < len(head) {
			return nil, fmt.Errorf("descriptor of %d bytes: %w", m, explain(err))
		}
		b := make([]byte, binary.LittleEndian.Uint16(head[2:]))
		m, err := d.Control(in, getDescriptor, configuration<<8|uint16(n), 0, b)
		if err != nil {
			return nil, explain(err)
		}
		all = append(all, b[:m]...)
	}
	return all[:min(len(all), ccid.MaxDescriptors)], nil
}

// during is explain for a transfer, which its context may have ended.
func during(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return explain(err)
}

// explain maps libusb's errors to those of driver.Pipes.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gousb.TransferStall), errors.Is(err, gousb.ErrorPipe):
		return driver.ErrStall
	case errors.Is(err, gousb.TransferNoDevice), errors.Is(err, gousb.ErrorNoDevice),
		errors.Is(err, gousb.TransferError), errors.Is(err, gousb.TransferCancelled):
		// The second line is what transfers get between the pull and its discovery.
		return fmt.Errorf("%w (%w)", driver.ErrGone, err)
	}
	return fmt.Errorf("usb: %w", err)
}

// Out implements driver.Pipes.
func (p *pipes) Out(ctx context.Context, b []byte) error {
	n, err := p.out.WriteContext(ctx, b)
	if err == nil && n != len(b) {
		return fmt.Errorf("usb: %d of %d bytes sent", n, len(b))
	}
	return during(ctx, err)
}

// In implements driver.Pipes.
func (p *pipes) In(ctx context.Context, b []byte) (int, error) {
	n, err := p.in.ReadContext(ctx, b)
	return n, during(ctx, err)
}

// Notify implements driver.Pipes.
func (p *pipes) Notify(ctx context.Context, b []byte) (int, error) {
	n, err := p.notify.ReadContext(ctx, b)
	return n, during(ctx, err)
}

// Control implements driver.Pipes.
func (p *pipes) Control(ctx context.Context, request byte, value uint16) error {
	const toInterface = 0x21 // class request, out
	_, err := p.device.Control(toInterface, request, value, uint16(p.i.Number), nil)
	return during(ctx, err)
}

// ClearHalt implements driver.Pipes.
func (p *pipes) ClearHalt() error {
	const toEndpoint, clearFeature, halt = 0x02, 1, 0
	for _, e := range []byte{p.i.In.Address, p.i.Out.Address} {
		if _, err := p.device.Control(toEndpoint, clearFeature, halt, uint16(e), nil); err != nil {
			return explain(err)
		}
	}
	return nil
}

// Reset implements driver.Pipes.
func (p *pipes) Reset() error {
	return errors.Join(p.release(), explain(p.device.Reset()))
}

func (p *pipes) release() error {
	if p.claimed != nil {
		p.claimed.Close()
		p.claimed = nil
	}
	if p.config == nil {
		return nil
	}
	err := p.config.Close()
	p.config = nil
	return err
}

// Close lets the interface go.
func (p *pipes) Close() error {
	err := p.release()
	if p.device != nil {
		err = errors.Join(err, p.device.Close())
	}
	return errors.Join(err, p.ctx.Close())
}
