package emulated

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"sync/atomic"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
)

// slots are the keys that a card can have.
var slots = []struct {
	name string // in the card file
	ref  byte
}{{"9a", piv.Authentication}, {"9e", piv.CardAuthentication}}

// pivState is what a PIV card remembers.
type pivState struct {
	selected bool
	verified bool
	wrong    *atomic.Int32 // PINs in a row; the same for every insertion of a card
}

func (c *chip) reset() {
	c.selected, c.assembler = false, apdu.Assembler{}
	c.piv.selected, c.piv.verified = false, false
}

// loadKeys reads the files that the card file names.
func (p *Plastic) loadKeys(cards fs.FS) error {
	for _, s := range slots {
		if p.files["key"+s.name] == "" {
			continue
		}
		key, err := readPEM(cards, p.files["key"+s.name], "PRIVATE KEY")
		if err != nil {
			return err
		}
		cert, err := readPEM(cards, p.files["cert"+s.name], "CERTIFICATE")
		if err != nil {
			return err
		}
		private, err := parseKey(key)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrFile, p.files["key"+s.name], err)
		}
		parsed, err := x509.ParseCertificate(cert)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrFile, p.files["cert"+s.name], err)
		}
		if pub, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(parsed.PublicKey) {
			return fmt.Errorf("%w: %s is not the certificate of %s", ErrFile, p.files["cert"+s.name], p.files["key"+s.name])
		}
		if p.Keys == nil {
			p.Keys = map[byte]Key{}
		}
		p.Keys[s.ref] = Key{private, cert}
	}
	return nil
}

// maxPEM bounds a key's or certificate's file, in bytes.
const maxPEM = 16 << 10

func readPEM(cards fs.FS, name, kind string) ([]byte, error) {
	f, err := cards.Open(name)
	if err != nil {
		return nil, fmt.Errorf("emulated: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return nil, fmt.Errorf("emulated: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%w: %s holds no PEM block %q", ErrFile, name, kind)
	}
	return block.Bytes, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a PKCS #8 key") // the cause may show some of it
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return k, nil
		}
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n == 2048 || n == 3072 {
			return k, nil
		}
	}
	return nil, errors.New("neither P-256, P-384 nor RSA of 2048 or 3072 bits")
}

func status(s uint16) apdu.Response { return apdu.Response{Status: s} }

func (c *chip) answerPIV(cmd apdu.Command) apdu.Response {
	switch {
	case cmd.CLA != 0:
		return status(apdu.ClassNotSupported)
	case cmd.INS == apdu.InsSelect:
		return c.selectPIV(cmd)
	case !c.piv.selected:
		return status(apdu.ConditionsNotMet)
	}
	switch cmd.INS {
	case apdu.InsGetDataObject:
		return c.object(cmd)
	case apdu.InsVerify:
		return c.verify(cmd)
	case apdu.InsGeneralAuthenticate:
		return c.authenticate(cmd)
	}
	return status(apdu.InsNotSupported)
}

// selectPIV keeps what was selected if the new one is not there (SP 800-73-4
// part 2, section 3.1.1).
func (c *chip) selectPIV(cmd apdu.Command) apdu.Response {
	full := append(bytes.Clone(piv.AID), piv.Version...)
	switch {
	case cmd.P1 != 4 || cmd.P2 != 0:
		return status(apdu.WrongParameters)
	case len(cmd.Data) < 5 || !bytes.HasPrefix(full, cmd.Data):
		return status(apdu.FileNotFound)
	}
	if !c.piv.selected {
		c.piv.verified = false
	}
	c.piv.selected = true
	v := apdu.AppendTLV(nil, 0x4F, full[5:])
	v = apdu.AppendTLV(v, 0x79, apdu.AppendTLV(nil, 0x4F, piv.AID[:5]))
	v = apdu.AppendTLV(v, 0x50, []byte("Hotdesk emulated PIV card"))
	for _, algorithm := range []byte{piv.RSA2048, piv.RSA3072, piv.P256, piv.P384} {
		inner := apdu.AppendTLV(apdu.AppendTLV(nil, 0x80, []byte{algorithm}), 0x06, []byte{0})
		v = apdu.AppendTLV(v, 0xAC, inner)
	}
	return apdu.Response{Data: apdu.AppendTLV(nil, 0x61, v), Status: apdu.OK}
}

func (c *chip) object(cmd apdu.Command) apdu.Response {
	if cmd.P1 != 0x3F || cmd.P2 != 0xFF {
		return status(apdu.WrongParameters)
	}
	list, err := apdu.FindTLV(cmd.Data, 0x5C)
	if err != nil || len(list) == 0 || len(list) > 3 {
		return status(apdu.WrongData)
	}
	var tag uint32
	for _, v := range list {
		tag = tag<<8 | uint32(v)
	}
	var data []byte
	switch tag {
	case piv.CHUID:
		data = piv.AppendHolder(nil, piv.Holder{GUID: c.GUID, FASCN: noAgency, Expiry: "20991231"})
	case piv.CCC:
		data = c.capabilities()
	case piv.Discovery:
		v := apdu.AppendTLV(nil, 0x4F, append(bytes.Clone(piv.AID), piv.Version...))
		data = apdu.AppendTLV(nil, 0x7E, apdu.AppendTLV(v, 0x5F2F, []byte{0x40, 0x00}))
	default:
		for _, s := range slots {
			if k, ok := c.Keys[s.ref]; ok && piv.CertObject(s.ref) == tag {
				data = piv.AppendCert(nil, k.Cert)
			}
		}
	}
	if data == nil {
		return status(apdu.FileNotFound)
	}
	return apdu.Response{Data: data, Status: apdu.OK}
}

// noAgency is the FASC-N of cards that no federal agency issued (agency code
// 9999; SP 800-73-4 part 1, section 3.1.2), as many makers write it.
var noAgency = [piv.FASCNSize]byte{0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68, 0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB}

// capabilities is the card capability container (SP 800-73-4 part 1, table 8).
func (c *chip) capabilities() []byte {
	id := append([]byte{0xA0, 0x00, 0x00, 0x01, 0x16}, c.GUID[:]...)
	v := apdu.AppendTLV(nil, 0xF0, id)
	for _, o := range []struct {
		tag   uint32
		value []byte
	}{{0xF1, []byte{0x21}}, {0xF2, []byte{0x21}}, {0xF3, nil}, {0xF4, []byte{0}}, {0xF5, []byte{0x10}},
		{0xF6, nil}, {0xF7, nil}, {0xFA, nil}, {0xFB, nil}, {0xFC, nil}, {0xFD, nil}, {0xFE, nil}} {
		v = apdu.AppendTLV(v, o.tag, o.value)
	}
	return apdu.AppendTLV(nil, 0x53, v)
}

func (c *chip) verify(cmd apdu.Command) apdu.Response {
	if cmd.P2 != 0x80 {
		return status(apdu.DataNotFound)
	}
	if cmd.P1 == 0xFF && len(cmd.Data) == 0 {
		c.piv.verified = false
		return status(apdu.OK)
	}
	left := c.Tries - int(c.piv.wrong.Load())
	switch {
	case cmd.P1 != 0:
		return status(apdu.WrongParameters)
	case left <= 0:
		return status(apdu.Blocked)
	case len(cmd.Data) == 0 && c.piv.verified:
		return status(apdu.OK)
	case len(cmd.Data) == 0:
		return status(apdu.TriesLeft | uint16(left))
	case len(cmd.Data) != piv.MaxPIN:
		return status(apdu.WrongData)
	}
	want := append([]byte(c.PIN), bytes.Repeat([]byte{0xFF}, piv.MaxPIN-len(c.PIN))...)
	if subtle.ConstantTimeCompare(want, cmd.Data) != 1 {
		c.piv.verified = false
		c.piv.wrong.Add(1)
		if left == 1 {
			return status(apdu.Blocked)
		}
		return status(apdu.TriesLeft | uint16(left-1))
	}
	c.piv.verified = true
	c.piv.wrong.Store(0)
	return status(apdu.OK)
}

// The first step of an authentication with the card management key: the card
// gives a challenge (SP 800-73-4 part 2, section 3.2.4). There is no second one
// here, as nothing can be written; programs take challenges for random numbers.
const managementKey = 0x9B

var askChallenge = []byte{0x7C, 2, 0x81, 0}

func (c *chip) authenticate(cmd apdu.Command) apdu.Response {
	if cmd.P2 == managementKey && bytes.Equal(cmd.Data, askChallenge) {
		challenge := make([]byte, 8)
		rand.Read(challenge)
		return apdu.Response{Data: apdu.AppendTLV(nil, 0x7C, apdu.AppendTLV(nil, 0x81, challenge)), Status: apdu.OK}
	}
	key, ok := c.Keys[cmd.P2]
	switch {
	case !ok:
		return status(apdu.DataNotFound)
	case cmd.P2 == piv.Authentication && !c.piv.verified:
		return status(apdu.SecurityNotSatisfied)
	}
	challenge, err := piv.ParseAuthenticate(cmd.Data)
	if err != nil {
		return status(apdu.WrongData)
	}
	var signature []byte
	switch k := key.Private.(type) {
	case *ecdsa.PrivateKey:
		algorithm, size := byte(piv.P256), piv.HashSize
		if k.Curve == elliptic.P384() {
			algorithm, size = piv.P384, piv.Hash384Size
		}
		if cmd.P1 != algorithm {
			return status(apdu.WrongParameters)
		}
		if len(challenge) != size {
			return status(apdu.WrongData)
		}
		signature, err = ecdsa.SignASN1(rand.Reader, k, challenge)
	case *rsa.PrivateKey:
		algorithm := byte(piv.RSA2048)
		if k.N.BitLen() == 3072 {
			algorithm = piv.RSA3072
		}
		if cmd.P1 != algorithm {
			return status(apdu.WrongParameters)
		}
		// The card raises what it gets to its key's power; padding is the
		// caller's. crypto/rsa has no such operation, and an emulated card's
		// key needs no protection from those who measure time.
		m := new(big.Int).SetBytes(challenge)
		if len(challenge) != k.Size() || m.Cmp(k.N) >= 0 {
			return status(apdu.WrongData)
		}
		signature = m.Exp(m, k.D, k.N).FillBytes(make([]byte, k.Size()))
	}
	if err != nil {
		return status(apdu.NoDiagnosis)
	}
	return apdu.Response{Data: piv.AppendSignature(nil, signature), Status: apdu.OK}
}
