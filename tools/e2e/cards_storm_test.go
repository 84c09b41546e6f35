package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dtu "hotdesk/dtu/app"
	"hotdesk/dtu/backend"
	"hotdesk/dtu/screen"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
	"hotdesk/smartcard/reader/emulated/issuer"
)

// A glass is the display of a terminal within this process: it sees every frame
// that is drawn, and has the keyboard.
type glass struct {
	see   func(read func(r image.Rectangle, pix []byte, stride int))
	ready chan backend.Hands
}

func (g glass) Run(ctx context.Context, p backend.Picture, h backend.Hands) error {
	stop := p.(*screen.Screen).Each(g.see)
	defer stop()
	g.ready <- h
	<-ctx.Done()
	return nil
}

// A stormy is what a storm of card pulls is watched by. Each time that a card
// goes in begins a generation.
type stormy struct {
	colours [3]string // of the cards' desktops, by card; 0: none

	// mu is held for reading while a key is pressed, and for writing while
	// what may be shown and typed changes.
	mu   sync.RWMutex
	gen  int
	card int         // that is in, or may be; 0: none, and its removal was told
	of   map[int]int // generation -> card

	may     atomic.Int32 // card, for who looks at the screen
	frames  atomic.Int32
	shown   [3]atomic.Int32
	wrong   atomic.Int32
	example atomic.Value // of what is wrong
}

// see looks at one frame.
func (s *stormy) see(read func(r image.Rectangle, pix []byte, stride int)) {
	var pix [4]byte
	read(image.Rect(790, 630, 791, 631), pix[:], 4)
	have := fmt.Sprintf("%02x%02x%02x", pix[2], pix[1], pix[0])
	s.frames.Add(1)
	for card, c := range s.colours {
		if c != have {
			continue
		}
		s.shown[card].Add(1)
		if may := s.may.Load(); may != int32(card) {
			s.wrong.Add(1)
			s.example.CompareAndSwap(nil, fmt.Sprintf("the desktop of card %d is drawn while card %d is in", card, may))
		}
	}
}

// in is called before a card goes in, and out when its removal is done.
func (s *stormy) in(card int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	s.card, s.of[s.gen] = card, card
	s.may.Store(int32(card))
}

func (s *stormy) out() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.card = 0
	s.may.Store(0)
}

// usages of the characters that are typed.
var usages = map[rune]uint16{'g': 0x0a, 'h': 0x0b, 'x': 0x1b, '\n': 0x28, '0': 0x27}

// token types which generation it is, twice, or an x when no card is in.
func (s *stormy) token(h backend.Hands) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	text := "x"
	if s.card != 0 {
		text = fmt.Sprintf("g%05dh%05d\n", s.gen, s.gen)
	}
	for _, r := range text {
		u := usages[r]
		if u == 0 {
			u = 0x1e + uint16(r-'1')
		}
		h.Key(u, true)
		h.Key(u, false)
	}
}

var tokens = regexp.MustCompile(`g(\d{5})h(\d{5})\n`)

// heard checks what came to a card's session, and returns how many generations
// it heard of.
func (s *stormy) heard(t *testing.T, card int, text string) (n int) {
	t.Helper()
	if strings.Contains(text, "x") {
		t.Errorf("the session of card %d got what was typed while no card was in", card)
	}
	last := 0
	for _, m := range tokens.FindAllStringSubmatch(text, -1) {
		if m[1] != m[2] {
			continue // the beginning of one, and the end of another
		}
		gen, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if s.of[gen] != card || gen < last {
			t.Errorf("the session of card %d got what was typed in generation %d, of card %d, after %d", card, gen, s.of[gen], last)
		}
		if gen != last {
			n++
		}
		last = gen
	}
	return n
}

// The out-in-out storm on real programs: two cards that prove themselves each
// time and are used by programs in their sessions meanwhile, one terminal,
// pulls down to a millisecond apart. Every frame that the terminal draws is
// looked at, and every key is typed with the generation that it belongs to.
func TestCardStorm(t *testing.T) {
	pulls := 200
	if os.Getenv("HOTDESK_LONG") != "" {
		pulls = 5000
	}
	w := openWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute+time.Duration(pulls)*500*time.Millisecond)
	t.Cleanup(cancel)
	i, err := issuer.New(time.Now())
	must(t, err)
	for _, name := range []string{"one", "two"} {
		files, err := i.Card(issuer.Spec{Name: name, PIN: "123456", Now: time.Now()})
		must(t, err)
		for file, text := range files {
			must(t, os.WriteFile(w.lab.Path("cards", file), text, 0o600))
		}
	}
	list, err := i.Revoke()
	must(t, err)
	must(t, os.WriteFile(w.lab.Path("ours.crl"), list, 0o600))
	must(t, os.WriteFile(w.lab.Path("ours.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Authority.Raw}), 0o600))
	must(t, os.WriteFile(w.lab.Path("rules"), []byte("card piv piv-card piv-card\ncard * none none\nauthority ours.pem\ncrl ours.crl\n"), 0o600))
	north, err := w.lab.Host(ctx, "north", "-proof-rules", w.lab.Path("rules"))
	if north != nil {
		w.hosts["north"] = north
	}
	must(t, err)

	s := &stormy{colours: [3]string{1: "2a7f62", 2: "6a3d7c"}, of: map[int]int{}}
	term := newWithin(t, w, north.Addr, s)
	names := [3]string{1: "one", 2: "two"}
	for card := 1; card <= 2; card++ {
		s.in(card)
		must(t, term.insert(ctx, names[card]))
		must(t, term.wait(ctx, "picture", "pixel=400,300,"+xtermColour))
		must(t, term.rest(ctx))
		for _, line := range []string{
			"xsetroot -solid '#" + s.colours[card] + "'",
			bin + "/cardping 20 50ms > " + w.lab.Path("ping"+strconv.Itoa(card)) + " 2>&1 &",
			"cat > " + w.lab.Path("heard"+strconv.Itoa(card)),
		} {
			must(t, term.conn.Call(ctx, "type", map[string]string{"text": line + "\n"}, nil))
		}
		must(t, term.wait(ctx, corner+s.colours[card]))
		waitFile(t, w.lab.Path("heard"+strconv.Itoa(card)))
		must(t, term.remove(ctx))
		s.out()
	}
	before, err := north.Sessions()
	must(t, err)

	// The storm. Somebody types all the time.
	typing, stop := context.WithCancel(ctx)
	var typist sync.WaitGroup
	typist.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for typing.Err() == nil {
			s.token(term.hands)
			<-tick.C
		}
	})
	seed, began := rand.Uint64(), time.Now()
	rnd := rand.New(rand.NewPCG(seed, 0))
	gap := func(most int) { <-time.After(time.Duration(1+rnd.IntN(most)) * time.Millisecond) }
	for i := range pulls {
		card := 1 + rnd.IntN(2)
		s.in(card)
		must(t, term.insert(ctx, names[card]))
		if i%10 == 0 { // however busy the machine is, some come to be used
			must(t, term.wait(ctx, "picture", corner+s.colours[card]))
			s.token(term.hands)
		}
		gap([]int{2, 20, 150}[rnd.IntN(3)])
		must(t, term.remove(ctx))
		s.out()
		gap([]int{1, 20}[rnd.IntN(2)])
	}
	took := time.Since(began)
	stop()
	typist.Wait()

	// Afterwards both are as they were.
	for card := 1; card <= 2; card++ {
		s.in(card)
		must(t, term.insert(ctx, names[card]))
		must(t, term.wait(ctx, "picture", corner+s.colours[card]))
		last := fmt.Sprintf("g%05dh%05d\n", s.gen, s.gen)
		text := ""
		for until := time.Now().Add(patience); !strings.Contains(text, last); pause() {
			s.token(term.hands)
			b, err := os.ReadFile(w.lab.Path("heard" + strconv.Itoa(card)))
			must(t, err)
			if text = string(b); time.Now().After(until) {
				t.Fatalf("what is typed after the storm does not come to the session of card %d: %q", card, text[max(0, len(text)-100):])
			}
		}
		gens := s.heard(t, card, text)
		pings := w.lab.Path("ping" + strconv.Itoa(card))
		b, err := os.ReadFile(pings)
		must(t, err)
		n := strings.Count(string(b), " of 20\n")
		waitPing(t, pings, n)
		t.Logf("card %d: %d generations of %d were typed in, %d frames of it drawn, %d times its program had 20 exchanges", card, gens, s.gen, s.shown[card].Load(), n)
		if gens == 0 {
			t.Error("no generation got as far as the keyboard")
		}
		must(t, term.remove(ctx))
		s.out()
	}
	t.Logf("seed %d: %d pulls in %v, %d frames looked at", seed, pulls, took.Round(time.Millisecond), s.frames.Load())
	if n := s.wrong.Load(); n > 0 {
		t.Errorf("%d frames were wrong: %v", n, s.example.Load())
	}
	after, err := north.Sessions()
	must(t, err)
	if fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 2 {
		t.Errorf("sessions %v before, %v after", before, after)
	}
}

func waitFile(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(patience); ; pause() {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("no file %s", path)
		}
	}
}

// waitPing waits until a session's program has reached the card once more.
func waitPing(t *testing.T, path string, had int) {
	t.Helper()
	for until := time.Now().Add(patience); ; pause() {
		b, err := os.ReadFile(path)
		if err == nil && strings.Count(string(b), " of 20\n") > had {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the session's program does not reach the card after the storm: %v, %q", err, b[max(0, len(b)-300):])
		}
	}
}

// within is a terminal within this process.
type within struct {
	hand
	hands backend.Hands
}

func newWithin(t *testing.T, w *world, server string, s *stormy) within {
	t.Helper()
	addr, err := netip.ParseAddrPort(server)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(w.lab.Path("log", "storm.log"))
	if err != nil {
		t.Fatal(err)
	}
	g := glass{s.see, make(chan backend.Hands, 1)}
	cfg := dtu.Default()
	cfg.Local, cfg.Servers, cfg.Authority, cfg.GroupPort = true, []netip.AddrPort{addr}, w.lab.Authority(), 0
	cfg.Cards, cfg.Ctl, cfg.MAC, cfg.Width, cfg.Height = w.lab.Path("cards"), w.lab.Path("storm"), alp.TerminalID("02005e00770a"), 800, 640
	cfg.Show, cfg.Stdout, cfg.Log = g, io.Discard, slog.New(slog.NewTextHandler(log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := dtu.Run(ctx, cfg); err != nil {
			t.Errorf("the terminal: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait(); log.Close() })
	hands := <-g.ready
	var conn net.Conn
	for until := time.Now().Add(patience); conn == nil; pause() {
		if conn, err = net.Dial("unix", cfg.Ctl); err != nil && time.Now().After(until) {
			t.Fatal(err)
		}
	}
	h := hand{rpc.New(conn, nil)}
	running.Go(func() { _ = h.conn.Serve(ctx) })
	t.Cleanup(func() { h.conn.Close() })
	return within{h, hands}
}

func (w within) wait(ctx context.Context, conditions ...string) error {
	body, err := json.Marshal(map[string]any{"conditions": conditions, "timeout": patience})
	if err != nil {
		return err
	}
	return w.conn.Call(ctx, "wait", json.RawMessage(body), nil)
}

// rest waits until the picture has stopped changing.
func (w within) rest(ctx context.Context) error {
	last, equal := "", 0
	for until := time.Now().Add(patience); equal < 10; pause() {
		var hash string
		if err := w.conn.Call(ctx, "hash", nil, &hash); err != nil {
			return err
		}
		if hash != last {
			last, equal = hash, 0
		}
		if equal++; time.Now().After(until) {
			return errors.New("the picture does not come to rest")
		}
	}
	return nil
}
