package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hotdesk/dtu/backend/headless"
	"hotdesk/dtu/keymap"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/rpc"
	"hotdesk/smartcard/reader"
)

// Requests on the control socket. Only ever appended to.
const (
	opStatus     = "status"     // nothing -> Status
	opInsert     = "insert"     // ctlRequest.Name -> nothing, once the terminal knows
	opRemove     = "remove"     // nothing -> nothing, once the screen is blank
	opType       = "type"       // ctlRequest.Text -> nothing, once it is on its way
	opKey        = "key"        // ctlRequest.Name, a chord
	opPointer    = "pointer"    // ctlRequest.X, Y, Button: 0 none, 1 left, 2 middle, 3 right
	opScreenshot = "screenshot" // ctlRequest.Name, a file; Bare -> nothing
	opPowerCycle = "powerCycle" // nothing -> nothing
	opWait       = "wait"       // ctlRequest.Conditions, Timeout -> nothing, once they hold
	opHash       = "hash"       // nothing -> string
	opCards      = "cards"      // nothing -> []backend.CardInfo
	opAccept     = "accept"     // ctlRequest.Name, a fingerprint or empty -> nothing, once it is trusted
	opDecline    = "decline"    // nothing -> nothing
)

// ctlRequest is the body of every request.
type ctlRequest struct {
	Name       string        `json:"name,omitempty"`
	Text       string        `json:"text,omitempty"`
	X          int           `json:"x,omitempty"`
	Y          int           `json:"y,omitempty"`
	Button     int           `json:"button,omitempty"`
	Bare       bool          `json:"bare,omitempty"`
	Conditions []string      `json:"conditions,omitempty"`
	Timeout    time.Duration `json:"timeout,omitempty"`
}

const (
	// maxCtl bounds the control connections at a time.
	maxCtl = 32
	// strokesAtOnce keys are typed together, then strokesPause passes: faster
	// than any person, slower than what a session's X server takes.
	strokesAtOnce = 16
	strokesPause  = 10 * time.Millisecond
)

// serveCtl serves the control socket until ctx ends.
func (s *shell) serveCtl(ctx context.Context, l net.Listener) {
	door := rpc.Door{Most: maxCtl, Notes: rpc.Notes{Log: s.log}}
	door.Serve = func(conn net.Conn) {
		c := rpc.New(conn, s.ctl)
		if err := c.Serve(ctx); err != nil {
			door.Notes.Warn("control socket: connection dropped", "reason", err.Error())
		}
		c.Close()
	}
	door.Open(ctx, l)
}

// ctl answers one request.
func (s *shell) ctl(ctx context.Context, op string, body json.RawMessage) (any, error) {
	var r ctlRequest
	if err := rpc.Decode(body, &r); err != nil {
		return nil, err
	}
	h := hands{s}
	switch op {
	case opStatus:
		st, _, _ := s.status.read()
		return st, nil
	case opCards:
		return h.Cards(), nil
	case opInsert:
		return nil, s.ctlInsert(ctx, r.Name)
	case opRemove:
		return nil, s.ctlRemove(ctx)
	case opType:
		strokes, err := keymap.Type(s.cfg.Layout, r.Text)
		if err != nil {
			return nil, err
		}
		return nil, s.strokes(ctx, strokes)
	case opKey:
		strokes, err := keymap.Chord(r.Name)
		if err != nil {
			return nil, err
		}
		return nil, s.strokes(ctx, strokes)
	case opPointer:
		return nil, s.pointer(r)
	case opScreenshot:
		return nil, s.screenshot(r.Name, r.Bare)
	case opPowerCycle:
		h.PowerCycle()
		return nil, nil
	case opWait:
		return nil, s.wait(ctx, r.Conditions, r.Timeout)
	case opAccept:
		return nil, s.ctlDecide(ctx, r.Name, true)
	case opDecline:
		return nil, s.ctlDecide(ctx, "", false)
	case opHash:
		return hash(s.screen.SnapshotBare()), nil
	}
	return nil, fmt.Errorf("dtu: unknown request %q", op)
}

func (s *shell) ctlInsert(ctx context.Context, name string) error {
	if s.cards == nil {
		return errNoReader
	}
	card, err := s.cards.Insert(name)
	if err != nil {
		return err
	}
	return s.until(ctx, func(_ Status, in []reader.Card) bool {
		select {
		case <-card.Removed():
			return true
		default:
			return slices.Contains(in, reader.Card(card))
		}
	})
}

func (s *shell) ctlRemove(ctx context.Context) error {
	if s.cards == nil {
		return errNoReader
	}
	card, err := s.cards.Remove()
	if err != nil {
		return err
	}
	return s.until(ctx, func(_ Status, in []reader.Card) bool { return !slices.Contains(in, reader.Card(card)) })
}

// until waits for the loop to get somewhere.
func (s *shell) until(ctx context.Context, ok func(Status, []reader.Card) bool) error {
	for {
		st, in, changed := s.status.read()
		if ok(st, in) {
			return nil
		}
		select {
		case <-changed:
		case <-s.over:
			return errOff
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errOff = errors.New("dtu: the terminal is being switched off")

// errNoPicture is what typing gets where there is nothing to type to.
func (s *shell) errNoPicture() error {
	st, _, _ := s.status.read()
	return fmt.Errorf("dtu: no session is on the screen (state %s, code %d); 'wait picture' first", st.State, st.Code)
}

func (s *shell) strokes(ctx context.Context, strokes []keymap.Stroke) error {
	if s.pad.Load() != nil { // a PIN
		for _, k := range strokes {
			hands{s}.Key(k.Usage, k.Down)
		}
		return nil
	}
	target := s.target.Load()
	pause := time.NewTicker(strokesPause)
	defer pause.Stop()
	for i, k := range strokes {
		if (hands{s}).hot(k.Usage, k.Down) {
			s.hotkeys.release() // the keys of the chord go up: what is wished may be shown by now
			return nil
		}
		if target == nil || s.target.Load() != target {
			return fmt.Errorf("%w; %d of %d key strokes were sent", s.errNoPicture(), i, len(strokes))
		}
		target.Send(input.Record{Type: input.Key, Usage: k.Usage, Down: k.Down})
		if i%strokesAtOnce != strokesAtOnce-1 {
			continue
		}
		// At least one pause, and as many as a session that is slow to listen
		// needs: what waits too long would be given up.
		for wait := true; wait; wait = target.Waiting() > 0 && s.target.Load() == target {
			select {
			case <-pause.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

var buttons = map[int]byte{0: 0, 1: input.ButtonLeft, 2: input.ButtonMiddle, 3: input.ButtonRight}

// pointer moves the pointer and, with a button, clicks.
func (s *shell) pointer(r ctlRequest) error {
	w, h := s.screen.Size()
	b, ok := buttons[r.Button]
	switch {
	case !ok:
		return fmt.Errorf("dtu: button %d; there are 1 left, 2 middle, 3 right", r.Button)
	case r.X < 0 || r.X >= w || r.Y < 0 || r.Y >= h:
		return fmt.Errorf("dtu: %d,%d is off the screen of %dx%d", r.X, r.Y, w, h)
	case s.target.Load() == nil:
		return s.errNoPicture()
	}
	hand := hands{s}
	hand.Pointer(r.X, r.Y, 0)
	if b != 0 {
		hand.Pointer(r.X, r.Y, b)
		hand.Pointer(r.X, r.Y, 0)
	}
	return nil
}

// screenshot writes a PNG whole or not at all, for the caller's eyes: it shows a
// person's desktop.
func (s *shell) screenshot(file string, bare bool) error {
	if !filepath.IsAbs(file) {
		return fmt.Errorf("dtu: screenshot to %q: not an absolute path", file)
	}
	var pic *draw.Pixmap
	if bare {
		pic = s.screen.SnapshotBare()
	} else {
		pic = s.screen.Snapshot()
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".dtu-*.png")
	if err != nil {
		return fmt.Errorf("dtu: screenshot: %w", err)
	}
	err = errors.Join(headless.WritePNG(f, pic.RGBA()), f.Close()) // CreateTemp made it 0600
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("dtu: screenshot: %w", err)
	}
	return nil
}

// hash is the SHA-256 of a picture: its sides as two 16-bit numbers, then R, G
// and B of each pixel, row by row.
func hash(p *draw.Pixmap) string {
	h := sha256.New()
	h.Write([]byte{byte(p.W >> 8), byte(p.W), byte(p.H >> 8), byte(p.H)})
	row := make([]byte, 3*p.W)
	for y := range p.H {
		src := p.Row(y, 0, p.W)
		for x := range p.W {
			row[3*x], row[3*x+1], row[3*x+2] = src[4*x+2], src[4*x+1], src[4*x]
		}
		h.Write(row)
	}
	return hex.EncodeToString(h.Sum(nil))
}
