package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"hotdesk/smartcard/piv"
)

var statement = Statement{Token: "piv.01", Terminal: "02005e000001", Channel: [32]byte{0: 1, 31: 2}, Nonce: [32]byte{0: 3, 31: 4}, Time: 0x0102030405, Purpose: "first"}

func TestStatement(t *testing.T) {
	zeros := strings.Repeat("00", 30)
	want := hex.EncodeToString([]byte("hotdesk card proof 1\x00")) +
		"0005" + hex.EncodeToString([]byte("first")) +
		"0006" + hex.EncodeToString([]byte("piv.01")) +
		"000c" + hex.EncodeToString([]byte("02005e000001")) +
		"01" + zeros + "02" + "03" + zeros + "04" + "0000000102030405"
	if got := hex.EncodeToString(statement.Append([]byte{0xaa})); got != "aa"+want {
		t.Errorf("statement\n%s\nwant\n%s", got, want)
	}
	// No two statements are the same bytes: what one part gains another loses.
	other := statement
	other.Purpose, other.Token = "firstpiv", ".01"
	if bytes.Equal(statement.Append(nil), other.Append(nil)) {
		t.Error("two statements are one")
	}
	for algorithm, size := range map[byte]int{piv.P256: 32, piv.P384: 48, piv.RSA2048: 256, piv.RSA3072: 384} {
		if b, err := statement.Block(algorithm); err != nil || len(b) != size {
			t.Errorf("algorithm %02x: %d bytes, %v", algorithm, len(b), err)
		}
	}
	if b, err := statement.Block(0x06); err == nil || b != nil {
		t.Error("RSA-1024 has a block")
	}
	// The padding is the one that crypto/rsa makes.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	digest, hash := statement.Digest(piv.RSA2048)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.Hash(hash), digest)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := statement.Block(piv.RSA2048)
	m := new(big.Int).Exp(new(big.Int).SetBytes(signature), big.NewInt(int64(key.E)), key.N)
	if !bytes.Equal(m.FillBytes(make([]byte, 256)), block) {
		t.Error("the block is padded differently")
	}
}
