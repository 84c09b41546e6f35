// Package registry is what admins decide and the gateways of a group share:
// registered tokens, users, terminals, policies and kiosks.
//
// Source: design section 5; protocol/adminapi for the records.
//
// A registry is a list of numbered changes, each the whole of what one admin's
// command did; its records are what the changes add up to. The list is in a
// Store (package etcdstore; registrytest has its twin), and every host has a
// copy of it on disk, which it follows and reads. A host whose store is away
// goes on with its copy: only changes wait.
//
// Invariants:
//  1. Change n+1 names the hash of change n: a copy never goes on with the
//     changes of another registry, or of one that was put back to an older
//     state. It says so (ErrDiverged) and keeps what it has until an admin
//     accepts the other one.
//  2. What a change leads to passes adminapi.CheckAll, or it is not stored.
//  3. A change that was acknowledged is in the store; one that was not may be.
//  4. A line of the copy that was torn by a crash is fetched again.
//  5. A Snapshot does not change.
//
// A Registry is safe for concurrent use; Serve is its life. It does I/O on its
// copy's file, and reads the clock for the dates of changes. Limits: MaxChange,
// MaxData, MaxHistory, and those of adminapi.
package registry

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"hotdesk/protocol/adminapi"
)

const (
	// MaxChange bounds one change as JSON, in bytes.
	MaxChange = 32 << 20
	// MaxData bounds one change as a store has it, in bytes.
	MaxData = 1 << 20
	// MaxHistory bounds the changes of a registry.
	MaxHistory = 1_000_000

	maxWho = 128 // bytes of a change's Who, Host and Op each
	packed = 4 << 10
)

// A Change is one change, as the copy has it.
type Change struct {
	adminapi.Change
	Prev  string          `json:"prev"` // hash of the one before; of the first one, random
	Edits []adminapi.Edit `json:"edits"`
}

// encode returns a change as JSON.
func (c Change) encode() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if len(b) > MaxChange {
		return nil, fmt.Errorf("registry: a change of %d bytes; at most %d: make it in several steps", len(b), MaxChange)
	}
	return b, nil
}

// decode reads a change and checks it by itself.
func decode(b []byte) (Change, error) {
	var c Change
	if len(b) > MaxChange {
		return Change{}, fmt.Errorf("registry: a change of %d bytes; at most %d", len(b), MaxChange)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Change{}, fmt.Errorf("registry: not a change: %w", err)
	}
	if c.Rev == 0 || c.Rev > MaxHistory || len(c.Prev) != 2*sha256.Size || len(c.Who) > maxWho || len(c.Host) > maxWho || len(c.Op) > maxWho || len(c.Edits) > 2*adminapi.MaxRecords {
		return Change{}, errors.New("registry: not a change: a number or a name is out of bounds")
	}
	for _, e := range c.Edits {
		if e.After != nil && (e.After.Kind != e.Kind || e.After.Name != e.Name) {
			return Change{}, errors.New("registry: not a change: an edit has two names")
		}
		// A later version may know more fields than this one: they are kept.
		if len(e.Kind) > adminapi.MaxName || len(e.Name) > adminapi.MaxName {
			return Change{}, errors.New("registry: not a change: a name is too long")
		}
	}
	return c, nil
}

// hash is what the next change names.
func hash(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// first is the Prev of the first change: no two registries have the same.
func first() string {
	b := make([]byte, sha256.Size)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// pack turns an encoded change into what a store takes.
func pack(encoded []byte) ([]byte, error) {
	if len(encoded) <= packed {
		return encoded, nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(encoded); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if b.Len() > MaxData {
		return nil, adminapi.Invalid{Text: fmt.Sprintf("this change has %d bytes when packed; at most %d: import it in several steps", b.Len(), MaxData)}
	}
	return b.Bytes(), nil
}

// unpack is the reverse of pack.
func unpack(data []byte) ([]byte, error) {
	if len(data) > MaxData {
		return nil, fmt.Errorf("registry: a stored change of %d bytes; at most %d", len(data), MaxData)
	}
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, MaxChange+1))
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return b, nil // decode checks the length
}
