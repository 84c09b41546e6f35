// Package workbench is a terminal's display as a page in a web browser: a
// monitor with a card slot, which shows the screen live, takes keyboard and
// pointer, and has cards to insert and remove.
//
// Source: RFC 6455 (WebSocket); the UI Events and Pointer Events
// specifications for what the page sends.
//
// Invariants:
//  1. A viewer is sent the next picture only after it has shown the last one:
//     the newest wins, nothing queues up, and a slow viewer slows nobody else.
//  2. Keys and buttons that a viewer holds are let go when it goes away.
//  3. Only the person who started the terminal reaches it (package guard).
//
// Messages to the page: JSON text, a State, when it has changed; binary, an
// update: a head of 16 bytes (u32 1, u32 sequence, u16 width, u16 height,
// u32 number of rectangles), for each rectangle u16 x, y, w, h, then the
// pixels of each, R G B A; all little endian. Messages from the page: binary,
// records of protocol/input.
//
// A Workbench belongs to one Run. Limits: MaxViewers, maxMessage, maxBody.
package workbench

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/workbench/guard"
	"hotdesk/dtu/keymap"
)

const (
	// MaxViewers is how many pages may show one terminal at a time.
	MaxViewers = 16
	// maxMessage bounds one message of a page, in bytes.
	maxMessage = 4 << 10
	// maxBody bounds the body of a request, in bytes.
	maxBody = 4 << 10
	// drainTime is how long requests in progress may take at the end.
	drainTime = time.Second
)

//go:embed files
var embedded embed.FS

// Files are the page's own files; other pages with cards and slots use desk.js
// and desk.css of them.
func Files() fs.FS {
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return files
}

// Config says where the page is served.
type Config struct {
	Listen net.Listener // Run serves and closes it
	Log    *slog.Logger // nil is silent
	Title  string       // what the page calls the terminal
}

// A State is what the page shows beside the picture.
type State struct {
	Title  string             `json:"title"`
	Width  int                `json:"width"`
	Height int                `json:"height"`
	Cards  []backend.CardInfo `json:"cards"`
}

// A Workbench is one terminal's page.
type Workbench struct {
	cfg   Config
	guard *guard.Guard

	picture backend.Picture
	hands   backend.Hands
	viewers chan struct{} // holds one for each viewer there is
	active  sync.WaitGroup
}

// New makes the page's address; Run serves it.
func New(cfg Config) *Workbench {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Workbench{cfg: cfg, guard: guard.New(), viewers: make(chan struct{}, MaxViewers)}
}

// URL is the page's address. Whoever has it has the terminal.
func (b *Workbench) URL() string { return b.guard.URL(b.cfg.Listen.Addr()) }

// Run serves the page until ctx ends.
func (b *Workbench) Run(ctx context.Context, p backend.Picture, h backend.Hands) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.picture, b.hands = p, h
	server := &http.Server{
		Handler:           b.guard.Wrap(b.routes()),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(b.cfg.Listen) }()
	var err error
	select {
	case <-ctx.Done():
		// Requests see ctx end; connections without one are not waited for.
		drain, drained := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		server.Shutdown(drain)
		drained()
		server.Close()
		<-ended
	case err = <-ended:
		err = fmt.Errorf("workbench: %w", err)
		cancel()
	}
	b.active.Wait()
	return err
}

func (b *Workbench) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(Files()))
	mux.HandleFunc("GET /keys.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(keymap.CodesJSON())
	})
	mux.HandleFunc("GET /live", b.live)
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) { b.reply(w, nil) })
	mux.HandleFunc("POST /api/insert", b.insert)
	mux.HandleFunc("POST /api/remove", func(w http.ResponseWriter, _ *http.Request) { b.reply(w, b.hands.Remove()) })
	mux.HandleFunc("POST /api/power", func(w http.ResponseWriter, _ *http.Request) {
		b.hands.PowerCycle()
		b.reply(w, nil)
	})
	return mux
}

// insert takes {"card": NAME}.
func (b *Workbench) insert(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Card string `json:"card"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask); err != nil {
		b.reply(w, fmt.Errorf("workbench: send {\"card\": NAME}: %w", err))
		return
	}
	if ask.Card == "" {
		b.reply(w, errors.New("workbench: send {\"card\": NAME}"))
		return
	}
	b.reply(w, b.hands.Insert(ask.Card))
}

// reply sends the state as it is now, or why nothing was done.
func (b *Workbench) reply(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		return
	}
	w.Write(b.state())
}

// state is a State as JSON.
func (b *Workbench) state() []byte {
	s := State{Title: b.cfg.Title, Cards: b.hands.Cards()}
	s.Width, s.Height = b.picture.Size()
	if s.Cards == nil {
		s.Cards = []backend.CardInfo{}
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return text
}
