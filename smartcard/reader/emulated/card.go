package emulated

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
)

const (
	// MaxFile bounds a card file, in bytes.
	MaxFile = 4 << 10
	// MaxCards bounds the cards of a folder.
	MaxCards = 256
	// SecretSize is the length of a card's secret in bytes.
	SecretSize = 16
	maxText    = 64
)

// Secret is what a card never tells. It hides itself in logs.
type Secret [SecretSize]byte

func (Secret) String() string       { return "(secret)" }
func (Secret) GoString() string     { return "(secret)" }
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// Plastic is a card as its file describes it.
type Plastic struct {
	ATR    []byte // none: the card is mute
	Type   string // "simple": it answers as Hotdesk's simple card; "plain": it refuses every command
	ID     [apdu.SimpleIDSize]byte
	Secret Secret
	Name   string // its holder, for people
}

// ErrFile is wrapped by every error of Parse.
var ErrFile = errors.New("emulated: bad card file")

// Parse reads a card file: lines "key = value", each key once; blank lines and
// those that begin with # are passed over.
//
//	atr = 3b08484f544445534b31      hex, at most 33 bytes; absent: a mute card
//	type = simple                   or plain
//	id = 0123456789abcdef           16 hex digits, of a simple card
//	secret = 0123...                32 hex digits, of a simple card
//	name = Ada                      free text
func Parse(text string) (Plastic, error) {
	p := Plastic{Type: "plain"}
	if len(text) > MaxFile {
		return Plastic{}, fmt.Errorf("%w: larger than %d bytes", ErrFile, MaxFile)
	}
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			return Plastic{}, fmt.Errorf("%w: line %d is not 'key = value'", ErrFile, n)
		}
		if seen[key] {
			return Plastic{}, fmt.Errorf("%w: line %d: %s stands there twice", ErrFile, n, key)
		}
		seen[key] = true
		if err := p.set(key, value); err != nil {
			return Plastic{}, fmt.Errorf("%w: line %d: %w", ErrFile, n, err)
		}
	}
	if p.Type == "simple" && (!seen["id"] || !seen["secret"]) {
		return Plastic{}, fmt.Errorf("%w: a simple card needs id and secret", ErrFile)
	}
	return p, nil
}

// set takes one value. Its errors never repeat a secret.
func (p *Plastic) set(key, value string) error {
	switch key {
	case "atr":
		if len(value) > 2*alp.MaxATR {
			return fmt.Errorf("atr of more than %d bytes", alp.MaxATR)
		}
		atr, err := hex.DecodeString(value)
		if err != nil {
			return fmt.Errorf("atr is not hex: %q", value)
		}
		p.ATR = atr
	case "type":
		if value != "simple" && value != "plain" {
			return fmt.Errorf("type %q; known are simple and plain", value)
		}
		p.Type = value
	case "id":
		return exactHex(key, p.ID[:], value)
	case "secret":
		return exactHex(key, p.Secret[:], value)
	case "name":
		if len(value) > maxText || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("name of more than %d bytes, or not printable", maxText)
		}
		p.Name = value
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

func exactHex(key string, dst []byte, value string) error {
	if len(value) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s must have %d hex digits", key, hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, []byte(value)); err != nil {
		return fmt.Errorf("%s must have %d hex digits", key, hex.EncodedLen(len(dst)))
	}
	return nil
}

// chip is the card's own program: what it has selected, and its answers.
type chip struct {
	Plastic
	selected bool
}

func (c *chip) answer(cmd apdu.Command) apdu.Response {
	switch {
	case c.Type != "simple":
		return apdu.Response{Status: apdu.InsNotSupported}
	case cmd.CLA != 0:
		return apdu.Response{Status: apdu.ClassNotSupported}
	case cmd.INS == apdu.InsSelect:
		c.selected = cmd.P1 == 4 && cmd.P2 == 0 && string(cmd.Data) == string(apdu.SimpleAID)
		if !c.selected {
			return apdu.Response{Status: apdu.FileNotFound}
		}
		return apdu.Response{Status: apdu.OK}
	case cmd.INS == apdu.InsGetData && !c.selected:
		return apdu.Response{Status: apdu.ConditionsNotMet}
	case cmd.INS == apdu.InsGetData && (int(cmd.P1)<<8|int(cmd.P2)) != apdu.SimpleID:
		return apdu.Response{Status: apdu.DataNotFound}
	case cmd.INS == apdu.InsGetData && (len(cmd.Data) != 0 || cmd.Le < apdu.SimpleIDSize):
		return apdu.Response{Status: apdu.WrongLength}
	case cmd.INS == apdu.InsGetData:
		return apdu.Response{Data: c.ID[:], Status: apdu.OK}
	}
	return apdu.Response{Status: apdu.InsNotSupported}
}
