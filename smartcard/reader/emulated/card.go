package emulated

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"unicode"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
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
	Type   string // "simple": Hotdesk's simple card; "piv": a PIV card; "plain": refuses every command
	ID     [apdu.SimpleIDSize]byte
	Secret Secret
	Name   string // its holder, for people
	GUID   [piv.GUIDSize]byte
	PIN    PIN
	Tries  int    // how often a wrong PIN may be said in a row
	UID    []byte // of a contactless card, as its reader tells it
	Keys   map[byte]Key

	files map[string]string // keys of the file that name other files
}

// PIN is a card's PIN. It hides itself in logs.
type PIN string

func (PIN) String() string       { return "(secret)" }
func (PIN) GoString() string     { return "(secret)" }
func (PIN) LogValue() slog.Value { return slog.StringValue("(secret)") }

// A Key is a key of a PIV card and its certificate.
type Key struct {
	Private crypto.Signer // *ecdsa.PrivateKey of P-256 or P-384, or *rsa.PrivateKey of 2048 or 3072 bits
	Cert    []byte        // DER
}

// String hides the key.
func (Key) String() string   { return "(secret)" }
func (Key) GoString() string { return "(secret)" }

// LogValue hides the key.
func (Key) LogValue() slog.Value { return slog.StringValue("(secret)") }

// ErrFile is wrapped by every error of Parse.
var ErrFile = errors.New("emulated: bad card file")

// Parse reads a card file: lines "key = value", each key once; blank lines and
// those that begin with # are passed over.
//
//	atr = 3b08484f544445534b31      hex, at most 33 bytes; absent: a mute card
//	type = simple                   or piv, plain
//	id = 0123456789abcdef           16 hex digits, of a simple card
//	secret = 0123...                32 hex digits, of a simple card
//	name = Ada                      free text
//	uid = 04a1b2c3                  hex, 4 to 10 bytes, of a contactless card
//	guid = 0123...                  32 hex digits, of a PIV card
//	pin = 123456                    six to eight digits, of a PIV card
//	tries = 3                       1 to 15, of a PIV card
//	key9a = ada-9a.key.pem          files in the same folder: PKCS #8 key and
//	cert9a = ada-9a.pem             X.509 certificate of PIV authentication;
//	key9e, cert9e                   the same of card authentication
//
// The files that it names are read when the card is put in.
func Parse(text string) (Plastic, error) {
	p := Plastic{Type: "plain", Tries: 3}
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
	if p.Type == "piv" && (!seen["guid"] || !seen["pin"]) {
		return Plastic{}, fmt.Errorf("%w: a PIV card needs guid and pin", ErrFile)
	}
	for _, k := range slots {
		if seen["key"+k.name] != seen["cert"+k.name] {
			return Plastic{}, fmt.Errorf("%w: key%s and cert%s go together", ErrFile, k.name, k.name)
		}
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
		if value != "simple" && value != "plain" && value != "piv" {
			return fmt.Errorf("type %q; known are simple, piv and plain", value)
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
	case "uid":
		uid, err := hex.DecodeString(value)
		if err != nil || len(uid) < 4 || len(uid) > 10 {
			return errors.New("uid must have 8 to 20 hex digits")
		}
		p.UID = uid
	case "guid":
		return exactHex(key, p.GUID[:], value)
	case "pin":
		if len(value) < piv.MinPIN || len(value) > piv.MaxPIN || strings.Trim(value, "0123456789") != "" {
			return fmt.Errorf("pin must have %d to %d digits", piv.MinPIN, piv.MaxPIN)
		}
		p.PIN = PIN(value)
	case "tries":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 15 {
			return errors.New("tries must be 1 to 15")
		}
		p.Tries = n
	case "key9a", "cert9a", "key9e", "cert9e":
		if !fs.ValidPath(value) || strings.Contains(value, "/") {
			return fmt.Errorf("%s = %q is not the name of a file in the folder", key, value)
		}
		if p.files == nil {
			p.files = map[string]string{}
		}
		p.files[key] = value
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
	selected  bool
	assembler apdu.Assembler
	piv       pivState
}

// exchange answers one command as it comes from the reader: a piece of a chain,
// a whole one, or GET RESPONSE.
func (c *chip) exchange(cmd apdu.Command) apdu.Response {
	if cmd.CLA == 0xFF {
		return c.pseudo(cmd)
	}
	whole, r, ok := c.assembler.Command(cmd)
	if !ok {
		return r
	}
	return c.assembler.Answer(whole, c.answer(whole))
}

// pseudo is what the reader of a contactless card answers itself (PC/SC part 3,
// section 3.2.2.1.3).
func (c *chip) pseudo(cmd apdu.Command) apdu.Response {
	switch {
	case cmd.INS != apdu.InsGetData || cmd.P1 != 0 || cmd.P2 != 0:
		return apdu.Response{Status: apdu.InsNotSupported}
	case len(c.UID) == 0:
		return apdu.Response{Status: 0x6A81}
	}
	return apdu.Response{Data: c.UID, Status: apdu.OK}
}

func (c *chip) answer(cmd apdu.Command) apdu.Response {
	switch {
	case c.Type == "piv":
		return c.answerPIV(cmd)
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
	case (cmd.INS == apdu.InsGetData || cmd.INS == apdu.InsInternalAuthenticate) && !c.selected:
		return apdu.Response{Status: apdu.ConditionsNotMet}
	case cmd.INS == apdu.InsGetData:
		return c.simpleID(cmd)
	case cmd.INS == apdu.InsInternalAuthenticate:
		return c.simpleProof(cmd)
	}
	return apdu.Response{Status: apdu.InsNotSupported}
}

func (c *chip) simpleID(cmd apdu.Command) apdu.Response {
	switch {
	case (int(cmd.P1)<<8 | int(cmd.P2)) != apdu.SimpleID:
		return apdu.Response{Status: apdu.DataNotFound}
	case len(cmd.Data) != 0 || cmd.Le < apdu.SimpleIDSize:
		return apdu.Response{Status: apdu.WrongLength}
	}
	return apdu.Response{Data: c.ID[:], Status: apdu.OK}
}

func (c *chip) simpleProof(cmd apdu.Command) apdu.Response {
	switch n := len(cmd.Data); {
	case cmd.P1 != 0 || cmd.P2 != 0:
		return apdu.Response{Status: apdu.WrongParameters}
	case n < apdu.MinChallenge || n > apdu.MaxChallenge || cmd.Le < apdu.SimpleProofSize:
		return apdu.Response{Status: apdu.WrongLength}
	}
	mac := hmac.New(sha256.New, c.Secret[:])
	mac.Write([]byte(apdu.SimpleLabel))
	mac.Write(cmd.Data)
	return apdu.Response{Data: mac.Sum(nil), Status: apdu.OK}
}
