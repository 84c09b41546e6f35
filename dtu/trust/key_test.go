package trust

import (
	"bytes"
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "terminal.key")
	one, err := openKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	again, err := openKey(file)
	if err != nil || !one.PrivateKey.(*ecdsa.PrivateKey).Equal(again.PrivateKey) {
		t.Errorf("another key, %v", err)
	}
	s := &Store{key: one}
	if c := s.TLS(); len(c.Certificates) != 1 || !bytes.Equal(c.Certificates[0].Certificate[0], one.Certificate[0]) {
		t.Error("it is not shown")
	}
	if c := new(Store).TLS(); len(c.Certificates) != 0 {
		t.Error("a key of nobody's")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openKey(file); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Error(err)
	}
	for _, text := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openKey(bad); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}
