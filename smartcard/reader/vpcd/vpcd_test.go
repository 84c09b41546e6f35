package vpcd

import (
	"encoding/hex"
	"io"
	"net"
	"testing"
	"testing/fstest"

	"hotdesk/smartcard/reader/emulated"
)

// TestServe: the bytes of the driver's protocol, both ways.
func TestServe(t *testing.T) {
	r := emulated.New(fstest.MapFS{"a.card": {Data: []byte("atr = 3b0400112233\n")}})
	defer r.Close()
	c, err := r.Insert("a")
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan error)
	go func() { done <- Serve(t.Context(), far, c) }()
	for _, step := range []struct{ send, want string }{
		{"000101", ""}, {"000104", "00063b0400112233"}, {"000102", ""}, {"000500ca010100", "00026d00"}, {"000100", ""},
	} {
		b, _ := hex.DecodeString(step.send)
		if _, err := near.Write(b); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(step.want)/2)
		if _, err := io.ReadFull(near, got); err != nil || hex.EncodeToString(got) != step.want {
			t.Errorf("%s: %x, %v", step.send, got, err)
		}
	}
	near.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"0000", "000103", "000109"} {
		near, far := net.Pipe()
		go func() { done <- Serve(t.Context(), far, c) }()
		b, _ := hex.DecodeString(bad)
		if _, err := near.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil {
			t.Errorf("%s: taken", bad)
		}
		near.Close()
	}
}
