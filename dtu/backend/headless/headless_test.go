package headless

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"testing"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/backendtest"
)

var _ backend.Display = (*Display)(nil)

func TestPNG(t *testing.T) {
	p := backendtest.NewPicture(5, 3)
	p.Fill(image.Rect(1, 1, 4, 2), color.RGBA{0x10, 0x20, 0x30, 0xff})
	var file bytes.Buffer
	if err := WritePNG(&file, Capture(p)); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds() != image.Rect(0, 0, 5, 3) {
		t.Errorf("%v", img.Bounds())
	}
	for y := range 3 {
		for x := range 5 {
			want := color.RGBA{0, 0, 0, 0xff}
			if image.Pt(x, y).In(image.Rect(1, 1, 4, 2)) {
				want = color.RGBA{0x10, 0x20, 0x30, 0xff}
			}
			if got := color.RGBAModel.Convert(img.At(x, y)); got != want {
				t.Errorf("%d,%d is %v, want %v", x, y, got, want)
			}
		}
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New().Run(ctx, nil, nil); err != nil {
		t.Error(err)
	}
}
