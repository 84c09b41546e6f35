package attach

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestIdentity(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b, err := id.MarshalBinary()
	if err != nil || len(b) > MaxIdentity {
		t.Fatal(len(b), err)
	}
	var same Identity
	if err := same.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if same.CertHash() != id.CertHash() || same.reset != id.reset || same.token != id.token {
		t.Error("another identity was read than written")
	}
	again, _ := same.MarshalBinary()
	if !bytes.Equal(again, b) {
		t.Error("it is written in another way than before")
	}
	other, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if other.CertHash() == id.CertHash() || other.reset == id.reset {
		t.Error("two identities are alike")
	}
	for n := range b {
		if err := new(Identity).UnmarshalBinary(b[:n]); err == nil {
			t.Fatalf("%d bytes of it were accepted", n)
		}
	}
	// Another's certificate does not go with the key.
	theirs, _ := other.MarshalBinary()
	cert := bytes.Index(b, id.cert.Certificate[0])
	if err := new(Identity).UnmarshalBinary(append(bytes.Clone(b[:cert-2]), theirs[bytes.Index(theirs, other.cert.Certificate[0])-2:]...)); err == nil {
		t.Error("a certificate of another key was accepted")
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "identity", id)
	if text := log.String() + fmt.Sprint(id); strings.Contains(text, "reset") || len(text) > 200 {
		t.Errorf("the keys are shown: %s", text)
	}
}

func FuzzIdentity(f *testing.F) {
	id, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	b, err := id.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var id Identity
		if id.UnmarshalBinary(b) != nil {
			return
		}
		again, err := id.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var same Identity
		if err := same.UnmarshalBinary(again); err != nil || same.CertHash() != id.CertHash() || same.reset != id.reset {
			t.Errorf("what was accepted is written as something else: %v", err)
		}
	})
}
