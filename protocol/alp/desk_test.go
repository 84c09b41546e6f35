package alp

import (
	"reflect"
	"testing"
)

func TestDeskReq(t *testing.T) {
	r := DeskReq{Identity: Identity{Firmware: "f", Hardware: "h", Terminal: "080020000001", Port: 1}, TokenSeq: 7, Wish: WishLeave}
	const want = "deskReq fw=f hw=h namespace=IEEE802 pn=1 sn=080020000001 tokenSeq=7 wish=leave\n"
	line := r.Message().Append(nil)
	if string(line) != want {
		t.Errorf("%q", line)
	}
	m, err := Parse(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDeskReq(m); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	m.Keys[len(m.Keys)-1].Value = "burn"
	if _, err := ParseDeskReq(m); err == nil {
		t.Error("an unknown wish")
	}
}

func FuzzDeskReq(f *testing.F) {
	f.Add([]byte("deskReq fw=f hw=h namespace=IEEE802 pn=1 sn=080020000001 tokenSeq=7 wish=leave"))
	f.Add([]byte("deskReq fw=f hw=h namespace=IEEE802 pn=1 sn=080020000001 tokenSeq=7 wish=switch"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			return
		}
		r, err := ParseDeskReq(m)
		if err != nil {
			return
		}
		back, err := Parse(r.Message().Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseDeskReq(back); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v, %v, want %+v", again, err, r)
		}
	})
}
