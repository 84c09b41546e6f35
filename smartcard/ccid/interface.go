package ccid

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of standard descriptors (USB 2.0 table 9-5).
const (
	configurationType = 2
	interfaceType     = 4
	endpointType      = 5
)

// MaxDescriptors bounds a device's descriptors, in bytes.
const MaxDescriptors = 1 << 16

// An Endpoint is one of a reader's pipes; address 0: there is none.
type Endpoint struct {
	Address byte // with bit 7: to the computer
	Packet  int  // wMaxPacketSize in bytes
}

// An Interface is what a device's descriptors say of one reader.
type Interface struct {
	Configuration byte // its value
	Number        byte
	In, Out       Endpoint // bulk
	Notify        Endpoint // interrupt; a reader need not have it
	Class         Descriptor
}

// Interfaces finds the readers among a device's descriptors, as they follow
// each other in a configuration or in Linux's file "descriptors". Interfaces
// of other classes and other alternate settings than the first are passed
// over; of a reader whose descriptors cannot be meant the error tells, and the
// others are found all the same.
func Interfaces(b []byte) ([]Interface, error) {
	if len(b) > MaxDescriptors {
		return nil, fmt.Errorf("%w: %d bytes of descriptors", ErrMessage, len(b))
	}
	var found []Interface
	var errs []error
	var at *Interface // the reader that the descriptors are of
	var class bool
	var configuration byte
	end := func() {
		switch {
		case at == nil:
			return
		case !class:
			errs = append(errs, fmt.Errorf("%w: interface %d has no class descriptor", ErrMessage, at.Number))
		case at.In.Packet == 0 || at.Out.Packet == 0:
			errs = append(errs, fmt.Errorf("%w: interface %d lacks a bulk endpoint", ErrMessage, at.Number))
		default:
			found = append(found, *at)
		}
		at = nil
	}
	for len(b) > 0 {
		n := int(b[0])
		if n < 2 || n > len(b) {
			end()
			return found, errors.Join(append(errs, fmt.Errorf("%w: descriptor of %d bytes, %d are left", ErrMessage, n, len(b)))...)
		}
		d := b[:n]
		b = b[n:]
		switch {
		case d[1] == configurationType && n >= 9:
			end()
			configuration = d[5]
		case d[1] == interfaceType && n >= 9:
			end()
			if d[5] == InterfaceClass && d[3] == 0 {
				at, class = &Interface{Configuration: configuration, Number: d[2]}, false
			}
		case at == nil:
		case d[1] == DescriptorType:
			var err error
			if at.Class, err = ParseDescriptor(d); err != nil {
				errs = append(errs, err)
				at = nil
			}
			class = true
		case d[1] == endpointType && n >= 7:
			e := Endpoint{d[2], int(binary.LittleEndian.Uint16(d[4:]) & 0x7ff)}
			switch {
			case d[3]&3 == 2 && e.Address&0x80 != 0:
				at.In = e
			case d[3]&3 == 2:
				at.Out = e
			case d[3]&3 == 3 && e.Address&0x80 != 0 && e.Packet > 0:
				at.Notify = e
			}
		}
	}
	end()
	return found, errors.Join(errs...)
}
