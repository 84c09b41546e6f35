// Package pcsclite is the service end of the socket protocol with which
// programs reach a smart card through libpcsclite: the codec of its messages,
// and a Machine that is one reader as pcscd would serve it.
//
// Source: pcsc-lite 1.9.9 (Debian 12), protocol 4.4: the structures of its
// winscard_msg.h and eventhandler.h, what pcscd answers as recorded in
// testdata, and the PC/SC API for what the codes mean. All numbers are of the
// host's byte order; a request has a header, an answer has none.
//
// Invariants:
//  1. Append(ParseRequest(b)) == b for every b that ParseRequest accepts.
//  2. A message of an unknown command, or of a length that its command does
//     not have, ends that client's connection; so does a handle that is not
//     the client's.
//  3. A client has at most one request that waits; what waits is a begin of a
//     transaction for at most BeginWait, and what pcscd lets wait without end.
//  4. At most one exchange is with the card. Nothing is asked of the card for a
//     client while another's transaction runs.
//  5. Removal ends every transaction, answers what the card was asked, and is
//     told to each handle until it is given up or reconnected.
//
// The package does no I/O and reads no clock; callers pass the time. A Machine
// is not safe for concurrent use. Limits: MaxTransfer, MaxHandles, MaxWaiting.
package pcsclite

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Major and Minor are the protocol's version.
const (
	Major = 4
	Minor = 4
)

// Command names a request. Only those of version 4.4.
type Command uint32

const (
	CmdEstablish    Command = 0x01
	CmdRelease      Command = 0x02
	CmdConnect      Command = 0x04
	CmdReconnect    Command = 0x05
	CmdDisconnect   Command = 0x06
	CmdBegin        Command = 0x07
	CmdEnd          Command = 0x08
	CmdTransmit     Command = 0x09
	CmdControl      Command = 0x0A
	CmdStatus       Command = 0x0B
	CmdCancel       Command = 0x0D
	CmdGetAttrib    Command = 0x0F
	CmdSetAttrib    Command = 0x10
	CmdVersion      Command = 0x11
	CmdReaderStates Command = 0x12
	CmdWait         Command = 0x13
	CmdStopWaiting  Command = 0x14
)

const (
	// HeaderSize is the size of a request's header: u32 size of the body, u32
	// command.
	HeaderSize = 8
	// MaxName is the size of a reader's name with its NUL.
	MaxName = 128
	// MaxReaders is the number of reader states that are told.
	MaxReaders = 16
	// MaxATR bounds an ATR.
	MaxATR = 33
	// MaxAttrib bounds an attribute.
	MaxAttrib = 264
	// MaxTransfer bounds what follows the body of Transmit and Control: an
	// extended APDU.
	MaxTransfer = 4 + 3 + 1<<16 + 3 + 2
	// MaxRequest bounds a request.
	MaxRequest = HeaderSize + 32 + MaxTransfer
)

// Errors of ParseRequest.
var (
	ErrShort   = errors.New("pcsclite: message not whole yet")
	ErrMessage = errors.New("pcsclite: bad message")
)

// A Body is a request without its header, and an answer where the two have one
// form: RV and what is marked "out" is the service's to fill in.
type Body interface {
	command() Command
	// words are the numbers in their order; those from tail on come after the
	// bytes of blob.
	words() []*uint32
	blob() (b []byte, tail int)
}

type plain struct{}

func (plain) blob() ([]byte, int) { return nil, 0 }

// Version is the first request of a client.
type Version struct {
	plain
	Major, Minor, RV uint32
}

// Establish asks for a context.
type Establish struct {
	plain
	Scope   uint32
	Context uint32 // out
	RV      uint32
}

// Release gives a context up.
type Release struct {
	plain
	Context, RV uint32
}

// Connect asks for a card handle.
type Connect struct {
	Context   uint32
	Reader    [MaxName]byte
	Share     uint32
	Protocols uint32
	Card      uint32 // out: handle
	Active    uint32 // out: protocol
	RV        uint32
}

// Reconnect renews a handle.
type Reconnect struct {
	plain
	Card, Share, Protocols, Init uint32
	Active                       uint32 // out
	RV                           uint32
}

// Disconnect gives a handle up.
type Disconnect struct {
	plain
	Card, Disposition, RV uint32
}

// Begin begins a transaction.
type Begin struct {
	plain
	Card, RV uint32
}

// End ends a transaction.
type End struct {
	plain
	Card, Disposition, RV uint32
}

// Transmit sends an APDU; Data follows the body.
type Transmit struct {
	plain
	Card                     uint32
	SendProtocol, SendPCI    uint32
	SendLength               uint32
	ReceiveProtocol, RecvPCI uint32
	ReceiveLength            uint32 // room; out: length of the answer
	RV                       uint32
	Data                     []byte
}

// Control asks the reader's driver; Data follows the body.
type Control struct {
	plain
	Card, Code                uint32
	SendLength, ReceiveLength uint32
	Returned                  uint32 // out
	RV                        uint32
	Data                      []byte
}

// Status asks whether a handle is good; the rest is in the reader states.
type Status struct {
	plain
	Card, RV uint32
}

// Cancel ends the waiting of another context.
type Cancel struct {
	plain
	Context, RV uint32
}

// Attrib is a request for an attribute.
type Attrib struct {
	Set    bool // it is to be set
	Card   uint32
	ID     uint32
	Value  [MaxAttrib]byte
	Length uint32 // room; out: length of the value
	RV     uint32
}

// ReaderStates asks for the states, Wait for the states and the next change.
type (
	ReaderStates struct{ plain }
	Wait         struct{ plain }
	StopWaiting  struct{ plain }
)

func (*Version) command() Command      { return CmdVersion }
func (*Establish) command() Command    { return CmdEstablish }
func (*Release) command() Command      { return CmdRelease }
func (*Connect) command() Command      { return CmdConnect }
func (*Reconnect) command() Command    { return CmdReconnect }
func (*Disconnect) command() Command   { return CmdDisconnect }
func (*Begin) command() Command        { return CmdBegin }
func (*End) command() Command          { return CmdEnd }
func (*Transmit) command() Command     { return CmdTransmit }
func (*Control) command() Command      { return CmdControl }
func (*Status) command() Command       { return CmdStatus }
func (*Cancel) command() Command       { return CmdCancel }
func (*ReaderStates) command() Command { return CmdReaderStates }
func (*Wait) command() Command         { return CmdWait }
func (*StopWaiting) command() Command  { return CmdStopWaiting }

func (m *Attrib) command() Command {
	if m.Set {
		return CmdSetAttrib
	}
	return CmdGetAttrib
}

func (m *Version) words() []*uint32   { return []*uint32{&m.Major, &m.Minor, &m.RV} }
func (m *Establish) words() []*uint32 { return []*uint32{&m.Scope, &m.Context, &m.RV} }
func (m *Release) words() []*uint32   { return []*uint32{&m.Context, &m.RV} }
func (m *Connect) words() []*uint32 {
	return []*uint32{&m.Context, &m.Share, &m.Protocols, &m.Card, &m.Active, &m.RV}
}
func (m *Reconnect) words() []*uint32 {
	return []*uint32{&m.Card, &m.Share, &m.Protocols, &m.Init, &m.Active, &m.RV}
}
func (m *Disconnect) words() []*uint32 { return []*uint32{&m.Card, &m.Disposition, &m.RV} }
func (m *Begin) words() []*uint32      { return []*uint32{&m.Card, &m.RV} }
func (m *End) words() []*uint32        { return []*uint32{&m.Card, &m.Disposition, &m.RV} }
func (m *Transmit) words() []*uint32 {
	return []*uint32{&m.Card, &m.SendProtocol, &m.SendPCI, &m.SendLength, &m.ReceiveProtocol, &m.RecvPCI, &m.ReceiveLength, &m.RV}
}
func (m *Control) words() []*uint32 {
	return []*uint32{&m.Card, &m.Code, &m.SendLength, &m.ReceiveLength, &m.Returned, &m.RV}
}
func (m *Status) words() []*uint32     { return []*uint32{&m.Card, &m.RV} }
func (m *Cancel) words() []*uint32     { return []*uint32{&m.Context, &m.RV} }
func (m *Attrib) words() []*uint32     { return []*uint32{&m.Card, &m.ID, &m.Length, &m.RV} }
func (*ReaderStates) words() []*uint32 { return nil }
func (*Wait) words() []*uint32         { return nil }
func (*StopWaiting) words() []*uint32  { return nil }

func (m *Connect) blob() ([]byte, int) { return m.Reader[:], 1 }
func (m *Attrib) blob() ([]byte, int)  { return m.Value[:], 2 }

// newBody is an empty body for a command, or nil.
func newBody(c Command) Body {
	switch c {
	case CmdEstablish:
		return new(Establish)
	case CmdRelease:
		return new(Release)
	case CmdConnect:
		return new(Connect)
	case CmdReconnect:
		return new(Reconnect)
	case CmdDisconnect:
		return new(Disconnect)
	case CmdBegin:
		return new(Begin)
	case CmdEnd:
		return new(End)
	case CmdTransmit:
		return new(Transmit)
	case CmdControl:
		return new(Control)
	case CmdStatus:
		return new(Status)
	case CmdCancel:
		return new(Cancel)
	case CmdGetAttrib:
		return new(Attrib)
	case CmdSetAttrib:
		return &Attrib{Set: true}
	case CmdVersion:
		return new(Version)
	case CmdReaderStates:
		return new(ReaderStates)
	case CmdWait:
		return new(Wait)
	case CmdStopWaiting:
		return new(StopWaiting)
	}
	return nil
}

// size is that of the body without data.
func size(m Body) int {
	b, _ := m.blob()
	return 4*len(m.words()) + len(b)
}

// follows returns where the data after a body goes, and how long it is said to
// be; nil if there is none.
func follows(m Body) (*[]byte, uint32) {
	switch m := m.(type) {
	case *Transmit:
		return &m.Data, m.SendLength
	case *Control:
		return &m.Data, m.SendLength
	}
	return nil, 0
}

// AppendBody writes m as an answer is written: without a header, and without
// data.
func AppendBody(b []byte, m Body) []byte {
	blob, tail := m.blob()
	for i, w := range m.words() {
		if i == tail {
			b = append(b, blob...)
		}
		b = binary.NativeEndian.AppendUint32(b, *w)
	}
	return b
}

// AppendRequest writes m as a client does. The data must be as long as m says.
func AppendRequest(b []byte, m Body) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(size(m)))
	b = binary.NativeEndian.AppendUint32(b, uint32(m.command()))
	b = AppendBody(b, m)
	if data, n := follows(m); data != nil {
		if len(*data) != int(n) {
			panic(fmt.Sprintf("pcsclite: %d bytes of data, said are %d", len(*data), n))
		}
		b = append(b, *data...)
	}
	return b
}

// ParseBody fills m in from the front of b, as a client does with an answer.
// Data that follows stays in rest.
func ParseBody(b []byte, m Body) (rest []byte, err error) {
	n := size(m)
	if len(b) < n {
		return nil, ErrShort
	}
	blob, tail := m.blob()
	for i, w := range m.words() {
		if i == tail {
			b = b[copy(blob, b):]
		}
		*w = binary.NativeEndian.Uint32(b)
		b = b[4:]
	}
	return b, nil
}

// ParseRequest reads the request at the front of b. ErrShort means that more
// bytes are needed; there is never need for more than MaxRequest.
func ParseRequest(b []byte) (m Body, rest []byte, err error) {
	if len(b) < HeaderSize {
		return nil, nil, ErrShort
	}
	length, command := binary.NativeEndian.Uint32(b), Command(binary.NativeEndian.Uint32(b[4:]))
	if m = newBody(command); m == nil {
		return nil, nil, fmt.Errorf("%w: command %#x is not one of protocol %d.%d", ErrMessage, uint32(command), Major, Minor)
	}
	if int64(length) != int64(size(m)) {
		return nil, nil, fmt.Errorf("%w: command %#x with %d bytes, not %d", ErrMessage, uint32(command), length, size(m))
	}
	if rest, err = ParseBody(b[HeaderSize:], m); err != nil {
		return nil, nil, err
	}
	if data, n := follows(m); data != nil {
		if n > MaxTransfer {
			return nil, nil, fmt.Errorf("%w: command %#x with data of %d bytes; at most %d", ErrMessage, uint32(command), n, MaxTransfer)
		}
		if len(rest) < int(n) {
			return nil, nil, ErrShort
		}
		*data = append([]byte(nil), rest[:n]...)
		rest = rest[n:]
	}
	return m, rest, nil
}

// Name is the reader's name.
func (m *Connect) Name() string { return cString(m.Reader[:]) }

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b[:len(b)-1]) // as pcscd, which puts the NUL there
}

// StateSize is the size of a ReaderState on the wire, StatesSize of all.
const (
	StateSize  = MaxName + 3*4 + MaxATR + 3 + 2*4
	StatesSize = MaxReaders * StateSize
)

// A ReaderState is a reader as it is told to every client.
type ReaderState struct {
	Name     string // shorter than MaxName; empty: there is none
	Events   uint32 // insertions and removals, modulo 2^16
	State    uint32 // of the card: StateAbsent and so on
	Sharing  int32  // handles; -1: one, exclusively
	ATR      []byte
	Protocol uint32
}

// Append writes s.
func (s ReaderState) Append(b []byte) []byte {
	if len(s.Name) >= MaxName || len(s.ATR) > MaxATR {
		panic("pcsclite: name or ATR too long")
	}
	at := len(b)
	b = append(b, make([]byte, StateSize)...)
	f := b[at:]
	copy(f, s.Name)
	f = f[MaxName:]
	binary.NativeEndian.PutUint32(f, s.Events)
	binary.NativeEndian.PutUint32(f[4:], s.State)
	binary.NativeEndian.PutUint32(f[8:], uint32(s.Sharing))
	copy(f[12:], s.ATR)
	f = f[12+MaxATR+3:]
	binary.NativeEndian.PutUint32(f, uint32(len(s.ATR)))
	binary.NativeEndian.PutUint32(f[4:], s.Protocol)
	return b
}

// ParseState reads a state from the front of b.
func ParseState(b []byte) (s ReaderState, rest []byte, err error) {
	if len(b) < StateSize {
		return ReaderState{}, nil, ErrShort
	}
	f := b[MaxName:]
	s = ReaderState{
		Name:    cString(b[:MaxName]),
		Events:  binary.NativeEndian.Uint32(f),
		State:   binary.NativeEndian.Uint32(f[4:]),
		Sharing: int32(binary.NativeEndian.Uint32(f[8:])),
	}
	n := binary.NativeEndian.Uint32(f[12+MaxATR+3:])
	if n == MaxATR+1 { // a reader that was not looked at yet
		n = 0
	}
	if n > MaxATR {
		return ReaderState{}, nil, fmt.Errorf("%w: ATR of %d bytes", ErrMessage, n)
	}
	s.ATR = append([]byte(nil), f[12:12+n]...)
	s.Protocol = binary.NativeEndian.Uint32(f[12+MaxATR+3+4:])
	return s, b[StateSize:], nil
}

// AppendStates writes all the states there are: one reader's and empty ones.
func AppendStates(b []byte, s ReaderState) []byte {
	return append(s.Append(b), make([]byte, StatesSize-StateSize)...)
}

// AppendSignal writes what ends a wait: 0 where something has changed.
func AppendSignal(b []byte, rv uint32) []byte {
	return binary.NativeEndian.AppendUint32(append(b, 0, 0, 0, 0), rv)
}

// SignalSize is the size of a signal.
const SignalSize = 8
