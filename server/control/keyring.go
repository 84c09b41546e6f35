package control

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"time"

	"hotdesk/protocol/alp"
)

const (
	// maxKeys bounds the terminals whose keys are remembered; the one that was
	// seen longest ago makes room.
	maxKeys = 4 * MaxTerminals
	// keyLife is how long the key of a terminal that does not come is kept.
	keyLife = 30 * 24 * time.Hour
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

// owns reports whether the registry lets the owner of a key be that terminal.
// What it says holds from the next connection on.
func (s *Server) owns(id alp.TerminalID, k terminalKey) bool {
	if s.conf.View == nil {
		return true
	}
	t, _ := s.conf.View().Terminal(id)
	return t.Key == "" || t.Key == k.String()
}

// errOtherKey ends a connection whose terminal is told otherKey on its screen.
var errOtherKey = errors.New("the id belongs to a terminal with another key")

const otherKey = "This terminal's id belongs to a terminal with another key. If it was set up anew, have your administrator take the key out of the registry, if it is there, and restart the server program; sessions go on."

// A keyring remembers which key first came with a terminal's id: from then on
// nobody without it is that terminal. It is pure, and not safe for concurrent
// use.
type keyring map[alp.TerminalID]*keyEntry

type keyEntry struct {
	key  terminalKey
	seen time.Time
}

// admit tells whether the owner of a key may be that terminal.
func (r keyring) admit(id alp.TerminalID, k terminalKey, now time.Time) bool {
	if e := r[id]; e != nil && now.Sub(e.seen) < keyLife {
		if e.key != k {
			return false
		}
		e.seen = now
		return true
	}
	delete(r, id)
	if k == (terminalKey{}) {
		return true
	}
	if len(r) >= maxKeys {
		var oldest alp.TerminalID
		for i, e := range r {
			if o := r[oldest]; o == nil || e.seen.Before(o.seen) {
				oldest = i
			}
		}
		delete(r, oldest)
	}
	r[id] = &keyEntry{k, now}
	return true
}
