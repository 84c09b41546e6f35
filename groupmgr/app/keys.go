package app

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"golang.org/x/crypto/scrypt"

	"hotdesk/protocol/group"
)

// Bounds of the key file.
const (
	maxKeys    = 8
	maxKeyFile = 8 << 10
	minKeyLine = 8 // characters: shorter ones are guessed
)

// keySalt is the same everywhere: hosts know nothing of each other but the
// key. scryptN makes one guess cost about 0.1 s and 32 MiB.
const (
	keySalt = "hotdesk group key 1"
	scryptN = 1 << 15
)

// keyFile is the group's secrets: a line each, the first one signs. Blank lines
// and lines that begin with # are passed over.
type keyFile struct {
	path string
	seen fs.FileInfo
}

// create makes a file with one random key where there is none. Several programs
// may try at once: link puts exactly one of theirs in place.
func (k *keyFile) create() error {
	if _, err := os.Stat(k.path); err == nil {
		return nil
	}
	dir := filepath.Dir(k.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("groupmgr: -state: %w", err)
	}
	f, err := os.CreateTemp(dir, ".group.key-") // mode 0600
	if err != nil {
		return fmt.Errorf("groupmgr: -state: %w", err)
	}
	defer os.Remove(f.Name())
	var secret [32]byte
	rand.Read(secret[:])
	_, err = fmt.Fprintf(f, "# secret of this group: a line each, the same file on every host\n%s\n", base64.StdEncoding.EncodeToString(secret[:]))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("groupmgr: %w", err)
	}
	if err := os.Link(f.Name(), k.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("groupmgr: %w", err)
	}
	return nil
}

// changed reports whether the file is another one than that read last.
func (k *keyFile) changed() bool {
	now, err := os.Stat(k.path)
	return err == nil && (k.seen == nil || !os.SameFile(now, k.seen) || now.ModTime() != k.seen.ModTime() || now.Size() != k.seen.Size())
}

// read derives the keys of the file.
func (k *keyFile) read() (group.Ring, error) {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("groupmgr: no key file %s: copy it from a host of the group, or make the first one by (umask 077; head -c 32 /dev/urandom | base64 > %s)", k.path, k.path)
	}
	if err != nil {
		return nil, fmt.Errorf("groupmgr: key file: %w", err)
	}
	defer f.Close()
	if k.seen, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("groupmgr: key file: %w", err)
	}
	if k.seen.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("groupmgr: key file %s can be read by others: chmod 600 %s, and make a new key if others have read it", k.path, k.path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil || len(text) > maxKeyFile {
		return nil, fmt.Errorf("groupmgr: key file %s: longer than %d bytes, or %v", k.path, maxKeyFile, err)
	}
	var ring group.Ring
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case len(line) < minKeyLine:
			return nil, fmt.Errorf("groupmgr: key file %s:%d: a key of fewer than %d characters", k.path, n, minKeyLine)
		case len(ring) == maxKeys:
			return nil, fmt.Errorf("groupmgr: key file %s: more than %d keys", k.path, maxKeys)
		}
		key, err := DeriveKey(line)
		if err != nil {
			return nil, err
		}
		ring = append(ring, key)
	}
	debug.FreeOSMemory() // scrypt took 32 MiB for each key, which are not needed again
	if len(ring) == 0 {
		return nil, fmt.Errorf("groupmgr: key file %s has no key", k.path)
	}
	return ring, nil
}

// DeriveKey makes the key of one line of a key file.
func DeriveKey(line string) (group.Key, error) {
	secret, err := scrypt.Key([]byte(line), []byte(keySalt), scryptN, 8, 1, group.KeySize)
	if err != nil {
		return group.Key{}, fmt.Errorf("groupmgr: key file: %w", err)
	}
	return group.NewKey([group.KeySize]byte(secret)), nil
}
