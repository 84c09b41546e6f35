package input

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"hotdesk/protocol/alp"
)

var records = []struct {
	name   string
	record Record
	hex    string
}{
	{"key down", Record{Type: Key, Usage: 4, Down: true}, "01000401"},
	{"key up", Record{Type: Key, Usage: MaxUsage}, "0100e700"},
	{"pointer", Record{Type: Pointer, X: 1279, Y: 1023, Buttons: ButtonLeft | ButtonForward}, "0204ff03ff11"},
	{"pointer at the far corner", Record{Type: Pointer, X: alp.MaxSide - 1, Y: alp.MaxSide - 1, Buttons: buttonsAll}, "021fff1fff1f"},
	{"wheel up", Record{Type: Wheel, X: 0, Y: -1}, "030000ffff"},
	{"wheel far", Record{Type: Wheel, X: MaxWheel, Y: -MaxWheel}, "030040ffc0"},
	{"release", Record{Type: Release}, "04"},
	{"resize", Record{Type: Resize, X: 1920, Y: 1080}, "0507800438"},
	{"ack", Record{Type: Ack, Seq: 1<<32 - 1}, "06ffffffff"},
}

func TestRecords(t *testing.T) {
	seen := map[Type]bool{}
	for _, x := range records {
		t.Run(x.name, func(t *testing.T) {
			seen[x.record.Type] = true
			b := x.record.Append([]byte("before"))[len("before"):]
			if got := hex.EncodeToString(b); got != x.hex {
				t.Errorf("Append is %s, want %s", got, x.hex)
			}
			if len(b) != Size(x.record.Type) || len(b) > MaxSize {
				t.Errorf("%d bytes, Size says %d, MaxSize %d", len(b), Size(x.record.Type), MaxSize)
			}
			for n := range b {
				if r, rest, err := Next(b[:n]); err != ErrShort || r != (Record{}) || rest != nil {
					t.Errorf("the first %d bytes: %+v, %v", n, r, err)
				}
			}
			r, rest, err := Next(append(b, 9, 9))
			if err != nil || r != x.record || !bytes.Equal(rest, []byte{9, 9}) {
				t.Errorf("Next is %+v, % x, %v", r, rest, err)
			}
		})
	}
	for i := range 256 {
		if (Size(Type(i)) > 0) != seen[Type(i)] {
			t.Errorf("type %d has size %d and is in the table: %v", i, Size(Type(i)), seen[Type(i)])
		}
	}
}

var refused = []struct {
	name string
	hex  string
}{
	{"type 0", "00"},
	{"unknown type", "07"},
	{"key 0", "01000001"},
	{"key beyond the last", "0100e801"},
	{"key neither up nor down", "01000402"},
	{"pointer too far right", "022000000000"},
	{"pointer too far down", "020000200000"},
	{"unknown button", "020000000020"},
	{"wheel too far", "0300410000"},
	{"wheel too far back", "030000ffbf"},
	{"screen without width", "0500000400"},
	{"screen too high", "0504002001"},
}

func TestRefused(t *testing.T) {
	for _, x := range refused {
		t.Run(x.name, func(t *testing.T) {
			b, err := hex.DecodeString(x.hex)
			if err != nil {
				t.Fatal(err)
			}
			if r, rest, err := Next(b); !errors.Is(err, ErrRecord) || r != (Record{}) || rest != nil {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, r := range []Record{{}, {Type: 99}, {Type: Key}, {Type: Pointer, X: -1}, {Type: Wheel, Y: MaxWheel + 1}, {Type: Resize}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was written", r)
				}
			}()
			r.Append(nil)
		}()
	}
}

func FuzzNext(f *testing.F) {
	if len(records) == 0 || len(refused) == 0 {
		f.Fatal("no seeds")
	}
	var all []byte
	for _, x := range records {
		f.Add(x.record.Append(nil))
		all = x.record.Append(all)
	}
	f.Add(all)
	for _, x := range refused {
		b, _ := hex.DecodeString(x.hex)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			r, rest, err := Next(b)
			if err != nil {
				return
			}
			if got := r.Append(nil); !bytes.Equal(got, b[:len(b)-len(rest)]) {
				t.Fatalf("% x was read as %+v, which is written % x", b[:len(b)-len(rest)], r, got)
			}
			b = rest
		}
	})
}
