// Package vendoropt is what a DHCP server tells terminals in option 43, vendor
// specific information, under the class SUNW.NewT.SUNW: which servers there
// are, and how to behave.
//
// Source: RFC 2132 section 8.4 for the form (code, length, value; 0 pads, 255
// ends); reference/alp.md section 10 for the codes 21 to 36, of which 36 is
// known from memory only. Fingerprint and ControlPort are this project's own,
// from the codes that no known terminal uses.
//
// Invariants:
//  1. Append writes each sub-option that is set once, in the order of codes;
//     Parse(Append(s)) is s. This is the canonical form.
//  2. A list whose lengths do not add up says nothing: Parse fails.
//  3. A sub-option with a value that cannot be meant is left out and named in
//     Bad; the others count. Of one that repeats the last counts. Unknown ones
//     are ignored.
//  4. Numbers are taken in one, two or four bytes, since DHCP servers differ in
//     how they write them; they are written in the width of the table.
//
// The package does no I/O. Limits: MaxSize, MaxServers, MaxText.
package vendoropt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Class is option 60 of terminals, by which DHCP servers know them.
const Class = "SUNW.NewT.SUNW"

const (
	// MaxSize bounds the list, in bytes: several options of 255 bytes, joined
	// as RFC 3396 says.
	MaxSize = 1020
	// MaxServers bounds AltAuth.
	MaxServers = 16
	// MaxText bounds each text, in bytes.
	MaxText = 64
)

// The sub-options.
const (
	CodeAuthSrvr     = 21 // IPv4; the one that a server must send
	CodeAuthPort     = 22 // u16
	CodeNewTVer      = 23 // text
	CodeLogHost      = 24 // IPv4
	CodeLogKern      = 25 // u8, and so the next four
	CodeLogNet       = 26
	CodeLogUSB       = 27
	CodeLogVid       = 28
	CodeLogAppl      = 29
	CodeNewTBW       = 30  // u32
	CodeFWSrvr       = 31  // IPv4
	CodeNewTDispIndx = 32  // u32
	CodeIntf         = 33  // text
	CodeNewTFlags    = 34  // u32
	CodeAltAuth      = 35  // IPv4, one or more
	CodeBarrierLevel = 36  // u32
	CodeFingerprint  = 224 // ours: 32 bytes, or 64 hex digits as text
	CodeControlPort  = 225 // ours: u16
)

// FingerprintSize is the length of a SHA-256.
const FingerprintSize = 32

// ErrOptions is wrapped by every error of Parse.
var ErrOptions = errors.New("vendoropt: bad vendor options")

// Levels of the five log sources, 0 (nothing) to 7, -1 where none is given.
type Levels struct{ Kern, Net, USB, Vid, Appl int }

// NoLevels gives no level.
var NoLevels = Levels{-1, -1, -1, -1, -1}

// Set is what the list says. Zero values are not given, but for Levels, where
// that is -1. Make one with New.
type Set struct {
	AuthSrvr     netip.Addr // a server
	AuthPort     uint16     // its port for the session protocol in the clear
	NewTVer      string     // firmware that the terminal should have
	LogHost      netip.Addr // syslog
	Levels       Levels
	NewTBW       uint32     // most bits per second
	FWSrvr       netip.Addr // where firmware is
	NewTDispIndx uint32     // obsolete
	Intf         string     // the server's interface
	NewTFlags    uint32     // obsolete
	AltAuth      []netip.Addr
	BarrierLevel uint32

	// Fingerprint is the SHA-256 of the certificate of the group's authority,
	// FingerprintSize bytes or nil. Ours.
	Fingerprint []byte
	// ControlPort is the servers' port for control connections in TLS. Ours.
	ControlPort uint16

	// Bad are the codes of what was left out. Append ignores it.
	Bad []byte
}

// New is a Set that says nothing.
func New() Set { return Set{Levels: NoLevels} }

// Append writes the list in canonical form, without an end mark. It panics
// where a value is beyond its limit.
func (s Set) Append(b []byte) []byte {
	add := func(code byte, value []byte) {
		if len(value) > 0 {
			b = append(append(b, code, byte(len(value))), value...)
		}
	}
	addr := func(code byte, a ...netip.Addr) {
		var v []byte
		for _, a := range a {
			if a.IsValid() {
				a4 := a.As4() // panics for IPv6
				v = append(v, a4[:]...)
			}
		}
		if len(v) > 4*MaxServers {
			panic("vendoropt: too many servers")
		}
		add(code, v)
	}
	text := func(code byte, s string) {
		if s != "" && !validText(s) {
			panic(fmt.Sprintf("vendoropt: text %q", s))
		}
		add(code, []byte(s))
	}
	u16 := func(code byte, n uint16) {
		if n != 0 {
			add(code, binary.BigEndian.AppendUint16(nil, n))
		}
	}
	u32 := func(code byte, n uint32) {
		if n != 0 {
			add(code, binary.BigEndian.AppendUint32(nil, n))
		}
	}
	addr(CodeAuthSrvr, s.AuthSrvr)
	u16(CodeAuthPort, s.AuthPort)
	text(CodeNewTVer, s.NewTVer)
	addr(CodeLogHost, s.LogHost)
	for i, l := range s.Levels.all() {
		if *l > 7 {
			panic("vendoropt: log level above 7")
		}
		if *l >= 0 {
			add(byte(CodeLogKern+i), []byte{byte(*l)})
		}
	}
	u32(CodeNewTBW, s.NewTBW)
	addr(CodeFWSrvr, s.FWSrvr)
	u32(CodeNewTDispIndx, s.NewTDispIndx)
	text(CodeIntf, s.Intf)
	u32(CodeNewTFlags, s.NewTFlags)
	addr(CodeAltAuth, s.AltAuth...)
	u32(CodeBarrierLevel, s.BarrierLevel)
	if n := len(s.Fingerprint); n != 0 && n != FingerprintSize {
		panic("vendoropt: a fingerprint of another length")
	}
	add(CodeFingerprint, s.Fingerprint)
	u16(CodeControlPort, s.ControlPort)
	return b
}

func (l *Levels) all() [5]*int { return [5]*int{&l.Kern, &l.Net, &l.USB, &l.Vid, &l.Appl} }

// Parse reads the value of option 43.
func Parse(b []byte) (Set, error) {
	if len(b) > MaxSize {
		return Set{}, fmt.Errorf("%w: %d bytes, at most %d", ErrOptions, len(b), MaxSize)
	}
	s := New()
	for i := 0; i < len(b); {
		code := b[i]
		i++
		if code == 0 {
			continue
		}
		if code == 255 {
			break
		}
		if i == len(b) || int(b[i]) > len(b)-i-1 {
			return Set{}, fmt.Errorf("%w: sub-option %d is longer than the list", ErrOptions, code)
		}
		n := int(b[i])
		i++
		if !s.take(code, b[i:i+n]) && !slices.Contains(s.Bad, code) {
			s.Bad = append(s.Bad, code)
		}
		i += n
	}
	return s, nil
}

// take takes in one sub-option; false means that its value cannot be meant.
func (s *Set) take(code byte, v []byte) bool {
	switch code {
	case CodeAuthSrvr:
		return one(&s.AuthSrvr, v)
	case CodeAuthPort:
		return port(&s.AuthPort, v)
	case CodeNewTVer:
		return text(&s.NewTVer, v)
	case CodeLogHost:
		return one(&s.LogHost, v)
	case CodeLogKern, CodeLogNet, CodeLogUSB, CodeLogVid, CodeLogAppl:
		n, ok := number(v)
		if !ok || n > 7 {
			return false
		}
		*s.Levels.all()[code-CodeLogKern] = int(n)
		return true
	case CodeNewTBW:
		return u32(&s.NewTBW, v)
	case CodeFWSrvr:
		return one(&s.FWSrvr, v)
	case CodeNewTDispIndx:
		return u32(&s.NewTDispIndx, v)
	case CodeIntf:
		return text(&s.Intf, v)
	case CodeNewTFlags:
		return u32(&s.NewTFlags, v)
	case CodeAltAuth:
		return list(&s.AltAuth, v)
	case CodeBarrierLevel:
		return u32(&s.BarrierLevel, v)
	case CodeFingerprint:
		return fingerprint(&s.Fingerprint, v)
	case CodeControlPort:
		return port(&s.ControlPort, v)
	}
	return true
}

// number reads a number of one, two or four bytes.
func number(v []byte) (uint32, bool) {
	switch len(v) {
	case 1:
		return uint32(v[0]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(v)), true
	case 4:
		return binary.BigEndian.Uint32(v), true
	}
	return 0, false
}

func u32(to *uint32, v []byte) bool {
	n, ok := number(v)
	if ok {
		*to = n
	}
	return ok
}

func port(to *uint16, v []byte) bool {
	n, ok := number(v)
	if !ok || n == 0 || n > 65535 {
		return false
	}
	*to = uint16(n)
	return true
}

// host reports whether a can be a host's address.
func host(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func one(to *netip.Addr, v []byte) bool {
	if len(v) != 4 {
		return false
	}
	a := netip.AddrFrom4([4]byte(v))
	if !host(a) {
		return false
	}
	*to = a
	return true
}

func list(to *[]netip.Addr, v []byte) bool {
	if len(v) == 0 || len(v)%4 != 0 || len(v) > 4*MaxServers {
		return false
	}
	var all []netip.Addr
	for c := range slices.Chunk(v, 4) {
		a := netip.AddrFrom4([4]byte(c))
		if !host(a) {
			return false
		}
		all = append(all, a)
	}
	*to = all
	return true
}

func text(to *string, v []byte) bool {
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1] // some servers end texts as C does
	}
	if !validText(string(v)) {
		return false
	}
	*to = string(v)
	return true
}

func validText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= MaxText
}

func fingerprint(to *[]byte, v []byte) bool {
	switch len(v) {
	case FingerprintSize:
		*to = slices.Clone(v)
		return true
	case 2 * FingerprintSize:
		b, err := hex.DecodeString(string(v))
		if err != nil {
			return false
		}
		*to = b
		return true
	}
	return false
}
