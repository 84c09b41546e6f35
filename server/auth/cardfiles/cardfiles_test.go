package cardfiles

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/server/proof"
	"hotdesk/smartcard/reader/emulated/issuer"
)

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

const secrets = "# ada\n0123456789abcdef 00112233445566778899aabbccddeeff\n"

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	i, err := issuer.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := i.Revoke()
	if err != nil {
		t.Fatal(err)
	}
	write(t, at("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Authority.Raw}))
	write(t, at("ca.crl"), list)
	write(t, at("secrets"), []byte(secrets))
	write(t, at("rules"), []byte("card piv piv-card piv-card\ncard simple simple none\nauthority ca.pem\ncrl ca.crl\nsecrets secrets\nkeys "+at("keys")+"\n"))
	f, err := Open(at("rules"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if k := f.Kind("piv.01", proof.Reattach); k != proof.PIVCard {
		t.Errorf("kind %s", k)
	}
	first := f.Prepare("simple.0123456789abcdef", proof.First)
	if first.Kind != proof.Simple || first.Secret == nil || first.Secret[15] != 0xff || first.Trust == nil {
		t.Errorf("prepared %+v", first)
	}
	if c := f.Prepare("piv.0123456789abcdef", proof.First); c.Secret != nil || c.Trust != first.Trust || c.Known != "" || !c.FirstUse {
		t.Errorf("prepared %+v", c)
	}

	// A list that makes no sense leaves the old one in force, a new one counts.
	write(t, at("ca.crl"), []byte("half"))
	if c := f.Prepare("piv.01", proof.First); c.Trust != first.Trust {
		t.Error("a half list counts")
	}
	os.Remove(at("ca.crl"))
	if c := f.Prepare("piv.01", proof.First); c.Trust != first.Trust {
		t.Error("a lost list counts")
	}
	write(t, at("ca.crl"), list)
	if c := f.Prepare("piv.01", proof.First); c.Trust == first.Trust || c.Trust == nil {
		t.Error("a new list does not count")
	}

	// Keys stay, and one of a token is all there is.
	key, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	if err := f.Register("piv.01", key); err != nil {
		t.Fatal(err)
	}
	if err := f.Register("piv.01", other); err == nil {
		t.Error("a second key of a token")
	}
	g, err := Open(at("rules"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := g.Prepare("piv.01", proof.First); c.Known != key {
		t.Errorf("the key is %q after a restart", c.Known)
	}

	for name, spoil := range map[string]func(){
		"secrets that all can read": func() { os.Chmod(at("secrets"), 0o644) },
		"secrets":                   func() { write(t, at("secrets"), []byte("x y\n")) },
		"keys":                      func() { write(t, at("keys"), []byte("x y\n")) },
		"authority":                 func() { write(t, at("ca.pem"), []byte("x")) },
		"rules":                     func() { write(t, at("rules"), []byte("x")) },
	} {
		spoil()
		if _, err := Open(at("rules"), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzSecrets(f *testing.F) {
	f.Add([]byte(secrets))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSecrets(text)
		if err != nil && (s != nil || !errors.Is(err, ErrFile) || strings.Contains(err.Error(), "0011223344")) {
			t.Fatal(err)
		}
	})
}
