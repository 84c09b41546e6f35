// Package vpcd speaks the protocol of the vsmartcard project's virtual reader,
// from both ends: Serve puts a card into one, which pcscd takes for a real
// reader, and a Slot is one, whose cards are programs that connect to it.
//
// Source: vsmartcard, virtualsmartcard/src/vpcd/vpcd.h (version 0.8 or later):
// each message is two bytes of length, high byte first, and a body; a body of
// one byte from the reader is power off 0, power on 1, reset 2, "what is your
// ATR" 4; a longer one is a command APDU. Only 4 and APDUs are answered, each
// with one message. To connect is to put the card in, to close is to pull it.
// An empty ATR is that of a mute card.
//
// Invariants of a Slot are those of package reader. A program that answers
// unasked, late or with too long an ATR is dropped, which is a card that is
// pulled; the next one may come.
//
// Serve runs on one goroutine. A Slot is safe for concurrent use. Limits: 65535
// bytes a message, by its length; answerWithin, atrWithin; one card at a time.
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
	powerOn = 1
	reset   = 2 // and below it power off and on
	getATR  = 4
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
		case ended(err):
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
		if len(answer) > maxBody {
			return fmt.Errorf("vpcd: answer of %d bytes", len(answer))
		}
		if _, err := conn.Write(appendMessage(nil, answer)); err != nil {
			return fmt.Errorf("vpcd: %w", err)
		}
	}
}

// ended reports whether an error is the connection's end.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}

func receive(conn net.Conn) ([]byte, error) {
	n, err := receiveLength(conn)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(conn, body)
	return body, err
}

// receiveLength receives the head of a message.
func receiveLength(conn net.Conn) (int, error) {
	quickAck(conn)
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	quickAck(conn)
	return int(binary.BigEndian.Uint16(head[:])), nil
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
