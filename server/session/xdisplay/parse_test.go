package xdisplay

import (
	"encoding/hex"
	"errors"
	"image"
	"testing"

	"github.com/BurntSushi/xgb/xproto"
)

// realXWD is the start of what Xvfb 21.1.7 wrote for -screen 0 2560x1600x24.
const realXWD = "000000a000000007000000020000001800000a0000000640000000000000000000000020000000000000002000000020" +
	"000028000000000400ff00000000ff00000000ff00000008000001000000010000000a000000064000000000000000000000" +
	"00005876666220766d3a302e3000000000000000000000000000000000000000000000000000000000000000000000000000"

// realAuthority is what xauth wrote.
const realAuthority = "01000002766d00013700124d49542d4d414749432d434f4f4b49452d310010ffeeddccbbaa99887766554433221100"

func unhex(tb testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestParseXWD(t *testing.T) {
	b := unhex(t, realXWD)
	const size = 160 + 256*12 + 2560*1600*4
	x, err := parseXWD(b, size)
	if want := (xwd{w: 2560, h: 1600, offset: 3232, stride: 10240}); err != nil || x != want {
		t.Errorf("%+v, %v; want %+v", x, err, want)
	}
	if x, err := parseXWD(b, size-1); !errors.Is(err, errXWD) || x != (xwd{}) {
		t.Errorf("%+v, %v for a file that is too short", x, err)
	}
}

func FuzzParseXWD(f *testing.F) {
	f.Add(unhex(f, realXWD), int64(1<<24))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		x, err := parseXWD(b, size)
		if err != nil {
			if x != (xwd{}) {
				t.Fatalf("%+v with %v", x, err)
			}
			return
		}
		if x.w < 1 || x.h < 1 || x.stride < x.w*4 || x.offset < xwdHeader || x.end() > size {
			t.Fatalf("%+v in %d bytes", x, size)
		}
	})
}

func FuzzParseAuthority(f *testing.F) {
	f.Add(unhex(f, realAuthority), "7")
	f.Fuzz(func(t *testing.T, b []byte, number string) {
		if c, err := parseAuthority(b, number); err != nil && c != nil {
			t.Fatalf("%x with %v", c, err)
		}
	})
}

func TestParseAuthority(t *testing.T) {
	b := unhex(t, realAuthority)
	for number, want := range map[string]string{"7": "ffeeddccbbaa99887766554433221100", "8": ""} {
		if c, err := parseAuthority(b, number); err != nil || hex.EncodeToString(c) != want {
			t.Errorf("display %s: %x, %v", number, c, err)
		}
	}
	if _, err := parseAuthority(b[:len(b)-1], "7"); err == nil {
		t.Error("a cut file is read")
	}
}

func TestBound(t *testing.T) {
	screen := image.Rect(0, 0, 100, 100)
	var many []xproto.Rectangle
	for y := range 100 {
		many = append(many, xproto.Rectangle{X: 10, Y: int16(y), Width: 1, Height: 1}, xproto.Rectangle{X: 50, Y: int16(y), Width: 1, Height: 1})
	}
	got := bound(many, screen)
	if len(got) > MaxDamage {
		t.Errorf("%d rectangles", len(got))
	}
	for _, r := range many {
		if !covers(got, image.Pt(int(r.X), int(r.Y))) {
			t.Errorf("%v is not covered", r)
		}
	}
	if got := bound([]xproto.Rectangle{{X: 90, Y: 90, Width: 50, Height: 50}, {X: 200, Y: 0, Width: 5, Height: 5}}, screen); len(got) != 1 || got[0] != image.Rect(90, 90, 100, 100) {
		t.Errorf("off the screen: %v", got)
	}
	if got := bound(nil, screen); got != nil {
		t.Errorf("nothing: %v", got)
	}
}

func TestWindow(t *testing.T) {
	for _, tc := range []struct{ side, hot, from, length int }{
		{0, 0, 0, 0}, {16, 8, 0, 16}, {256, 255, 0, 256}, {300, 0, 0, 256}, {300, 299, 44, 256}, {1000, 500, 372, 256},
	} {
		if from, length := window(tc.side, tc.hot); from != tc.from || length != tc.length {
			t.Errorf("%d, hot spot at %d: %d pixels from %d", tc.side, tc.hot, length, from)
		}
	}
}
