// Package cardfiles is what a host knows of cards, from its admin's files: which
// proof they need, who may issue them, what is revoked, the secrets of simple
// cards, and the keys that were taken at first use.
//
// Source: package policy (Proofs, the file that names the others); package proof
// (what the others hold).
//
// Invariants:
//  1. A file that has changed is read again before the next proof. One that
//     cannot be read then, or makes no sense, leaves what it said before in
//     force: a list that is being written revokes what it did.
//  2. Secrets that everybody can read are refused.
//  3. A key is registered once: a second one of the same token is refused.
//
// The rules themselves are read once, at the start. Files is safe for
// concurrent use. Limits: MaxFile, MaxSecrets, MaxKeys.
package cardfiles

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/policy"
	"hotdesk/server/proof"
	"hotdesk/smartcard/apdu"
)

const (
	// MaxFile bounds each file, in bytes.
	MaxFile = 8 << 20
	// MaxSecrets bounds the simple cards.
	MaxSecrets = 100000
	// MaxKeys bounds the keys taken at first use.
	MaxKeys = 100000
)

// ErrFile is wrapped where a file's text is wrong.
var ErrFile = errors.New("cardfiles: bad file")

// Files is what the files say.
type Files struct {
	dir   string
	rules policy.Proofs
	log   *slog.Logger

	mu      sync.Mutex
	stamps  map[string]stamp
	trust   *proof.Trust
	secrets map[string]proof.Secret // by id
	keys    map[alp.Token]string    // fingerprints
}

// A stamp tells one state of a file from the next.
type stamp struct {
	size int64
	at   time.Time
	file os.FileInfo
}

// Open reads the rules and all that they name.
func Open(rules string, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	text, err := read(rules)
	if err != nil {
		return nil, err
	}
	p, err := policy.ParseProofs(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rules, err)
	}
	f := &Files{dir: filepath.Dir(rules), rules: p, log: log, stamps: map[string]stamp{}, keys: map[alp.Token]string{}}
	if err := f.refresh(); err != nil {
		return nil, err
	}
	if p.Keys != "" {
		if err := f.readKeys(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Kind is the proof that a token needs. It does not block.
func (f *Files) Kind(t alp.Token, use proof.Use) proof.Kind { return f.rules.Kind(t, use) }

// Prepare is what a proof needs of the files, as they are now. It reads them,
// so it takes its time.
func (f *Files) Prepare(t alp.Token, use proof.Use) proof.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		f.log.Error("file of cards cannot be read; what it said before counts", "err", err)
	}
	c := proof.Config{Kind: f.rules.Kind(t, use), Use: use, Token: t, Trust: f.trust, FirstUse: f.rules.Keys != "", Known: f.keys[t]}
	kind, id, _ := strings.Cut(string(t), ".")
	if s, ok := f.secrets[id]; ok && kind == "simple" {
		c.Secret = &s
	}
	return c
}

// Register keeps the key that a card has proven itself with at its first use.
func (f *Files) Register(t alp.Token, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch known := f.keys[t]; {
	case known == key:
		return nil
	case known != "":
		return fmt.Errorf("cardfiles: %s has another key already", t)
	case len(f.keys) >= MaxKeys:
		return fmt.Errorf("cardfiles: more than %d keys", MaxKeys)
	}
	w, err := os.OpenFile(f.path(f.rules.Keys), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cardfiles: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s %s\n", t, key)
	if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
		return fmt.Errorf("cardfiles: %w", err)
	}
	f.keys[t] = key
	return nil
}

func (f *Files) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

// refresh reads what has changed. f.mu is held, or f is not shared yet.
func (f *Files) refresh() error {
	certificates := append(append([]string{}, f.rules.Authorities...), f.rules.Lists...)
	changed, err := f.changed(certificates)
	if err == nil && (changed || f.trust == nil) {
		err = f.readTrust()
	}
	if err != nil {
		f.forget(certificates)
	}
	if f.rules.Secrets == "" {
		return err
	}
	changed, err2 := f.changed([]string{f.rules.Secrets})
	if err2 == nil && changed {
		err2 = f.readSecrets()
	}
	if err2 != nil {
		f.forget([]string{f.rules.Secrets})
	}
	return errors.Join(err, err2)
}

// changed looks at files, and remembers how they are.
func (f *Files) changed(names []string) (bool, error) {
	changed := false
	for _, n := range names {
		info, err := os.Stat(f.path(n))
		if err != nil {
			return false, fmt.Errorf("cardfiles: %w", err)
		}
		old := f.stamps[n]
		if old.file == nil || old.size != info.Size() || !old.at.Equal(info.ModTime()) || !os.SameFile(old.file, info) {
			changed = true
		}
		f.stamps[n] = stamp{info.Size(), info.ModTime(), info}
	}
	return changed, nil
}

// forget has files read again the next time.
func (f *Files) forget(names []string) {
	for _, n := range names {
		delete(f.stamps, n)
	}
}

func (f *Files) readTrust() error {
	var contents [2][][]byte
	for i, names := range [2][]string{f.rules.Authorities, f.rules.Lists} {
		for _, n := range names {
			b, err := read(f.path(n))
			if err != nil {
				return err
			}
			contents[i] = append(contents[i], b)
		}
	}
	t, err := proof.ParseTrust(contents[0], contents[1])
	if err != nil {
		return err
	}
	t.AllowExpired = f.rules.AllowExpired
	f.trust = t
	return nil
}

func (f *Files) readSecrets() error {
	path := f.path(f.rules.Secrets)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cardfiles: %w", err)
	}
	if info.Mode()&0o007 != 0 {
		return fmt.Errorf("%w: %s can be read by everybody; chmod 600, and give the cards new secrets", ErrFile, path)
	}
	text, err := read(path)
	if err != nil {
		return err
	}
	secrets, err := ParseSecrets(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f.secrets = secrets
	return nil
}

// ParseSecrets reads lines ID SECRET: 16 and 32 hex digits. Blank lines and
// those that begin with # are passed over. Its errors never repeat a secret.
func ParseSecrets(text []byte) (map[string]proof.Secret, error) {
	secrets := map[string]proof.Secret{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		w := strings.Fields(string(line))
		if len(w) == 0 || w[0][0] == '#' {
			continue
		}
		if len(w) != 2 || len(w[0]) != 2*apdu.SimpleIDSize || len(w[1]) != 2*proof.SecretSize {
			return nil, fmt.Errorf("%w: line %d is not 'ID SECRET' of %d and %d hex digits", ErrFile, n, 2*apdu.SimpleIDSize, 2*proof.SecretSize)
		}
		id, err1 := hex.DecodeString(w[0])
		secret, err2 := hex.DecodeString(w[1])
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%w: line %d is not hex", ErrFile, n)
		}
		if len(secrets) == MaxSecrets {
			return nil, fmt.Errorf("%w: more than %d cards", ErrFile, MaxSecrets)
		}
		secrets[hex.EncodeToString(id)] = proof.Secret(secret)
	}
	return secrets, nil
}

func (f *Files) readKeys() error {
	path := f.path(f.rules.Keys)
	text, err := read(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		w := strings.Fields(string(line))
		if len(w) != 2 || !alp.Token(w[0]).Valid() || len(w[1]) != 64 || strings.Trim(w[1], "0123456789abcdef") != "" {
			return fmt.Errorf("%w: %s: line %d is not 'TOKEN FINGERPRINT'", ErrFile, path, n)
		}
		if f.keys[alp.Token(w[0])] == "" {
			f.keys[alp.Token(w[0])] = w[1]
		}
		if len(f.keys) > MaxKeys {
			return fmt.Errorf("%w: %s: more than %d keys", ErrFile, path, MaxKeys)
		}
	}
	return nil
}

func read(path string) ([]byte, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cardfiles: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cardfiles: %w", err)
	case len(b) > MaxFile:
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrFile, path, MaxFile)
	}
	return b, nil
}
