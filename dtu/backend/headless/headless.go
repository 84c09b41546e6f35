// Package headless is the display of a terminal without one: its picture is in
// memory, and becomes a PNG when somebody asks.
//
// Source: design section 6.
//
// Invariants: a PNG has the picture's pixels, opaque, none changed.
//
// The functions are safe for concurrent use.
package headless

import (
	"context"
	"image"
	"image/png"
	"io"

	"hotdesk/dtu/backend"
)

// Display shows nothing and has no hands.
type Display struct{}

// New makes a display.
func New() *Display { return &Display{} }

// Run waits for the end of ctx.
func (*Display) Run(ctx context.Context, _ backend.Picture, _ backend.Hands) error {
	<-ctx.Done()
	return nil
}

// Capture copies the whole picture.
func Capture(p backend.Picture) *image.RGBA {
	w, h := p.Size()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	p.Read(img.Rect, img.Pix, img.Stride)
	Convert(img.Pix)
	return img
}

// Convert turns pixels from B G R X to R G B A, opaque, in place.
func Convert(pix []byte) {
	for i := 0; i+3 < len(pix); i += 4 {
		pix[i], pix[i+2], pix[i+3] = pix[i+2], pix[i], 0xff
	}
}

// WritePNG writes img, quickly rather than small.
func WritePNG(w io.Writer, img image.Image) error {
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	return enc.Encode(w, img)
}
