package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader"
)

const (
	// DefaultRules is the list of Rules.
	DefaultRules = "simple,piv,openpgp,iccsn,uid,atr"
	// MaxRules bounds a list of rules.
	MaxRules = 16
	// MaxRange bounds the bytes that a file rule takes.
	MaxRange = 32
)

// errBroken is wrapped where a rule knows the card and cannot read it.
var errBroken = errors.New("identity: the card stopped answering or answers nonsense")

// ErrRules is wrapped by every error of ParseRules.
var ErrRules = errors.New("identity: bad list of naming rules")

func broken(what string, err error) error {
	if errors.Is(err, reader.ErrRemoved) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", errBroken, what, err)
}

// Rules returns the rules of DefaultRules.
func Rules() []Rule {
	rules, err := ParseRules(DefaultRules)
	if err != nil {
		panic(err)
	}
	return rules
}

// ParseRules reads an admin's list: names separated by commas, asked in order.
//
//	simple    Hotdesk's simple card
//	piv       the GUID of the CHUID
//	openpgp   maker and serial of the OpenPGP card
//	iccsn     the serial in EF.ICCSN or EF.GDO of the card's master file
//	uid       a contactless card's UID; a card may make up a new one each time,
//	          and is then not named by this rule
//	file:AID:FILE:OFFSET:LENGTH:TYPE
//	          the bytes at OFFSET of a transparent file (four hex digits) of an
//	          application, as tokens of that type
//	atr       the ATR, which cards of one kind share; it asks the card nothing,
//	          and so also names those that answer nothing, where it comes first
func ParseRules(list string) ([]Rule, error) {
	known := map[string]Rule{
		"simple": {"simple", simple}, "piv": {"piv", byGUID}, "openpgp": {"openpgp", openPGP},
		"iccsn": {"iccsn", iccsn}, "uid": {"uid", uid}, "atr": {"atr", byATR},
	}
	var rules []Rule
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		r, ok := known[name]
		if args, isFile := strings.CutPrefix(name, "file:"); isFile {
			var err error
			if r, err = fileRule(args); err != nil {
				return nil, err
			}
		} else if !ok {
			return nil, fmt.Errorf("%w: no rule %q; there are simple, piv, openpgp, iccsn, uid, file:..., atr", ErrRules, name)
		}
		if rules = append(rules, r); len(rules) > MaxRules {
			return nil, fmt.Errorf("%w: more than %d", ErrRules, MaxRules)
		}
	}
	return rules, nil
}

// selected sends SELECT. It returns false for a card of another kind.
func selected(ctx context.Context, c reader.Card, aid []byte) (apdu.Response, bool, error) {
	r, err := transmit(ctx, c, apdu.Select(aid))
	return r, err == nil && r.Status == apdu.OK, err
}

func simple(ctx context.Context, c reader.Card) (string, bool, error) {
	if _, ok, err := selected(ctx, c, apdu.SimpleAID); !ok {
		return "", false, err
	}
	r, err := transmit(ctx, c, apdu.GetData(apdu.SimpleID))
	if err != nil {
		return "", false, broken("its id", err)
	}
	if r.Status != apdu.OK || len(r.Data) != apdu.SimpleIDSize {
		return "", false, broken("its id", fmt.Errorf("%d bytes, %s", len(r.Data), apdu.StatusText(r.Status)))
	}
	return hex.EncodeToString(r.Data), true, nil
}

func byGUID(ctx context.Context, c reader.Card) (string, bool, error) {
	if _, ok, err := selected(ctx, c, piv.AID); !ok {
		return "", false, err
	}
	r, err := transmit(ctx, c, piv.Get(piv.CHUID))
	switch {
	case err != nil:
		return "", false, broken("its CHUID", err)
	case r.Status != apdu.OK: // nobody personalised it
		return "", false, nil
	}
	h, err := piv.ParseHolder(r.Data)
	switch {
	case err != nil:
		return "", false, broken("its CHUID", err)
	case h.GUID != [piv.GUIDSize]byte{}:
		return hex.EncodeToString(h.GUID[:]), true, nil
	}
	return hex.EncodeToString(h.FASCN[:]), h.FASCN != [piv.FASCNSize]byte{}, nil
}

// openPGPAID begins the application's name; after it stand version, maker
// and serial: 2, 2 and 4 bytes, and 2 of no meaning.
var openPGPAID = []byte{0xD2, 0x76, 0x00, 0x01, 0x24, 0x01}

func openPGP(ctx context.Context, c reader.Card) (string, bool, error) {
	if _, ok, err := selected(ctx, c, openPGPAID); !ok {
		return "", false, err
	}
	r, err := transmit(ctx, c, apdu.GetData(0x004F))
	switch {
	case err != nil:
		return "", false, broken("its serial", err)
	case r.Status != apdu.OK || len(r.Data) != 16:
		return "", false, broken("its serial", fmt.Errorf("%d bytes, %s", len(r.Data), apdu.StatusText(r.Status)))
	}
	return hex.EncodeToString(r.Data[8:14]), true, nil
}

// Files of the master file with the card's serial.
const (
	efICCSN = 0x2F02 // also EF.GDO: the object 5A in it
	maxICC  = 32
)

func iccsn(ctx context.Context, c reader.Card) (string, bool, error) {
	// SELECT of the master file; some cards know it only without its id.
	r, err := transmit(ctx, c, apdu.Command{INS: apdu.InsSelect, P2: 0x0C, Data: []byte{0x3F, 0x00}})
	if err != nil || r.Status != apdu.OK {
		if err != nil {
			return "", false, err
		}
		if r, err = transmit(ctx, c, apdu.Command{INS: apdu.InsSelect, P2: 0x0C}); err != nil || r.Status != apdu.OK {
			return "", false, err
		}
	}
	data, ok, err := readFile(ctx, c, efICCSN, 0, apdu.MaxShortLe)
	if !ok {
		return "", false, err
	}
	serial, err := apdu.FindTLV(data, 0x5A)
	if err != nil || len(serial) < 4 || len(serial) > maxICC {
		return "", false, nil // a file of another meaning
	}
	return hex.EncodeToString(serial), true, nil
}

// readFile selects a transparent file below what is selected and reads it.
func readFile(ctx context.Context, c reader.Card, file uint16, offset, n int) ([]byte, bool, error) {
	r, err := transmit(ctx, c, apdu.Command{INS: apdu.InsSelect, P1: 2, P2: 0x0C, Data: []byte{byte(file >> 8), byte(file)}})
	if err != nil || r.Status != apdu.OK {
		return nil, false, err
	}
	r, err = transmit(ctx, c, apdu.Command{INS: insReadBinary, P1: byte(offset >> 8), P2: byte(offset), Le: n})
	if err != nil {
		return nil, false, broken(fmt.Sprintf("file %04x", file), err)
	}
	return r.Data, r.Status == apdu.OK || r.Status == endOfFile, nil
}

const (
	insReadBinary = 0xB0
	endOfFile     = 0x6282
)

// randomUID is the first byte of a four-byte UID that a card makes up each time
// (ISO 14443-3 section 6.5.4).
const randomUID = 0x08

func uid(ctx context.Context, c reader.Card) (string, bool, error) {
	r, err := transmit(ctx, c, apdu.Command{CLA: 0xFF, INS: apdu.InsGetData, Le: apdu.MaxShortLe})
	switch n := len(r.Data); {
	case errors.Is(err, reader.ErrRemoved):
		return "", false, err
	case err != nil: // the class is the reader's, and a card that got it may stay mute
		return "", false, nil
	case r.Status != apdu.OK || n < 4 || n > 10 || n == 4 && r.Data[0] == randomUID:
		return "", false, nil
	}
	return hex.EncodeToString(r.Data), true, nil
}

// fileRule reads AID:FILE:OFFSET:LENGTH:TYPE.
func fileRule(args string) (Rule, error) {
	fail := func(what string) (Rule, error) {
		return Rule{}, fmt.Errorf("%w: file:%s: %s; it is file:AID:FILE:OFFSET:LENGTH:TYPE", ErrRules, args, what)
	}
	f := strings.Split(args, ":")
	if len(f) != 5 {
		return fail(fmt.Sprintf("%d parts", len(f)))
	}
	aid, err := hex.DecodeString(f[0])
	if err != nil || len(aid) < 5 || len(aid) > 16 {
		return fail("the AID must have 10 to 32 hex digits")
	}
	file, err := strconv.ParseUint(f[1], 16, 16)
	if err != nil || len(f[1]) != 4 {
		return fail("the file must have four hex digits")
	}
	offset, err := strconv.ParseUint(f[2], 10, 15)
	if err != nil {
		return fail("the offset must be 0 to 32767")
	}
	n, err := strconv.Atoi(f[3])
	if err != nil || n < 1 || n > MaxRange {
		return fail(fmt.Sprintf("the length must be 1 to %d", MaxRange))
	}
	kind := f[4]
	if kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(kind) > 16 {
		return fail("the type must have 1 to 16 small letters and digits")
	}
	return Rule{kind, func(ctx context.Context, c reader.Card) (string, bool, error) {
		if _, ok, err := selected(ctx, c, aid); !ok {
			return "", false, err
		}
		data, ok, err := readFile(ctx, c, uint16(file), int(offset), n)
		if err != nil {
			return "", false, broken(fmt.Sprintf("file %04x", file), err)
		}
		if !ok || len(data) < n {
			return "", false, broken(fmt.Sprintf("file %04x", file), fmt.Errorf("%d bytes at %d, %d wanted", len(data), offset, n))
		}
		return hex.EncodeToString(data[:n]), true, nil
	}}, nil
}
