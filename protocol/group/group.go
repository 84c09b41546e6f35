// Package group is what the group managers of a failover group say to each
// other and to terminals that look for a server: one line of ALP grammar in a
// UDP datagram.
//
// Source: seed 004, "The Group Manager Process" (host message), "The Self
// Discovery Protocol" and figures 9a to 9c (serverQ, serverR, tokenQ, tokenR,
// redirect); design section 4 for what the seed leaves open.
//
//	host=mud addr=...      host message, every host to all, every 20 s. It is
//	                       also the availability message of figure 9a. As in the
//	                       seed it begins with its first key, not with a command
//	serverQ                terminal to all: who can serve me
//	serverR                group manager to that terminal: I can, here
//	tokenQ                 group manager to TRUSTED ones: have you this token
//	tokenR                 answer to it
//	redirect               not a datagram: the proof inside redirectProps
//
// Invariants:
//  1. The fields of the seed come first, in the seed's order, then ours, last
//     alg, kid and sig. Unknown fields are ignored.
//  2. The signature covers every byte before " sig=", and nothing follows it.
//  3. A serverR is never longer than the serverQ that it answers.
//  4. A parser returns only checked values, and zero beside an error.
//
// The package does no I/O and reads no clock. Limits: MaxPacket, MaxName,
// MaxInterfaces, MaxFound.
package group

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"hotdesk/protocol/alp"
)

// Port is the group's UDP port where nothing else is configured.
const Port = 7009

const (
	// MaxPacket bounds a datagram: one Ethernet frame, never fragmented.
	MaxPacket = 1400
	// MaxName bounds a host's name, in bytes (RFC 1035: one label).
	MaxName = 63
	// MaxInterfaceName bounds an interface's name, in bytes (Linux IFNAMSIZ).
	MaxInterfaceName = 15
	// MaxInterfaces bounds the interfaces of a host message, so that it stays
	// within MaxPacket and alp.MaxKeys. A host with more names its first ones.
	MaxInterfaces = 10
	// MaxFound bounds the sessions that a tokenR names: the latest ones.
	MaxFound = 8
	// MaxCount bounds every plain count: processors, MHz, MiB, sessions.
	MaxCount = 1 << 30
)

// The first word of each datagram, and of the proof.
const (
	CmdHost     = "host"
	CmdServerQ  = "serverQ"
	CmdServerR  = "serverR"
	CmdTokenQ   = "tokenQ"
	CmdTokenR   = "tokenR"
	CmdRedirect = "redirect"
)

// ErrPacket is wrapped by every error of a parser.
var ErrPacket = errors.New("group: bad message")

// Kind is the first word of a datagram: one of the Cmd constants, or
// something that nobody here knows.
func Kind(data []byte) string {
	for i, c := range data[:min(len(data), 16)] {
		switch c {
		case ' ', '=', '\n':
			return string(data[:i])
		}
	}
	return ""
}

// ValidName reports whether s can be a host's name: letters, digits, '-', '_'
// and '.'.
func ValidName(s string) bool { return validWord(s, MaxName) }

func validWord(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == ':' || c == '@') {
			return false
		}
	}
	return true
}

// A Stamp makes a signed message one that counts once: who said it, in which
// life of its group manager, as which message of that life, and when by its
// clock.
type Stamp struct {
	Host    string // the sender
	Time    int64  // its clock, Unix seconds
	Boot    uint64 // random, new at each start of the sender
	Counter uint64 // raised by one with each message of that boot, from 1
}

func (s Stamp) add(m *alp.Message) {
	m.Add("boot", hex16(s.Boot))
	m.Add("counter", strconv.FormatUint(s.Counter, 10))
}

func hex16(v uint64) string { return fmt.Sprintf("%016x", v) }

// Hex8 writes an IPv4 address as the seed does: eight hex digits. The zero
// Addr is 00000000.
func Hex8(a netip.Addr) string {
	if !a.Is4() {
		return "00000000"
	}
	b := a.As4()
	return hex.EncodeToString(b[:])
}

// fields reads the values of one message and keeps the first thing wrong.
type fields struct {
	m   alp.Message
	err error
}

// read cuts a datagram; command is what it must be.
func read(data []byte, command string) *fields {
	f := &fields{}
	if len(data) > MaxPacket {
		f.fail("%d bytes, at most %d", len(data), MaxPacket)
		return f
	}
	if command == CmdHost {
		data = append([]byte(CmdHost+" "), data...) // its command is its first key
	}
	m, err := alp.Parse(data)
	if err != nil {
		f.err = fmt.Errorf("%w: %w", ErrPacket, err)
		return f
	}
	f.m = m
	if m.Command != command || command == CmdHost && (len(m.Keys) == 0 || m.Keys[0].Key != CmdHost) {
		f.fail("%q is not %s", m.Command, command)
	}
	return f
}

func (f *fields) fail(format string, a ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: "+format, append([]any{ErrPacket}, a...)...)
	}
}

func done[T any](v T, f *fields) (T, error) {
	var zero T
	if f.err != nil {
		return zero, f.err
	}
	return v, nil
}

// parseUint is strict: one way to write each number.
func (f *fields) parseUint(key, s string, most uint64) uint64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v > most || s[0] == '+' || len(s) > 1 && s[0] == '0' {
		f.fail("%s %q", key, s)
		return 0
	}
	return v
}

// count reads an optional number, 0 when absent.
func (f *fields) count(key string, most int) int {
	s := f.m.Get(key)
	if s == "" {
		return 0
	}
	return int(f.parseUint(key, s, uint64(most)))
}

func (f *fields) parseHex(key, s string, size int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size {
		f.fail("%s %q", key, s)
		return make([]byte, size)
	}
	return b
}

func (f *fields) hex64(key string) uint64 {
	s := f.m.Get(key)
	if s == "" {
		return 0
	}
	var v uint64
	for _, c := range f.parseHex(key, s, 8) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (f *fields) addr(key, s string) netip.Addr {
	return netip.AddrFrom4([4]byte(f.parseHex(key, s, 4)))
}

func (f *fields) name(key string) string {
	s := f.m.Get(key)
	if !ValidName(s) {
		f.fail("%s %q", key, s)
	}
	return s
}

func (f *fields) token() alp.Token {
	t := alp.Token(f.m.Get("token"))
	if !t.Valid() {
		f.fail("token %q", t)
	}
	return t
}

func (f *fields) terminal(key string) alp.TerminalID {
	t := alp.TerminalID(f.m.Get(key))
	if !t.Valid() {
		f.fail("%s %q", key, t)
	}
	return t
}

func (f *fields) time(key string) int64 {
	s := f.m.Get(key)
	if s == "" {
		f.fail("no %s", key)
		return 0
	}
	return int64(f.parseUint(key, s, 1<<40))
}

func (f *fields) stamp() Stamp {
	return Stamp{Host: f.name("host"), Time: f.time("time"), Boot: f.hex64("boot"), Counter: f.counter()}
}

func (f *fields) counter() uint64 {
	s := f.m.Get("counter")
	if s == "" {
		return 0
	}
	return f.parseUint("counter", s, 1<<62)
}
