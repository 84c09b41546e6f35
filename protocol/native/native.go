// Package native is the frame of the media connection between a terminal and
// a media end (a session's media process, or the gateway for its own screens):
// QUIC with TLS 1.3, what its streams and datagrams are, and the greeting.
//
// Source: design section 2.
//
// The terminal connects, pins the certificate by its SHA-256 (mediaCert of
// connInf), opens one unidirectional stream of kind StreamInput, sends a Hello
// and then records of protocol/input. The media end checks the ticket and opens
// one unidirectional stream of kind StreamDisplay with frames of protocol/draw.
// The card of a session's programs has two streams of its own, see StreamCard.
// The media end sends Alive datagrams with its period, where no small frame said
// as much; that QUIC acknowledges them is the terminal's sign of life, and costs
// the least. They also tell how soon frames are to be acknowledged, by records on
// the input stream (AcksLate). The terminal sends Alive when the media end's is
// late (QuietAfter) or to learn whether anybody listens there, and the media end
// answers it with its own. Whoever ends the connection closes it with a CloseCode
// and a text for the log.
//
// The package does no I/O and reads no clock. Limits: HelloSize is exact; an
// alive period is MinAlivePeriod..MaxAlivePeriod; MaxReason.
package native

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"hotdesk/protocol/alp"
)

// ALPN names the protocol in the TLS handshake.
const ALPN = "hotdesk-media/1"

// Kind is the first byte of a stream. Only ever appended to; a stream of an
// unknown kind is refused by its receiver (STOP_SENDING), not an error.
type Kind byte

const (
	StreamInput   Kind = 1 // terminal: Hello, then input records
	StreamDisplay Kind = 2 // media end: frames
)

// CloseCode is the application error code a connection is closed with. Only
// ever appended to.
type CloseCode uint64

const (
	CloseDetached CloseCode = 0 // good order: card out, session shown elsewhere, terminal off
	CloseTicket   CloseCode = 1 // ticket unknown, used, expired or another terminal's
	CloseProtocol CloseCode = 2 // the peer sent what it must not
	CloseEnded    CloseCode = 3 // the session has ended
	CloseRestart  CloseCode = 4 // the media end is going away and will be back
	CloseSlow     CloseCode = 5 // nothing came for too long
)

// MaxReason bounds the text that a connection is closed with, in bytes.
const MaxReason = 256

const (
	// AlivePeriod is how often each end says Alive while a session is shown.
	AlivePeriod = 800 * time.Millisecond
	// AlivePeriodIdle is the same at a screen that needs no session.
	AlivePeriodIdle = 5 * time.Second
	// MinAlivePeriod and MaxAlivePeriod bound what can be announced.
	MinAlivePeriod = 100 * time.Millisecond
	MaxAlivePeriod = 255 * MinAlivePeriod
	// DeadAfter is the silence after which a media connection counts as lost
	// while a session is shown.
	DeadAfter = 1280 * time.Millisecond
	// TicketLife is how long a ticket may wait for its connection.
	TicketLife = 10 * time.Second
)

// alive is the first byte of a liveness datagram.
const alive = 1

// AppendAlive writes a liveness datagram: its kind and the period at which the
// sender says it, u8 in tenths of a second.
func AppendAlive(b []byte, period time.Duration) []byte {
	return append(b, alive, byte(min(max(period, MinAlivePeriod), MaxAlivePeriod)/MinAlivePeriod))
}

// AppendAliveLate is AppendAlive for a media end that allows what AcksLate tells.
func AppendAliveLate(b []byte, period time.Duration) []byte {
	return append(AppendAlive(b, period), acksLate)
}

// ParseAlive reads a datagram. Ones that are not liveness are not ok, and
// ignored by their receivers; bytes after the period are later versions', but
// for what AcksLate reads.
func ParseAlive(b []byte) (period time.Duration, ok bool) {
	if len(b) < 2 || b[0] != alive || b[1] == 0 {
		return 0, false
	}
	return time.Duration(b[1]) * MinAlivePeriod, true
}

// acksLate is a flag in the byte after the period.
const acksLate = 1 << 0

// MaxLate is the longest frame, in bytes, that may be acknowledged late.
const MaxLate = 1000

// AcksLate reports whether the media end that said the Alive b allows the
// terminal to acknowledge a frame of at most MaxLate bytes with what it says
// next, if all frames before it are acknowledged: a message that says nothing
// else costs both ends more than the frame. Where a media end does not allow it
// any more, or never did, as those of before, each frame is acknowledged at once.
func AcksLate(b []byte) bool {
	_, ok := ParseAlive(b)
	return ok && len(b) > 2 && b[2]&acksLate != 0
}

// AliveEvery is the time between two Alive of an end that announced period.
// At 800 ms they and their acknowledgements make 2.1 kbit/s on the wire, both
// ways and all of Ethernet's frames and gaps counted; with the group's messages
// an idle terminal stays below 3 kbit/s. At 500 ms it was 4.
func AliveEvery(period time.Duration) time.Duration { return period }

// QuietAfter is the time after which the next Alive is late and is asked for,
// so that one lost datagram is no silence.
func QuietAfter(period time.Duration) time.Duration { return period * 11 / 10 }

// SilentAfter is DeadAfter for any period: half a period after the question.
func SilentAfter(period time.Duration) time.Duration { return period * 8 / 5 }

// Version of the media protocol, in Hello.
const Version = 1

// HelloSize is the length of a Hello in bytes.
const HelloSize = 1 + alp.TicketSize + 8 + 6 + 4

// Hello is the first thing on the input stream.
type Hello struct {
	Ticket        [alp.TicketSize]byte
	Gen           uint64
	Terminal      alp.TerminalID
	Width, Height int // of the terminal's screen, alp.MinSide..alp.MaxSide
}

// ErrHello is wrapped by every error of ParseHello.
var ErrHello = errors.New("native: bad hello")

// Append writes h. Terminal must be valid.
func (h Hello) Append(b []byte) []byte {
	b = append(b, Version)
	b = append(b, h.Ticket[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Gen)
	mac, err := hex.DecodeString(string(h.Terminal))
	if err != nil || len(mac) != 6 {
		panic("native: bad terminal id " + string(h.Terminal))
	}
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Width))
	return binary.BigEndian.AppendUint16(b, uint16(h.Height))
}

// ParseHello reads a Hello from the first HelloSize bytes of b and returns
// what follows.
func ParseHello(b []byte) (h Hello, rest []byte, err error) {
	if len(b) < HelloSize {
		return Hello{}, nil, fmt.Errorf("%w: %d bytes", ErrHello, len(b))
	}
	if b[0] != Version {
		return Hello{}, nil, fmt.Errorf("%w: version %d, this is %d", ErrHello, b[0], Version)
	}
	rest = b[HelloSize:]
	b = b[1+copy(h.Ticket[:], b[1:]):]
	h.Gen = binary.BigEndian.Uint64(b)
	h.Terminal = alp.TerminalID(hex.EncodeToString(b[8:14]))
	h.Width, h.Height = int(binary.BigEndian.Uint16(b[14:])), int(binary.BigEndian.Uint16(b[16:]))
	for _, v := range [2]int{h.Width, h.Height} {
		if v < alp.MinSide || v > alp.MaxSide {
			return Hello{}, nil, fmt.Errorf("%w: screen of %dx%d", ErrHello, h.Width, h.Height)
		}
	}
	return h, rest, nil
}
