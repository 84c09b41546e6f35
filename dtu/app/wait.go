package app

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hotdesk/dtu/terminal"
)

// maxWait bounds a wait without a timeout of its own.
const maxWait = time.Hour

// conditionHelp is what conditions there are.
const conditionHelp = "picture, osd=CODE, says=TEXT (part of what the screen says), state=NAME, token=TOKEN, session=ID, gen=N (or higher), server=ADDRESS:PORT, control=up|down, known=N (or more), card=NAME|none, size=WxH, pixel=X,Y,RRGGBB, hash=SHA256, hash!=SHA256"

// A condition is something that scripts wait for.
type condition struct {
	text   string
	status func(Status) bool // nil: it is about pixels
	pixels func(*shell) bool
}

func parseCondition(text string) (condition, error) {
	key, value, _ := strings.Cut(text, "=")
	c := condition{text: text}
	bad := fmt.Errorf("dtu: unknown condition %q; there are %s", text, conditionHelp)
	switch key {
	case "picture":
		c.status = Status.picture
		if value != "" {
			return c, bad
		}
	case "osd":
		n, err := strconv.Atoi(value)
		if err != nil {
			return c, bad
		}
		c.status = func(s Status) bool { return s.Code == n }
	case "state":
		c.status = func(s Status) bool { return s.State == terminal.State(value) }
	case "token":
		c.status = func(s Status) bool { return string(s.Token) == value }
	case "session":
		c.status = func(s Status) bool { return string(s.Session) == value }
	case "gen":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return c, bad
		}
		c.status = func(s Status) bool { return s.Gen >= n }
	case "server":
		c.status = func(s Status) bool { return s.Server.String() == value }
	case "control":
		if value != "up" && value != "down" {
			return c, bad
		}
		c.status = func(s Status) bool { return s.Control == (value == "up") }
	case "known":
		n, err := strconv.Atoi(value)
		if err != nil {
			return c, bad
		}
		c.status = func(s Status) bool { return s.Known >= n }
	case "card":
		if value == "none" {
			value = ""
		}
		c.status = func(s Status) bool { return s.Card == value }
	case "size":
		c.status = func(s Status) bool { return fmt.Sprintf("%dx%d", s.Width, s.Height) == value }
	case "says":
		c.status = func(s Status) bool { return s.Code != 0 && strings.Contains(s.Title+"\n"+s.Text, value) }
	case "hash":
		c.pixels = func(s *shell) bool { return hash(s.screen.SnapshotBare()) == value }
	case "hash!":
		c.pixels = func(s *shell) bool { return hash(s.screen.SnapshotBare()) != value }
	case "pixel":
		var x, y int
		var rgb uint32
		if n, err := fmt.Sscanf(value, "%d,%d,%06x", &x, &y, &rgb); n != 3 || err != nil {
			return c, bad
		}
		c.pixels = func(s *shell) bool {
			p := s.screen.SnapshotBare()
			if x < 0 || x >= p.W || y < 0 || y >= p.H {
				return false
			}
			b := p.Row(y, x, x+1)
			return uint32(b[2])<<16|uint32(b[1])<<8|uint32(b[0]) == rgb
		}
	default:
		return c, bad
	}
	return c, nil
}

// wait returns when all conditions hold at the same time, or did since it
// began; pixels are looked at as they are.
func (s *shell) wait(ctx context.Context, texts []string, timeout time.Duration) error {
	if len(texts) == 0 {
		return fmt.Errorf("dtu: nothing to wait for; conditions are %s", conditionHelp)
	}
	var conditions []condition
	pixels := false
	for _, t := range texts {
		c, err := parseCondition(t)
		if err != nil {
			return err
		}
		pixels = pixels || c.pixels != nil
		conditions = append(conditions, c)
	}
	if timeout <= 0 || timeout > maxWait {
		timeout = maxWait
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	watch := s.screen.Watch()
	defer watch.Close()
	var drawn <-chan struct{}
	if pixels {
		drawn = watch.Changed()
	}
	seen := s.status.latest() - 1
	for {
		if pixels {
			watch.Take() // before looking, so that what comes later is told
		}
		news, now, changed := s.status.since(seen)
		seen = now
		st := news[len(news)-1]
		if pixels {
			news = []Status{st}
		}
		missing := ""
		for _, st = range news {
			if missing = s.missing(st, conditions); missing == "" {
				return nil
			}
		}
		select {
		case <-changed:
		case <-drawn:
		case <-late.C:
			return fmt.Errorf("dtu: waited %v for %s; the terminal is in state %s, code %d (%s %s)", timeout, missing, st.State, st.Code, st.Title, st.Text)
		case <-s.over:
			return errOff
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missing returns the first condition that does not hold.
func (s *shell) missing(st Status, conditions []condition) string {
	for _, c := range conditions {
		if c.status != nil && !c.status(st) {
			return c.text
		}
	}
	for _, c := range conditions {
		if c.pixels != nil && !c.pixels(s) {
			return c.text
		}
	}
	return ""
}
