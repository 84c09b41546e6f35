package wall

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// few are terminals that count how often they are painted.
type few struct{ n, painted int }

func (f *few) Tiles() (all []Tile) {
	for n := range f.n {
		all = append(all, Tile{Terminal: fmt.Sprint(n), State: Empty})
	}
	return all
}

func (f *few) Paint(n int, dst *image.RGBA) {
	f.painted++
	draw.Draw(dst, dst.Rect, image.NewUniform(color.RGBA{byte(n), 1, 2, 255}), image.Point{}, draw.Src)
}

// Each terminal's picture is where the page looks for it, and a sheet is made
// once for whoever asks while it is fresh.
func TestSheet(t *testing.T) {
	now := time.Unix(1, 0)
	f := &few{n: perSheet + 3}
	w := New(f, func() string { return "so far" }, func() time.Time { return now })
	ask := func(path string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1:1"
		page := httptest.NewRequest(http.MethodGet, w.Guard().Path(), nil)
		page.Host = r.Host
		first := httptest.NewRecorder()
		w.ServeHTTP(first, page)
		for _, c := range first.Result().Cookies() {
			r.AddCookie(c)
		}
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec
	}
	sheet := func(page int) image.Image {
		t.Helper()
		img, err := png.Decode(ask(fmt.Sprintf("/sheet?page=%d", page)).Body)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := sheet(0)
	for _, n := range []int{0, 1, columns, perSheet - 1} {
		x, y := n%columns*Thumb.X+Thumb.X/2, n/columns*Thumb.Y+Thumb.Y/2
		if r, _, _, _ := img.At(x, y).RGBA(); byte(r) != byte(n) {
			t.Errorf("at the place of terminal %d: %v", n, img.At(x, y))
		}
	}
	sheet(0)
	if f.painted != perSheet {
		t.Errorf("painted %d times, want %d", f.painted, perSheet)
	}
	now = now.Add(Fresh)
	sheet(0)
	if f.painted != 2*perSheet {
		t.Errorf("an old sheet was not made anew: %d", f.painted)
	}
	if img := sheet(1); img.Bounds().Dy() != Thumb.Y {
		t.Errorf("the last page is %v", img.Bounds())
	}
	var s struct {
		Head  string
		Pages int
		Total int
		Tiles []Tile
	}
	if err := json.Unmarshal(ask("/state?page=1").Body.Bytes(), &s); err != nil || s.Head != "so far" || s.Pages != 2 || s.Total != f.n || len(s.Tiles) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"/state?page=2", "/state?page=-1", "/sheet?page=x", "/sheet"} {
		if code := ask(bad).Code; code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

// Nobody without the secret sees anything.
func TestGuarded(t *testing.T) {
	w := New(&few{n: 1}, func() string { return "" }, time.Now)
	for _, path := range []string{"/", "/state?page=0", "/sheet?page=0"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1:1"
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code != http.StatusForbidden {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}
