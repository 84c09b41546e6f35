// Package alp is the grammar and the messages of the control connection
// between a terminal and the gateway: text lines of the Sun Ray Appliance Link
// Protocol, sub-protocol ALSP, with Hotdesk's own keys after ALP's.
//
// Source: reference/alp.md sections 2 to 4; design section 2 for our keys.
//
// Invariants:
//  1. Append writes exactly one space between words, always key=value, LF at
//     the end, and escapes what the grammar escapes.
//  2. Parse(Append(m)) == m for every message within the limits.
//  3. Unknown keys and commands are kept by Parse and ignored by the typed
//     readers; of a repeated key the last counts.
//  4. A typed reader checks every value that it returns: lengths, numbers,
//     enumerations, character sets.
//
// The package does no I/O and reads no clock. Limits: MaxLine, MaxKeys,
// MaxValue and those beside the identifiers.
package alp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxLine bounds a line in bytes, its end included (alp.md section 2).
	MaxLine = 2048
	// MaxKeys bounds the keys of a line.
	MaxKeys = 64
	// MaxValue bounds one unescaped value, in bytes.
	MaxValue = 1024
)

// ALPN names the native form of the protocol in the TLS handshake, and
// ServerName is the DNS name in every host's certificate.
const (
	ALPN       = "hotdesk-control/1"
	ServerName = "hotdesk"
)

// A Pair is one key=value.
type Pair struct{ Key, Value string }

// A Message is one line: its command and its keys in the order of the line.
type Message struct {
	Command string
	Keys    []Pair
}

// Get returns the value of the last pair with that key, or "".
func (m Message) Get(key string) string {
	for i := len(m.Keys) - 1; i >= 0; i-- {
		if m.Keys[i].Key == key {
			return m.Keys[i].Value
		}
	}
	return ""
}

// Add appends a pair.
func (m *Message) Add(key, value string) { m.Keys = append(m.Keys, Pair{key, value}) }

// AddInt appends a pair with a decimal value.
func (m *Message) AddInt(key string, v int) { m.Add(key, strconv.Itoa(v)) }

// String is the line without its end, for logs.
func (m Message) String() string {
	return string(bytes.TrimSuffix(m.Append(nil), []byte("\n")))
}

// Append writes m as one line. Keys and command must not be empty (a caller's
// bug otherwise: it panics).
func (m Message) Append(b []byte) []byte {
	if m.Command == "" {
		panic("alp: empty command")
	}
	b = appendEscaped(b, m.Command)
	for _, p := range m.Keys {
		if p.Key == "" {
			panic("alp: empty key")
		}
		b = append(b, ' ')
		b = appendEscaped(b, p.Key)
		b = append(b, '=')
		b = appendEscaped(b, p.Value)
	}
	return append(b, '\n')
}

func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '=' || c == '\\' || c == ' ' || c == '\t':
			b = append(b, '\\', c)
		case c < 0x20 || c >= 0x7f:
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			b = append(b, c)
		}
	}
	return b
}

// ErrLine is wrapped by every error of Parse.
var ErrLine = errors.New("alp: bad line")

// Parse reads one line. Its end (LF, CR or NUL, any number) may be there or
// not.
func Parse(line []byte) (Message, error) {
	if len(line) > MaxLine {
		return Message{}, fmt.Errorf("%w: %d bytes, at most %d", ErrLine, len(line), MaxLine)
	}
	line = bytes.TrimRight(line, "\r\n\x00")
	if i := bytes.IndexAny(line, "\r\n\x00"); i >= 0 {
		return Message{}, fmt.Errorf("%w: line end at byte %d", ErrLine, i)
	}
	var m Message
	words, err := split(line)
	if err != nil {
		return Message{}, err
	}
	for i, w := range words {
		switch {
		case i == 0 && w.hasValue:
			return Message{}, fmt.Errorf("%w: it begins with a key", ErrLine)
		case i == 0:
			m.Command = w.key
		case w.key == "":
			return Message{}, fmt.Errorf("%w: empty key", ErrLine)
		case len(m.Keys) == MaxKeys:
			return Message{}, fmt.Errorf("%w: more than %d keys", ErrLine, MaxKeys)
		case len(w.value) > MaxValue:
			return Message{}, fmt.Errorf("%w: value of %q longer than %d bytes", ErrLine, w.key, MaxValue)
		case !w.hasValue: // "key alone means key=true"
			m.Keys = append(m.Keys, Pair{w.key, "true"})
		default:
			m.Keys = append(m.Keys, Pair{w.key, w.value})
		}
	}
	if m.Command == "" {
		return Message{}, fmt.Errorf("%w: no command", ErrLine)
	}
	return m, nil
}

type word struct {
	key, value string
	hasValue   bool
}

// split unescapes and cuts a line into words; spaces round '=' belong to it.
// A second unescaped '=' in a value is part of it (alp.md section 2,
// tolerance). A value that begins after a space is empty where what follows is
// itself a key: "ticket= gen=3" is an empty ticket.
func split(line []byte) ([]word, error) {
	var words []word
	for i := skipSpace(line, 0); i < len(line); i = skipSpace(line, i) {
		if line[i] == '=' {
			return nil, fmt.Errorf("%w: '=' without a key at byte %d", ErrLine, i)
		}
		key, end, err := unescape(line, i, true)
		if err != nil {
			return nil, err
		}
		eq := skipSpace(line, end)
		if eq == len(line) || line[eq] != '=' {
			words = append(words, word{key: key})
			i = end
			continue
		}
		begin := skipSpace(line, eq+1)
		if begin > eq+1 && begin < len(line) && line[begin] != '=' {
			_, end, err := unescape(line, begin, true)
			if err != nil {
				return nil, err
			}
			if next := skipSpace(line, end); next < len(line) && line[next] == '=' {
				words = append(words, word{key: key, hasValue: true})
				i = begin
				continue
			}
		}
		value, end, err := unescape(line, begin, false)
		if err != nil {
			return nil, err
		}
		words = append(words, word{key, value, true})
		i = end
	}
	return words, nil
}

func skipSpace(line []byte, i int) int {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	return i
}

// unescape reads from i to the next white space, or '=' where key is set, or
// the end of the line, and returns where it stopped.
func unescape(line []byte, i int, key bool) (text string, end int, err error) {
	var b []byte
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || key && c == '=':
			return string(b), i, nil
		case c != '\\':
			b = append(b, c)
			continue
		}
		if i++; i == len(line) {
			return "", 0, fmt.Errorf("%w: it ends in a backslash", ErrLine)
		}
		if line[i] < '0' || line[i] > '7' {
			b = append(b, line[i])
			continue
		}
		v, j := 0, i
		for ; j < len(line) && j < i+3 && line[j] >= '0' && line[j] <= '7'; j++ {
			v = v<<3 | int(line[j]-'0')
		}
		if v > 255 {
			return "", 0, fmt.Errorf("%w: octal value over 377 at byte %d", ErrLine, i)
		}
		b = append(b, byte(v))
		i = j - 1
	}
	return string(b), i, nil
}

// Token names who asks for a session: <type>.<id>. It is a name, not a proof.
type Token string

// MaxToken bounds a token, in bytes.
const MaxToken = 128

// SessionID names a session within the group: 16 lower-case hex digits.
type SessionID string

// TerminalID names a terminal: its MAC as 12 lower-case hex digits.
type TerminalID string

// Valid reports whether t is <type>.<id> of letters, digits, '-', '_', '.',
// ':' and '@'.
func (t Token) Valid() bool {
	kind, id, ok := strings.Cut(string(t), ".")
	return ok && kind != "" && id != "" && len(t) <= MaxToken && only(string(t), isTokenByte)
}

// Pseudo reports whether t is a bare terminal's own token.
func (t Token) Pseudo() bool { return strings.HasPrefix(string(t), "pseudo.") }

// Valid reports whether s has the form of a session id.
func (s SessionID) Valid() bool { return len(s) == 16 && only(string(s), isHexByte) }

// Valid reports whether t has the form of a terminal id.
func (t TerminalID) Valid() bool { return len(t) == 12 && only(string(t), isHexByte) }

func only(s string, ok func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isHexByte(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
func isTokenByte(c byte) bool {
	return isHexByte(c) || c >= 'g' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.:@", c) >= 0
}
