// Package wall is a page with all terminals of a fleet: a small picture of what
// each shows, which card is in it, and how it stands.
//
// Source: package guard, which keeps it to the person who started the fleet.
//
// Invariants:
//  1. However many look at the page, and however often, a sheet of pictures is
//     made once in Fresh at most.
//  2. The page changes nothing.
//
// A Wall is safe for concurrent use. Limits: perSheet terminals on a page;
// Thumb is the size of a picture.
package wall

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"net/http"
	"strconv"
	"sync"
	"time"

	"hotdesk/dtu/backend/workbench/guard"
)

const (
	// perSheet is how many terminals a page shows at a time.
	perSheet = 60
	// columns is how many of them stand in a row of a sheet.
	columns = 10
	// Fresh is how old a sheet may be.
	Fresh = time.Second
)

// Thumb is the size of a terminal's small picture.
var Thumb = image.Pt(192, 144)

// A Tile is how a terminal stands.
type Tile struct {
	Terminal string `json:"terminal"`
	Token    string `json:"token"` // of what is shown
	Card     string `json:"card"`  // that is in; "": none
	State    string `json:"state"` // dark, empty, waits, picture
	Says     string `json:"says"`  // on its screen
	Server   string `json:"server"`
	Wrong    int    `json:"wrong"` // violations
}

// States of tiles.
const (
	Dark    = "dark"
	Empty   = "empty" // no card is in
	Waits   = "waits" // for its session's picture
	Picture = "picture"
)

// Terminals are what a wall shows. Paint draws terminal n's picture, as small as
// dst's bounds, and leaves dst as it is where there is none.
type Terminals interface {
	Tiles() []Tile
	Paint(n int, dst *image.RGBA)
}

//go:embed files
var embedded embed.FS

// A Wall is the handler of the page.
type Wall struct {
	guard   *guard.Guard
	handler http.Handler
	from    Terminals
	head    func() string
	now     func() time.Time

	mu     sync.Mutex // one sheet is made at a time
	sheets map[int]sheet
}

type sheet struct {
	made time.Time
	png  []byte
}

// New makes a wall. head is a line about the whole run.
func New(from Terminals, head func() string, now func() time.Time) *Wall {
	w := &Wall{guard: guard.New(), from: from, head: head, now: now, sheets: map[int]sheet{}}
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /state", w.state)
	mux.HandleFunc("GET /sheet", w.sheet)
	w.handler = w.guard.Wrap(mux)
	return w
}

// Guard keeps the wall; it knows the address.
func (w *Wall) Guard() *guard.Guard { return w.guard }

// ServeHTTP serves the page.
func (w *Wall) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }

// part is the part of all terminals that a request asks for.
func part(r *http.Request, all []Tile) (page, from, to int, err error) {
	if page, err = strconv.Atoi(r.URL.Query().Get("page")); err != nil || page < 0 || page*perSheet >= max(1, len(all)) {
		return 0, 0, 0, fmt.Errorf("wall: no page %q", r.URL.Query().Get("page"))
	}
	return page, page * perSheet, min(len(all), (page+1)*perSheet), nil
}

func (w *Wall) state(rw http.ResponseWriter, r *http.Request) {
	all := w.from.Tiles()
	_, from, to, err := part(r, all)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"head": w.head(), "pages": (len(all) + perSheet - 1) / perSheet, "total": len(all), "first": from + 1,
		"columns": columns, "width": Thumb.X, "height": Thumb.Y, "tiles": all[from:to],
	}) // who asked may have gone
}

func (w *Wall) sheet(rw http.ResponseWriter, r *http.Request) {
	page, from, to, err := part(r, w.from.Tiles())
	if err != nil {
		http.Error(rw, err.Error(), http.StatusNotFound)
		return
	}
	text, err := w.make(page, from, to)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "image/png")
	_, _ = rw.Write(text)
}

// make returns a sheet: the terminals' pictures, row by row.
func (w *Wall) make(page, from, to int) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.sheets[page]; ok && w.now().Sub(s.made) < Fresh {
		return s.png, nil
	}
	rows := (to - from + columns - 1) / columns
	all := image.NewRGBA(image.Rect(0, 0, columns*Thumb.X, max(1, rows)*Thumb.Y))
	for n := from; n < to; n++ {
		at := image.Pt((n-from)%columns*Thumb.X, (n-from)/columns*Thumb.Y)
		one := image.NewRGBA(image.Rectangle{Max: Thumb})
		w.from.Paint(n, one)
		for y := range Thumb.Y {
			copy(all.Pix[all.PixOffset(at.X, at.Y+y):], one.Pix[y*one.Stride:][:one.Stride])
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, all); err != nil {
		return nil, fmt.Errorf("wall: %w", err)
	}
	w.sheets[page] = sheet{w.now(), b.Bytes()}
	return b.Bytes(), nil
}
