//go:build linux

package framebuf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/dtu/backend/backendtest"
)

var (
	bgrx   = format{bytes: 4, red: field{16, 8}, green: field{8, 8}, blue: field{0, 8}}
	rgbx   = format{bytes: 4, red: field{0, 8}, green: field{8, 8}, blue: field{16, 8}}
	bgr    = format{bytes: 3, red: field{16, 8}, green: field{8, 8}, blue: field{0, 8}}
	rgb565 = format{bytes: 2, red: field{11, 5}, green: field{5, 6}, blue: field{0, 5}}
)

// screen makes a display over a file, with rows longer than the picture and a
// row above it that is not shown.
func screen(t *testing.T, f format, w, h int) *Display {
	t.Helper()
	f.w, f.h, f.stride = w, h, w*f.bytes+20
	f.start = f.stride + 4
	size := f.start + f.stride*h
	file, err := os.Create(filepath.Join(t.TempDir(), "fb"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(bytes.Repeat([]byte{0xEE}, size)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.check(size); err != nil {
		t.Fatal(err)
	}
	d := &Display{cfg: Config{Console: filepath.Join(t.TempDir(), "none"), Input: filepath.Join(t.TempDir(), "input")}, f: file, mem: mem, format: f}
	d.cfg.Log = slog.New(slog.DiscardHandler)
	return d
}

// pixel reads a pixel of the file, as the bytes that it has.
func (d *Display) pixel(t *testing.T, file string, x, y int) uint32 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v [4]byte
	copy(v[:], b[d.format.start+y*d.format.stride+x*d.format.bytes:][:d.format.bytes])
	return binary.LittleEndian.Uint32(v[:])
}

func TestShows(t *testing.T) {
	for _, tc := range []struct {
		name             string
		f                format
		red, white, blue uint32
	}{
		{"32 bits", bgrx, 0x5aff0000, 0x5affffff, 0x5a0000ff},
		{"32 bits, red first", rgbx, 0xff, 0xffffff, 0xff0000},
		{"24 bits", bgr, 0xff0000, 0xffffff, 0xff},
		{"16 bits", rgb565, 0xf800, 0xffff, 0x1f},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := screen(t, tc.f, 64, 48)
			name := d.f.Name()
			p := backendtest.NewPicture(64, 48)
			p.Fill(image.Rect(0, 0, 64, 48), color.RGBA{R: 255, A: 255})
			h := backendtest.NewHands()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			done := make(chan error)
			go func() { done <- d.Run(ctx, p, h) }()
			if e := <-h.Events; e != "resize 64x48" {
				t.Errorf("first told %q", e)
			}
			see := func(x, y int, want uint32) {
				t.Helper()
				for d.pixel(t, name, x, y) != want {
					if ctx.Err() != nil {
						t.Fatalf("pixel %d,%d is %#x, want %#x", x, y, d.pixel(t, name, x, y), want)
					}
				}
			}
			see(0, 0, tc.red)
			see(63, 47, tc.red)
			p.Fill(image.Rect(10, 10, 20, 20), color.RGBA{255, 255, 255, 255})
			see(19, 19, tc.white)
			see(20, 20, tc.red)
			p.Resize(32, 24) // smaller than the screen: black round it
			see(63, 47, 0)
			p.Fill(image.Rect(0, 0, 32, 24), color.RGBA{B: 255, A: 255})
			see(31, 23, tc.blue)
			see(32, 24, 0)
			p.Resize(100, 100) // larger: the top left part
			p.Fill(image.Rect(0, 0, 100, 100), color.RGBA{R: 255, A: 255})
			see(63, 47, tc.red)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			see(63, 47, 0)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b[:d.format.start], bytes.Repeat([]byte{0xEE}, d.format.start)) || b[d.format.start+64*d.format.bytes] != 0xEE {
				t.Error("written beside the picture")
			}
			if p.Watched() != 0 {
				t.Error("a watch is left open")
			}
		})
	}
}

// The bytes of the kernel's structures, of a bochs screen of 1280x1024.
func TestLayout(t *testing.T) {
	v, x := make([]byte, 160), make([]byte, 80)
	set := func(b []byte, at, v int) { binary.NativeEndian.PutUint32(b[at:], uint32(v)) }
	for at, n := range map[int]int{0: 1280, 4: 1024, 8: 1280, 12: 2048, 20: 1024, 24: 32, 32: 16, 36: 8, 44: 8, 48: 8, 56: 0, 60: 8} {
		set(v, at, n)
	}
	for at, n := range map[int]int{24: 1280 * 2048 * 4, 28: 0, 48: 5120} {
		set(x, at, n)
	}
	want := bgrx
	want.w, want.h, want.stride, want.start = 1280, 1024, 5120, 1024*5120
	got, size, err := layout(v, x, 8)
	if err != nil || got != want || size != 1280*2048*4 || got.check(size) != nil {
		t.Errorf("%+v, %d, %v; want %+v", got, size, err, want)
	}
	set(x, 28, 1)
	if _, _, err := layout(v, x, 8); !errors.Is(err, errFormat) {
		t.Errorf("planes: %v", err)
	}
	for _, change := range []func(*format){
		func(f *format) { f.w = 0 }, func(f *format) { f.h = maxSide + 1 }, func(f *format) { f.bytes = 1 },
		func(f *format) { f.stride = 100 }, func(f *format) { f.start = size }, func(f *format) { f.red.length = 9 },
		func(f *format) { f.blue.offset = 25 }, func(f *format) { f.green.offset = 1 << 31 },
	} {
		f := want
		change(&f)
		if err := f.check(size); !errors.Is(err, errFormat) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestNoFrameBuffer(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(Config{Device: filepath.Join(dir, "fb0")}); err == nil || !strings.Contains(err.Error(), "module") {
		t.Errorf("%v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Device: file}); err == nil || !strings.Contains(err.Error(), "FBIOGET_VSCREENINFO") {
		t.Errorf("%v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	for name, f := range map[string]format{"bgrx": bgrx, "rgb565": rgb565} {
		b.Run(name, func(b *testing.B) {
			f.w, f.h, f.stride = 1280, 1024, 1280*f.bytes
			mem, pix := make([]byte, f.stride*f.h), make([]byte, 4*f.w*f.h)
			b.SetBytes(int64(len(pix)))
			for b.Loop() {
				f.put(mem, image.Rect(0, 0, f.w, f.h), pix, 4*f.w)
			}
		})
	}
}
