package app

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"hotdesk/dtu/terminal"
	"hotdesk/protocol/alp"
	"hotdesk/smartcard/reader"
)

// Status is what `dtu ctl status -json` prints.
type Status struct {
	State    terminal.State `json:"state"`
	Code     int            `json:"code"` // on-screen code, 0 while a picture is shown
	Title    string         `json:"title,omitempty"`
	Text     string         `json:"text,omitempty"`
	Server   netip.AddrPort `json:"server,omitzero"`
	Control  bool           `json:"control"` // the control connection is up
	Session  alp.SessionID  `json:"session,omitempty"`
	Gen      uint64         `json:"gen,omitempty"`
	Token    alp.Token      `json:"token,omitempty"`
	TokenSeq int            `json:"tokenSeq"`
	Card     string         `json:"card,omitempty"` // the card that is in
	Terminal alp.TerminalID `json:"terminal"`
	Width    int            `json:"width"`
	Height   int            `json:"height"`
	Layout   string         `json:"layout"`
	Counters Counters       `json:"counters"`
}

// Counters count since the terminal was started.
type Counters struct {
	Connects int `json:"connects"` // control connections tried
	Attaches int `json:"attaches"` // media connections tried
	Pictures int `json:"pictures"` // of those, shown
	Inserts  int `json:"inserts"`  // cards pushed in
}

// picture says whether the present token's session is on the screen.
func (s Status) picture() bool {
	return s.State == terminal.Picture || s.State == terminal.Reconnecting
}

// A board is where the loop shows its status.
type board struct {
	mu      sync.Mutex
	status  Status
	cards   []reader.Card // that the loop knows to be in
	changed chan struct{} // closed at the next change
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

// read returns the status, the cards and what is closed when they change.
func (b *board) read() (Status, []reader.Card, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.cards, b.changed
}

func (b *board) write(s Status, cards []reader.Card) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reflect.DeepEqual(s, b.status) && slices.Equal(cards, b.cards) {
		return
	}
	b.status, b.cards = s, cards
	close(b.changed)
	b.changed = make(chan struct{})
}

// publish shows where the loop stands.
func (s *shell) publish() {
	m := s.machine.Status()
	w, h := s.screen.Size()
	st := Status{
		State: m.State, Code: m.OSD.Code, Title: m.OSD.Title, Text: m.OSD.Text,
		Server: m.Server, Control: m.Control, Session: m.Session, Gen: m.Gen,
		Token: m.Token, TokenSeq: m.TokenSeq,
		Terminal: s.cfg.MAC, Width: w, Height: h, Layout: s.cfg.Layout, Counters: s.counters,
	}
	var cards []reader.Card
	for _, c := range s.in {
		cards = append(cards, c.card)
	}
	if len(s.in) > 0 {
		st.Card = "card"
		if c, ok := s.in[0].card.(interface{ Name() string }); ok {
			st.Card = c.Name()
		}
	}
	s.status.write(st, cards)
}
