package app

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"hotdesk/dtu/network"
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
	Letter   string         `json:"letter,omitempty"` // what DHCP gave, A to D
	Server   netip.AddrPort `json:"server,omitzero"`
	Control  bool           `json:"control"` // the control connection is up
	Known    int            `json:"known"`   // servers that are tried when the host dies
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

	Network *network.State `json:"network,omitempty"` // with -dhcp
	// Trusted are the fingerprints of the authorities that are trusted, Asked
	// is the one that somebody must accept or decline.
	Trusted []string `json:"trusted,omitempty"`
	Asked   string   `json:"asked,omitempty"`

	// CardToPicture is how long the last card waited, from the reader's event
	// to the first whole picture of its session; "" before the first.
	CardToPicture string `json:"cardToPicture,omitempty"`
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

// maxPast bounds what a board remembers.
const maxPast = 64

// A board is where the loop shows its status. It remembers a little, so that
// who waits for a state sees it also where it did not last.
type board struct {
	mu      sync.Mutex
	past    []Status      // the newest last; never empty
	count   int           // statuses so far
	cards   []reader.Card // that the loop knows to be in
	changed chan struct{} // closed at the next change
}

func newBoard() *board { return &board{past: make([]Status, 1), changed: make(chan struct{})} }

// read returns the status, the cards and what is closed when they change.
func (b *board) read() (Status, []reader.Card, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.past[len(b.past)-1], b.cards, b.changed
}

// since returns the statuses after the first n, or as many as are remembered, but
// at least the last one; how many there have been; and what is closed at the next.
func (b *board) since(n int) (news []Status, count int, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.past[max(0, len(b.past)-max(1, b.count-n)):]), b.count, b.changed
}

// latest is how many statuses there have been.
func (b *board) latest() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// write shows a status, and says whether it is news.
func (b *board) write(s Status, cards []reader.Card) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reflect.DeepEqual(s, b.past[len(b.past)-1]) && slices.Equal(cards, b.cards) {
		return false
	}
	if len(b.past) == maxPast {
		b.past = append(b.past[:0], b.past[1:]...)
	}
	b.past, b.count, b.cards = append(b.past, s), b.count+1, cards
	close(b.changed)
	b.changed = make(chan struct{})
	return true
}

// publish shows where the loop stands, when the screen shows it too.
func (s *shell) publish() {
	s.draw()
	m := s.machine.Status()
	w, h := s.screen.Size()
	says := s.says(m.OSD)
	st := Status{
		State: m.State, Code: says.Code, Title: says.Title, Text: says.Text, Letter: s.letter(),
		Network: s.way.shown, Trusted: s.trusted(), Asked: s.asked(),
		Server: m.Server, Control: m.Control, Known: len(s.finder.Known()), Session: m.Session, Gen: m.Gen,
		Token: m.Token, TokenSeq: m.TokenSeq,
		Terminal: s.cfg.MAC, Width: w, Height: h, Layout: s.cfg.Layout, Counters: s.counters,
		CardToPicture: s.cardToPicture,
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
	if s.status.write(st, cards) && s.cfg.Told != nil {
		s.cfg.Told(st)
	}
}
