package registry

import (
	"maps"
	"slices"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
)

// A Snapshot is a registry at one revision. It is a policy.View.
type Snapshot struct {
	Rev  uint64
	Hash string // of the change Rev; "" at 0

	records  []adminapi.Record // in the order of adminapi.Sort
	policies []adminapi.Policy
}

// Records returns all records, in the order of adminapi.Sort. They are not to
// be changed.
func (s *Snapshot) Records() []adminapi.Record { return s.records }

// Record returns one record.
func (s *Snapshot) Record(k adminapi.Kind, name string) (adminapi.Record, bool) {
	return adminapi.Find(s.records, k, name)
}

// Token returns a registered token.
func (s *Snapshot) Token(t alp.Token) (adminapi.Token, bool) {
	r, ok := s.Record(adminapi.KindToken, string(t))
	return r.Token(), ok
}

// User returns a registered user.
func (s *Snapshot) User(name string) (adminapi.User, bool) {
	r, ok := s.Record(adminapi.KindUser, name)
	return r.User(), ok
}

// Terminal returns a terminal that has a record.
func (s *Snapshot) Terminal(id alp.TerminalID) (adminapi.Terminal, bool) {
	r, ok := s.Record(adminapi.KindTerminal, string(id))
	return r.Terminal(), ok
}

// Kiosk returns what a kiosk is.
func (s *Snapshot) Kiosk(name string) (adminapi.Kiosk, bool) {
	r, ok := s.Record(adminapi.KindKiosk, name)
	return r.Kiosk(), ok
}

// Policies returns the rules, those of the lowest order first.
func (s *Snapshot) Policies() []adminapi.Policy { return s.policies }

// A sum adds changes up. It is the one mutable form of a registry.
type sum struct {
	rev  uint64
	hash string
	rows map[row]adminapi.Record
}

type row struct {
	kind adminapi.Kind
	name string
}

// add takes the next change. It must follow: see follows.
func (s *sum) add(c Change, hash string) {
	if s.rows == nil {
		s.rows = map[row]adminapi.Record{}
	}
	for _, e := range c.Edits {
		if e.After == nil {
			delete(s.rows, row{e.Kind, e.Name})
		} else {
			s.rows[row{e.Kind, e.Name}] = *e.After
		}
	}
	s.rev, s.hash = c.Rev, hash
}

// follows reports whether c is the change after those that were added.
func (s *sum) follows(c Change) bool {
	return c.Rev == s.rev+1 && (s.rev == 0 || c.Prev == s.hash)
}

func (s *sum) snapshot() *Snapshot {
	out := &Snapshot{Rev: s.rev, Hash: s.hash, records: slices.Collect(maps.Values(s.rows))}
	adminapi.Sort(out.records)
	for _, r := range out.records {
		if r.Kind == adminapi.KindPolicy {
			out.policies = append(out.policies, r.Policy())
		}
	}
	slices.SortStableFunc(out.policies, func(a, b adminapi.Policy) int { return a.Order - b.Order })
	return out
}
