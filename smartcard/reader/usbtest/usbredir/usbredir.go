// Package usbredir plugs an emulated card reader into a virtual machine, as a
// program does that passes a real USB device on: qemu's device usb-redir.
//
// Source: usbredir, docs/usb-redirection-protocol.md, version 0.7: a packet is
// a header of type and length, 32 bits each, and id, 64 bits (of hello: 32),
// little-endian, a header of its type, and data; sections on hello, ep_info, device_connect, control_packet,
// bulk_packet, interrupt_packet. Of its capabilities those of the connected
// device's version, the packet sizes, ids of 64 bits and bulk lengths of 32 are used.
//
// Invariants: every packet of the guest is answered once, a cancelled one too.
//
// Serve runs until the connection ends; it has a goroutine for each pipe. Limit:
// MaxPacket.
package usbredir

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader/usbtest"
)

// MaxPacket bounds a packet without its header, in bytes.
const MaxPacket = 1 << 17

// Types of packets.
const (
	hello             = 0
	deviceConnect     = 1
	deviceDisconnect  = 2
	reset             = 3
	interfaceInfo     = 4
	epInfo            = 5
	setConfiguration  = 6
	getConfiguration  = 7
	configurationIs   = 8
	setAlternate      = 9
	getAlternate      = 10
	alternateIs       = 11
	startInterrupt    = 15
	stopInterrupt     = 16
	interruptIs       = 17
	cancelData        = 21
	filterReject      = 22
	filterFilter      = 23
	disconnectAck     = 24
	controlPacket     = 100
	bulkPacket        = 101
	interruptPacket   = 103
	capConnectVersion = 1
	capPacketSizes    = 4
	cap64BitIDs       = 5
	cap32BitLength    = 6
)

// Status of an answer.
const (
	success   = 0
	cancelled = 1
	stall     = 4
)

// A Port is a place where the guest's computer takes a device.
type Port struct {
	conn net.Conn
	w    sync.Mutex // held to write

	mu       sync.Mutex
	d        *usbtest.Device // that is plugged in
	ctx      context.Context // of that
	cancel   context.CancelFunc
	bulk     chan request
	pending  map[uint64]context.CancelFunc // bulk transfers to the guest
	notices  uint64
	watching bool
	done     chan struct{}
	err      error
}

type request struct {
	id     uint64
	length int
	ctx    context.Context
}

// New begins the protocol on a connection to qemu's character device.
func New(conn net.Conn) (*Port, error) {
	p := &Port{conn: conn, pending: map[uint64]context.CancelFunc{}, done: make(chan struct{})}
	body := make([]byte, 64, 68)
	copy(body, "hotdesk test reader")
	body = binary.LittleEndian.AppendUint32(body, 1<<capConnectVersion|1<<capPacketSizes|1<<cap64BitIDs|1<<cap32BitLength)
	if err := p.send(hello, 0, body); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.err = p.serve()
		p.drop()
	}()
	return p, nil
}

// Close ends the connection.
func (p *Port) Close() error {
	err := p.conn.Close()
	<-p.done
	if err != nil {
		return fmt.Errorf("usbredir: %w", err)
	}
	return nil
}

// Err is why the connection ended by itself, once it has.
func (p *Port) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

func (p *Port) send(kind uint32, id uint64, body []byte) error {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	if kind == hello {
		b = binary.LittleEndian.AppendUint32(b, 0)
	} else {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	p.w.Lock()
	defer p.w.Unlock()
	if _, err := p.conn.Write(append(b, body...)); err != nil {
		return fmt.Errorf("usbredir: %w", err)
	}
	return nil
}

// Plug plugs a device in; one that is in must be pulled first.
func (p *Port) Plug(d *usbtest.Device) error {
	p.mu.Lock()
	if p.d != nil {
		p.mu.Unlock()
		return errors.New("usbredir: a device is plugged in already")
	}
	p.d = d
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.bulk, p.watching = make(chan request, 64), false
	go p.answerBulk(p.ctx, d, p.bulk)
	p.mu.Unlock()
	d.Configure()
	device, _ := d.Descriptors()
	endpoints := d.Endpoints()

	info := make([]byte, 4+4*32)
	info[0] = 1
	info[4+32] = ccid.InterfaceClass
	ep := make([]byte, 3*32+2*32)
	for i := range 32 {
		ep[i] = 255 // there is none
	}
	set := func(address, kind, interval byte, size int) {
		i := int(address&0x80>>3 | address&15)
		ep[i], ep[32+i] = kind, interval
		binary.LittleEndian.PutUint16(ep[96+2*i:], uint16(size))
	}
	set(0, 0, 0, 64)
	set(0x80, 0, 0, 64)
	for _, e := range endpoints {
		set(e.Address, e.Kind, e.Interval, e.Packet)
	}
	const fullSpeed = 1
	connect := []byte{fullSpeed, 0, 0, 0, device[8], device[9], device[10], device[11], device[12], device[13]}
	return errors.Join(p.send(interfaceInfo, 0, info), p.send(epInfo, 0, ep), p.send(deviceConnect, 0, connect))
}

// Unplug pulls the device out.
func (p *Port) Unplug() error {
	p.drop()
	return p.send(deviceDisconnect, 0, nil)
}

// drop ends what goes on with the device.
func (p *Port) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.d != nil {
		p.cancel()
		p.d = nil
	}
}

func (p *Port) serve() error {
	r := bufio.NewReader(p.conn)
	for head := make([]byte, 12); ; head = make([]byte, 16) { // the first is hello
		if _, err := io.ReadFull(r, head); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("usbredir: %w", err)
		}
		kind, length := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
		id := uint64(0)
		if len(head) == 16 {
			id = binary.LittleEndian.Uint64(head[8:])
		}
		if length > MaxPacket {
			return fmt.Errorf("usbredir: packet of %d bytes", length)
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("usbredir: %w", err)
		}
		if err := p.take(kind, id, body); err != nil {
			return err
		}
	}
}

// least is how long a packet of a type is at least.
var least = map[uint32]int{hello: 64, setConfiguration: 1, setAlternate: 2, getAlternate: 1, startInterrupt: 1, stopInterrupt: 1, controlPacket: 10, bulkPacket: 10, interruptPacket: 4}

func (p *Port) take(kind uint32, id uint64, body []byte) error {
	if len(body) < least[kind] {
		return fmt.Errorf("usbredir: packet of type %d with %d bytes", kind, len(body))
	}
	p.mu.Lock()
	d, ctx := p.d, p.ctx
	p.mu.Unlock()
	if kind == hello {
		if len(body) < 68 || binary.LittleEndian.Uint32(body[64:])&(1<<cap64BitIDs) == 0 {
			return errors.New("usbredir: the other side is too old: it does not know ids of 64 bits")
		}
		return nil
	}
	if d == nil {
		return nil // for a device that was pulled meanwhile
	}
	switch kind {
	case reset:
		d.Configure()
	case setConfiguration:
		return p.send(configurationIs, id, []byte{success, body[0]})
	case getConfiguration:
		return p.send(configurationIs, id, []byte{success, 1})
	case setAlternate:
		return p.send(alternateIs, id, []byte{success, body[0], body[1]})
	case getAlternate:
		return p.send(alternateIs, id, []byte{success, body[0], 0})
	case startInterrupt:
		err := p.send(interruptIs, id, []byte{success, body[0]})
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.watching {
			p.watching = true
			go p.notify(ctx, d, body[0])
		}
		return err
	case stopInterrupt:
		return p.send(interruptIs, id, []byte{success, body[0]})
	case cancelData:
		p.mu.Lock()
		defer p.mu.Unlock()
		if cancel := p.pending[id]; cancel != nil {
			cancel()
		}
	case controlPacket:
		return p.control(d, id, body)
	case bulkPacket:
		return p.transfer(ctx, d, id, body)
	case filterReject:
		return errors.New("usbredir: qemu refuses the device")
	case filterFilter, disconnectAck, interruptPacket:
	default:
		return fmt.Errorf("usbredir: packet of type %d", kind)
	}
	return nil
}

// notify passes the interrupt pipe's messages on.
func (p *Port) notify(ctx context.Context, d *usbtest.Device, endpoint byte) {
	for {
		b, err := d.Interrupt(ctx)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.notices++
		id := p.notices
		p.mu.Unlock()
		if p.send(interruptPacket, id, append([]byte{endpoint, success, byte(len(b)), byte(len(b) >> 8)}, b...)) != nil {
			return
		}
	}
}

func (p *Port) control(d *usbtest.Device, id uint64, body []byte) error {
	// endpoint, request, type, status, value, index, length; then the data
	setup := [8]byte{body[2], body[1], body[4], body[5], body[6], body[7], body[8], body[9]}
	answer, err := d.Control(setup)
	body = body[:10:10]
	body[3] = success // qemu leaves there what was
	if err != nil {
		body[3] = stall
	}
	if setup[0]&0x80 != 0 {
		binary.LittleEndian.PutUint16(body[8:], uint16(len(answer)))
		body = append(body, answer...)
	}
	return p.send(controlPacket, id, body)
}

// transfer takes one to the reader, or has answerBulk answer one from it.
func (p *Port) transfer(ctx context.Context, d *usbtest.Device, id uint64, body []byte) error {
	length := int(binary.LittleEndian.Uint16(body[2:])) | int(binary.LittleEndian.Uint16(body[8:]))<<16
	if body[0]&0x80 == 0 {
		status := byte(success)
		if len(body) != 10+length || d.Send(body[10:]) != nil {
			status = stall
		}
		return p.send(bulkPacket, id, bulkHeader(body[0], status, length))
	}
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[id] = cancel
	select {
	case p.bulk <- request{id, min(length, MaxPacket), ctx}:
		return nil
	default:
		cancel()
		return errors.New("usbredir: too many transfers at once")
	}
}

func bulkHeader(endpoint, status byte, length int) []byte {
	return []byte{endpoint, status, byte(length), byte(length >> 8), 0, 0, 0, 0, byte(length >> 16), byte(length >> 24)}
}

// answerBulk answers the transfers from the reader, in their order.
func (p *Port) answerBulk(ctx context.Context, d *usbtest.Device, requests <-chan request) {
	for {
		var r request
		select {
		case r = <-requests:
		case <-ctx.Done():
			return
		}
		b, err := d.Receive(r.ctx, r.length)
		p.mu.Lock()
		if cancel := p.pending[r.id]; cancel != nil {
			cancel()
		}
		delete(p.pending, r.id)
		p.mu.Unlock()
		status := byte(success)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			status = cancelled
		}
		if p.send(bulkPacket, r.id, append(bulkHeader(usbtest.In, status, len(b)), b...)) != nil {
			return
		}
	}
}
