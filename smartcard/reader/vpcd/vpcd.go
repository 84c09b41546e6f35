// Package vpcd is a card in the virtual reader of the vsmartcard project, which
// pcscd takes for a real one.
//
// Source: vsmartcard, virtualsmartcard/src/vpcd/vpcd.h (version 0.8 or later):
// each message is two bytes of length, high byte first, and a body; a body of
// one byte is power off 0, power on 1, reset 2, "what is your ATR" 4; a longer
// one is a command APDU. Only 4 and APDUs are answered. To connect is to put
// the card in, to close is to pull it.
//
// Serve runs on one goroutine. Limit: 65535 bytes a message, by its length.
package vpcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"hotdesk/smartcard/reader"
)

// Port is where pcscd's driver waits for the card of its first slot.
const Port = 0x8C7B

const (
	reset  = 2 // and below it power off and on
	getATR = 4
)

// A Card is what is put in; *emulated.Card is one.
type Card interface {
	ATR() []byte
	Transmit(ctx context.Context, command []byte) ([]byte, error)
	Reset()
}

// Serve answers the driver until the connection or the card is gone.
func Serve(ctx context.Context, conn net.Conn, c Card) error {
	for {
		body, err := receive(conn)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			return nil
		case err != nil:
			return fmt.Errorf("vpcd: %w", err)
		}
		var answer []byte
		switch {
		case len(body) == 0:
			return errors.New("vpcd: empty message")
		case len(body) > 1:
			if answer, err = c.Transmit(ctx, body); err != nil {
				if errors.Is(err, reader.ErrRemoved) {
					return nil
				}
				return fmt.Errorf("vpcd: %w", err)
			}
		case body[0] == getATR:
			answer = c.ATR()
		case body[0] <= reset:
			c.Reset()
			continue
		default:
			return fmt.Errorf("vpcd: control %02x", body[0])
		}
		if len(answer) > 0xffff {
			return fmt.Errorf("vpcd: answer of %d bytes", len(answer))
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return fmt.Errorf("vpcd: %w", err)
		}
	}
}

func receive(conn net.Conn) ([]byte, error) {
	quickAck(conn)
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	quickAck(conn)
	body := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(conn, body)
	return body, err
}

// quickAck has the kernel acknowledge at once, this time. The driver writes
// length and body on their own, and holds the second back until the first is
// acknowledged: 40 ms without this.
func quickAck(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// A kernel that refuses is slow, and right all the same.
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
		})
	}
}
