// Package page is the quickstart's web page: several terminals side by side on
// one desk, and cards to drag from one to the other.
//
// Source: the workbench of each terminal (hotdesk/dtu/backend/workbench), shown
// in a frame through a reverse proxy, so that the browser sees one origin.
//
// Invariants:
//  1. A card is in one terminal at most: to put it into another, Move pulls it
//     out first.
//  2. The terminals' own secrets never reach the browser; the page has its own.
//
// A Page is safe for concurrent use. Limits: maxBody, MaxTerminals, and those
// of the workbench.
package page

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"

	"hotdesk/dtu/backend/workbench"
	"hotdesk/dtu/backend/workbench/guard"
)

const (
	// MaxTerminals is how many terminals one desk has room for.
	MaxTerminals = 4
	// maxBody bounds a request or an answer, in bytes.
	maxBody = 64 << 10
	// answerTime is how long a terminal may take to move a card.
	answerTime = 10 * time.Second
)

//go:embed files
var embedded embed.FS

// A Terminal is one that the page shows.
type Terminal struct {
	Name string   // as people call it: "Terminal A"
	Host string   // the host it belongs to
	URL  *url.URL // its workbench, secret included
}

// A Page is the handler of everything on it.
type Page struct {
	guard     *guard.Guard
	handler   http.Handler
	terminals []Terminal
	client    *http.Client

	mu sync.Mutex // one card moves at a time
}

// New makes a page. It panics on more than MaxTerminals.
func New(terminals []Terminal) *Page {
	if len(terminals) > MaxTerminals {
		panic("page: too many terminals")
	}
	// Terminals are on this host: no proxy of the environment stands between.
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext, IdleConnTimeout: time.Minute}
	p := &Page{
		guard:     guard.New(),
		terminals: slices.Clone(terminals),
		client:    &http.Client{Transport: transport, Timeout: answerTime},
	}
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	index := template.Must(template.ParseFS(files, "index.html"))
	mux := http.NewServeMux()
	for _, name := range []string{"page.js", "page.css"} {
		mux.Handle("GET /"+name, http.FileServerFS(files))
	}
	for _, name := range []string{"desk.js", "desk.css"} {
		mux.Handle("GET /"+name, http.FileServerFS(workbench.Files()))
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { p.index(w, index) })
	mux.HandleFunc("POST /api/move", p.move)
	for i, t := range p.terminals {
		mux.Handle(folder(i), http.StripPrefix(folder(i)[:2], proxy(t, transport)))
	}
	p.handler = p.guard.Wrap(mux)
	return p
}

// Path is the page's path and query, with its secret.
func (p *Page) Path() string { return p.guard.Path() }

// ServeHTTP serves the page.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// folder is the path that terminal i has on the page.
func folder(i int) string { return "/" + string(rune('a'+i)) + "/" }

func (p *Page) index(w http.ResponseWriter, index *template.Template) {
	type frame struct{ Terminal, Host, Folder string }
	var frames []frame
	for i, t := range p.terminals {
		frames = append(frames, frame{t.Name, t.Host, folder(i)[1:]})
	}
	var b bytes.Buffer
	if err := index.Execute(&b, frames); err != nil {
		http.Error(w, "page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes())
}

// proxy passes requests on to a terminal's workbench. The guard has let them
// through, so that they are the page's own; to the workbench they look like
// those of its own page.
func proxy(t Terminal, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = t.URL.Scheme, t.URL.Host, t.URL.Host
			r.Out.URL.RawQuery = t.URL.RawQuery
			r.Out.Header.Del("Cookie")
			if r.Out.Header.Get("Origin") != "" {
				r.Out.Header.Set("Origin", t.URL.Scheme+"://"+t.URL.Host)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Set-Cookie")
			r.Header.Del("Content-Security-Policy") // the page has the same
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, t.Name+" does not answer: is its program still running?", http.StatusBadGateway)
		},
	}
}

// move takes {"card": NAME, "terminal": NUMBER or null} and answers with the
// states of all terminals.
func (p *Page) move(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Card     string `json:"card"`
		Terminal *int   `json:"terminal"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ask)
	if err != nil || ask.Card == "" || ask.Terminal != nil && (*ask.Terminal < 0 || *ask.Terminal >= len(p.terminals)) {
		reply(w, http.StatusBadRequest, map[string]string{"error": `page: send {"card": NAME, "terminal": NUMBER or null}`})
		return
	}
	to := -1
	if ask.Terminal != nil {
		to = *ask.Terminal
	}
	states, err := p.Move(r.Context(), ask.Card, to)
	if err != nil {
		reply(w, http.StatusBadGateway, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusOK, states)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// Move pulls a card out of every terminal but number to, and inserts it there;
// to is -1 to leave it on the desk. It returns what the terminals say now.
func (p *Page) Move(ctx context.Context, card string, to int) ([]workbench.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]workbench.State, len(p.terminals))
	in := func(i int) bool {
		for _, c := range states[i].Cards {
			if c.Name == card {
				return c.Inserted
			}
		}
		return false
	}
	for i := range p.terminals {
		if err := p.ask(ctx, i, http.MethodGet, "api/state", nil, &states[i]); err != nil {
			return nil, err
		}
		if i != to && in(i) {
			if err := p.ask(ctx, i, http.MethodPost, "api/remove", nil, &states[i]); err != nil {
				return nil, err
			}
		}
	}
	if to >= 0 && !in(to) {
		if err := p.ask(ctx, to, http.MethodPost, "api/insert", map[string]string{"card": card}, &states[to]); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// ask sends a request to terminal i's workbench.
func (p *Page) ask(ctx context.Context, i int, method, path string, body any, answer *workbench.State) error {
	t := p.terminals[i]
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	u := *t.URL
	u.Path += path
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		// The error has the address in it, and that the secret.
		return fmt.Errorf("page: %s does not answer: is its program still running?", t.Name)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("page: %s: %w", t.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		var why struct{ Error string }
		if json.Unmarshal(text, &why) != nil || why.Error == "" {
			why.Error = resp.Status
		}
		return fmt.Errorf("page: %s: %s", t.Name, why.Error)
	}
	*answer = workbench.State{}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("page: %s: %w", t.Name, err)
	}
	return nil
}
