package terminal

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
	"hotdesk/smartcard/apdu"
)

var update = flag.Bool("update", false, "rewrite the recorded outputs of the scenarios")

func identity() alp.Identity {
	return alp.Identity{Firmware: "test", Hardware: "Hotdesk", Terminal: "02005e000001", Port: 1}
}

// world plays the part of everything outside a machine, in the words of the
// scenario files.
type world struct {
	m              *Machine
	start, now     time.Time
	control, media int
}

func newWorld() *world {
	start := time.Unix(1e9, 0)
	return &world{
		m:     New(Config{Identity: identity(), Layout: "us", Width: 1280, Height: 1024}),
		start: start, now: start,
	}
}

func (w *world) step(e Event) []Action { return w.note(w.m.Step(w.now, e)) }

// note remembers the newest connections.
func (w *world) note(out []Action) []Action {
	for _, a := range out {
		switch a := a.(type) {
		case Connect:
			w.control = a.Control
		case OpenMedia:
			w.media = a.Media
		}
	}
	return out
}

func (w *world) line(m alp.Message) []Action { return w.step(Line{w.control, m}) }

// run carries out one line of a scenario and returns the actions that came of
// it, one a line.
func (w *world) run(line string) (string, error) {
	f := strings.Fields(line)
	rest := func(n int) string { return strings.Join(f[min(n, len(f)):], " ") }
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	var out []Action
	switch verb := rest(0); {
	case f[0] == "after":
		d, err := time.ParseDuration(f[1])
		return w.advance(d), err
	case f[0] == "asleep": // the terminal stands still, and wakes with what is due, if nothing else comes first
		d, err := time.ParseDuration(f[1])
		w.now = w.now.Add(d)
		if rest(2) == "wakes" {
			out = w.note(w.m.Tick(w.now))
		}
		return text(out), err
	case verb == "power on":
		out = w.step(PowerOn{})
	case verb == "power cycle":
		out = w.step(PowerCycle{})
	case f[0] == "resize":
		var e Resized
		if _, err := fmt.Sscanf(f[1], "%dx%d", &e.Width, &e.Height); err != nil {
			return "", err
		}
		out = w.step(e)
	case f[0] == "card" && f[2] == "in":
		out = w.step(CardIn{number(f[1])})
	case f[0] == "card" && f[2] == "out":
		out = w.step(CardOut{number(f[1])})
	case f[0] == "card" && f[2] == "is":
		kind, id, _ := strings.Cut(f[3], ".")
		out = w.step(CardRead{Card: number(f[1]), Type: kind, ID: id, ATR: []byte{0x3b, 0}})
	case f[0] == "card" && f[2] == "unreadable":
		out = w.step(CardUnreadable{Card: number(f[1]), Reason: rest(3)})
	case f[0] == "found":
		var e Found
		for _, s := range f[1:] {
			e.Servers = append(e.Servers, netip.MustParseAddrPort(s))
		}
		out = w.step(e)
	case verb == "search asks":
		out = w.step(Searched{})
	case f[0] == "search" && f[1] == "fails":
		out = w.step(Searched{rest(2)})
	case verb == "control up":
		out = w.step(ControlUp{w.control})
	case f[0] == "control" && len(f) == 3 && f[2] == "up":
		out = w.step(ControlUp{number(f[1])})
	case f[0] == "control" && len(f) == 4 && f[2] == "down":
		out = w.step(ControlDown{Control: number(f[1]), Reason: rest(3)})
	case f[0] == "control" && f[1] == "down":
		out = w.step(ControlDown{Control: w.control, Reason: rest(2)})
	case f[0] == "control" && f[1] == "untrusted":
		out = w.step(ControlDown{Control: w.control, Reason: rest(2), Untrusted: true})
	case f[0] == "allow":
		c := alp.ConnInf{TokenSeq: w.m.seq, Allowed: true, Token: w.m.tok.name(), Module: "card", MediaPort: 40000, Ticket: make([]byte, alp.TicketSize)}
		for i := 1; i+1 < len(f); i += 2 {
			switch f[i] {
			case "gen":
				c.Gen = uint64(number(f[i+1]))
			case "session":
				c.Session = alp.SessionID(f[i+1])
			case "host":
				c.Host = f[i+1]
			case "seq":
				c.TokenSeq = number(f[i+1])
			case "ticket":
				c.Ticket = nil
			}
		}
		out = w.line(c.Message())
	case f[0] == "deny":
		out = w.line(alp.ConnInf{TokenSeq: w.m.seq, Token: w.m.tok.name(), Module: "policy", OSD: number(f[1]), Cause: rest(2)}.Message())
	case f[0] == "disconnect":
		out = w.line(alp.DiscInf{TokenSeq: w.m.seq, OSD: number(f[1]), Cause: rest(2)}.Message())
	case f[0] == "redirect":
		to := netip.MustParseAddrPort(f[1])
		out = w.line(alp.RedirectInf{TokenSeq: w.m.seq, Addr: to.Addr(), Port: int(to.Port()), Props: "secret"}.Message())
	case f[0] == "notice":
		out = w.line(alp.NoticeInf{TokenSeq: w.m.seq, Seconds: number(f[1]), Text: rest(2)}.Message())
	case f[0] == "link":
		out = w.step(Link{Up: f[1] == "up"})
	case f[0] == "line":
		m, err := alp.Parse([]byte(rest(1)))
		if err != nil {
			return "", err
		}
		out = w.line(m)
	case f[0] == "server" && f[1] == "asks": // for the PIN, or for what an APDU in hex says
		q := alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "t", PIN: f[2] == "PIN"}
		if !q.PIN {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				return "", err
			}
			c, err := apdu.ParseCommand(b)
			if err != nil {
				return "", err
			}
			q.CLA, q.INS, q.P1, q.P2, q.Data, q.Le = c.CLA, c.INS, c.P1, c.P2, c.Data, c.Le
		}
		out = w.line(q.Message())
	case f[0] == "card" && f[2] == "answers":
		b, err := hex.DecodeString(f[3])
		if err != nil {
			return "", err
		}
		out = w.step(CardAnswered{Card: number(f[1]), Tag: "t", Answer: b})
	case f[0] == "card" && f[2] == "says": // of the PIN
		n, err := strconv.ParseUint(f[3], 16, 16)
		if err != nil {
			return "", err
		}
		out = w.step(PINGiven{Card: number(f[1]), Tag: "t", Status: uint16(n)})
	case f[0] == "card" && f[2] == "has": // tries of the PIN
		n, err := strconv.ParseUint(f[3], 16, 16)
		if err != nil {
			return "", err
		}
		out = w.step(PINTries{Card: number(f[1]), Tag: "t", Status: uint16(n)})
	case verb == "drawn":
		out = w.step(MediaDrawn{w.media})
	case f[0] == "media" && f[1] == "lost":
		out = w.step(MediaDown{Media: w.media, Reason: rest(2)})
	case f[0] == "media" && f[1] == "quiet":
		out = w.step(MediaQuiet{Media: w.media})
	case f[0] == "media" && f[1] == "closed":
		out = w.step(MediaDown{Media: w.media, Peer: true, Code: native.CloseCode(number(f[2]))})
	default:
		return "", fmt.Errorf("unknown line %q", line)
	}
	return text(out), nil
}

func text(out []Action) string {
	var b strings.Builder
	for _, a := range out {
		fmt.Fprintf(&b, "  %v\n", a)
	}
	return b.String()
}

// advance lets time pass, with every Tick at its moment.
func (w *world) advance(d time.Duration) string {
	var b strings.Builder
	end := w.now.Add(d)
	for next := w.m.Next(); !next.IsZero() && !next.After(end); next = w.m.Next() {
		w.now = later(w.now, next)
		if out := text(w.note(w.m.Tick(w.now))); out != "" {
			fmt.Fprintf(&b, "  at %v:\n%s", w.now.Sub(w.start), out)
		}
	}
	w.now = end
	return b.String()
}

func (w *world) status() string {
	s := w.m.Status()
	line := fmt.Sprintf("  = %s", s.State)
	if s.OSD.Code != 0 {
		line += fmt.Sprintf(" (%d)", s.OSD.Code)
	}
	return line + "\n"
}

func TestScenarios(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scenarios in testdata")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "  ") {
					continue // recorded
				}
				got.WriteString(line + "\n")
				if line == "" || line[0] == '#' {
					continue
				}
				out, err := w.run(line)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				got.WriteString(out + w.status())
			}
			if got.String() == string(want) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s is recorded otherwise (go test -update rewrites it, then read the difference); got\n%s", file, got.String())
		})
	}
}
