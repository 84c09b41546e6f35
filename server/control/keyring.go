package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/policy"
)

const (
	// maxKeys bounds the terminals whose keys are remembered; the one that was
	// seen longest ago makes room.
	maxKeys = 4 * MaxTerminals
	// keyLife is how long the key of a terminal that does not come is kept.
	keyLife = 30 * 24 * time.Hour
	// ForgottenFor is how long the owner of a key that was forgotten is not let
	// in: as long as another terminal of its id has to be the first.
	ForgottenFor = time.Minute
)

// A terminalKey is the hash of a terminal's public key, which it has shown to
// own; zero for one without.
type terminalKey [sha256.Size]byte

// keyOf is that of a connection. Who signed the certificate does not matter.
func keyOf(st tls.ConnectionState) (k terminalKey) {
	if len(st.PeerCertificates) > 0 {
		k = sha256.Sum256(st.PeerCertificates[0].RawSubjectPublicKeyInfo)
	}
	return k
}

// String is the form that the registry has; "" for none.
func (k terminalKey) String() string {
	if k == (terminalKey{}) {
		return ""
	}
	return hex.EncodeToString(k[:])
}

// keysOf is how a terminal proves that it is the one of that id, and the key
// that the registry has of it, "" for none.
func (s *Server) keysOf(id alp.TerminalID) (rule policy.Keys, registered string) {
	if s.conf.View != nil {
		t, _ := s.conf.View().Terminal(id)
		registered = t.Key
	}
	return s.judge(policy.Request{Token: alp.Token("pseudo." + string(id)), Terminal: id}).Keys, registered
}

// Errors that end a connection whose terminal is told them on its screen.
var (
	// ErrOtherKey means that an id belongs to a terminal with another key.
	ErrOtherKey  = errors.New("control: the id belongs to a terminal with another key")
	errNoKey     = errors.New("control: the terminal's key is not registered")
	errForgotten = errors.New("control: the terminal's key was forgotten a moment ago")
)

var keyTexts = map[error]string{
	ErrOtherKey:  "This terminal's id belongs to a terminal with another key. If it was set up anew, have your administrator forget the old key (hotdesk terminal forget).",
	errForgotten: "An administrator had this terminal's key forgotten, so that another one of its id can come. If none does within a minute, this one may again.",
	errNoKey:     "Terminals need a registered key here, and this one's is not. Have your administrator register it (hotdesk terminal name ID NAME key=HASH; the server's log has it).",
}

// mayBe tells whether the owner of a key may be that terminal. What the registry
// says counts more than what this host remembers, and holds from the next
// connection on.
func (s *Server) mayBe(id alp.TerminalID, k terminalKey, now time.Time) error {
	rule, registered := s.keysOf(id)
	switch e := s.keys[id]; {
	case registered != "" && registered != k.String():
		return ErrOtherKey
	case registered != "":
		delete(s.keys, id)
		s.keys.admit(id, k, now)
		s.keys[id].registered = true
		return nil
	case s.keys.forgot(id, k, now):
		return errForgotten
	case rule == policy.KeysRegistered:
		return errNoKey
	case rule == policy.KeysNone:
		return nil
	case e != nil && e.registered: // and is no more: an admin wants another
		delete(s.keys, id)
	}
	if !s.keys.admit(id, k, now) {
		return ErrOtherKey
	}
	return nil
}

// Refusals of keys, and keys that are registered, at once and then a second:
// whoever makes up terminals fills neither audit nor registry.
const (
	keyNotes, keyNotesRate = 100, 1
	keyPins, keyPinsRate   = 100, 1
)

// wrongKey has the audit remember whom mayBe has refused.
func (s *Server) wrongKey(c *conn, id alp.TerminalID, why error) {
	s.refusals.note(func(more ...any) {
		s.log.Warn("terminal refused", append([]any{"terminal", id, "peer", c.peer(), "key", c.key.String(), "reason", why.Error()}, more...)...)
		s.audit(audit.Entry{What: audit.Deny, Terminal: string(id), Addr: c.addr.String(), Text: fmt.Sprintf("terminal key %s: %v", cmp.Or(c.key.String(), "none"), why)})
	})
}

// pin has the key of a terminal registered, where a rule says so and there is
// none yet. It is called when a session is shown there: somebody who may have
// one has come to the terminal, and found it the right one.
func (s *Server) pin(t *terminal) {
	c := t.conn
	if c == nil || c.key == (terminalKey{}) || c.pinning || s.conf.Pin == nil {
		return
	}
	if rule, registered := s.keysOf(t.id); rule != policy.KeysPin || registered != "" {
		return
	}
	s.pins.note(func(...any) {
		c.pinning = true
		key := c.key.String()
		s.wg.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, EnrollWithin)
			defer cancel()
			err := s.conf.Pin(ctx, t.id, key)
			s.post(func() { s.pinned(c, err) })
		})
	})
}

// pinned is what came of it.
func (s *Server) pinned(c *conn, err error) {
	c.pinning = false
	t, id, key := c.t, c.t.id, c.key.String()
	switch {
	case err == nil:
		s.say(t, slog.LevelInfo, "terminal's key registered at its first use", "key", key)
		s.audit(audit.Entry{What: audit.Registry, Terminal: string(id), Addr: c.addr.String(), Text: "terminal key " + key + " registered at its first use"})
	case errors.Is(err, ErrOtherKey): // another host was faster, with another terminal of that id
		s.wrongKey(c, id, ErrOtherKey)
		if t.conn == c {
			s.clear(t)
			s.hangUp(c, ErrOtherKey.Error())
		}
	default:
		s.say(t, slog.LevelWarn, "terminal's key cannot be registered now; its next session tries again", "err", err)
	}
}

// ForgetKey forgets the key of a terminal that this host remembers, and reports
// whether there was one; key is the one that the registry had, "" for none. The
// next that comes counts, and that is not the owner of the key for ForgottenFor:
// one that is connected would always be the first, and is sent away.
func (s *Server) ForgetKey(ctx context.Context, id alp.TerminalID, key string) (was bool, err error) {
	err = s.query(ctx, func() {
		var k terminalKey
		if e := s.keys[id]; e != nil && !e.forgotten {
			was, k = true, e.key
		} else if b, err := hex.DecodeString(key); err == nil && len(b) == len(k) {
			k = terminalKey(b)
		} else {
			return
		}
		s.keys.forget(id, k, time.Now())
		t := s.terminals[id]
		if t == nil || t.conn != nil && t.conn.key != k {
			return
		}
		s.clear(t)
		if t.conn != nil {
			s.hangUp(t.conn, errForgotten.Error())
		}
	})
	return was, err
}

// A keyring remembers which key first came with a terminal's id: from then on
// nobody without it is that terminal. It is pure, and not safe for concurrent
// use.
type keyring map[alp.TerminalID]*keyEntry

type keyEntry struct {
	key        terminalKey
	seen       time.Time
	registered bool // the registry had it
	forgotten  bool // at seen: its owner is not let in for a while, and anybody else is
}

// admit tells whether the owner of a key may be that terminal.
func (r keyring) admit(id alp.TerminalID, k terminalKey, now time.Time) bool {
	if e := r[id]; e != nil && !e.forgotten && now.Sub(e.seen) < keyLife {
		if e.key != k {
			return false
		}
		e.seen = now
		return true
	}
	delete(r, id)
	if k != (terminalKey{}) {
		r.put(id, &keyEntry{key: k, seen: now})
	}
	return true
}

// forget has another terminal be the one of that id.
func (r keyring) forget(id alp.TerminalID, k terminalKey, now time.Time) {
	r.put(id, &keyEntry{key: k, seen: now, forgotten: true})
}

// forgot reports whether that terminal's key was forgotten just now.
func (r keyring) forgot(id alp.TerminalID, k terminalKey, now time.Time) bool {
	e := r[id]
	return e != nil && e.forgotten && e.key == k && now.Sub(e.seen) < ForgottenFor
}

// put has the one that was seen longest ago make room.
func (r keyring) put(id alp.TerminalID, e *keyEntry) {
	if r[id] == nil && len(r) >= maxKeys {
		var oldest alp.TerminalID
		for i, e := range r {
			if o := r[oldest]; o == nil || e.seen.Before(o.seen) {
				oldest = i
			}
		}
		delete(r, oldest)
	}
	r[id] = e
}
