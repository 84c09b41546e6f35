package login

import (
	"net/netip"
	"time"
)

// How long guesses have to wait.
const (
	// MaxWait is the longest, for whoever guesses from one place: never a lock.
	MaxWait = time.Minute
	// MaxStrange is the longest at a place where the user never logged in, for
	// what others did elsewhere.
	MaxStrange = 15 * time.Second
	// MaxPlaces, MaxUsers and MaxAddrs bound the tables; the entry that changed
	// longest ago makes room.
	MaxPlaces, MaxUsers, MaxAddrs = 8192, 4096, 4096
	// forget is how long a place without failures is remembered as the user's.
	forget = 30 * 24 * time.Hour
	// fade is the time after which one failure less counts.
	fade = 5 * time.Minute
	// firstWait is the wait after the last free failure; each further one
	// doubles it.
	firstWait = time.Second
)

// Failures that cost nothing: of a user at a place, of a user anywhere, of an
// address whoever the user is (many may sit behind one).
const (
	freeHere, freeUser, freeAddr = 2, 10, 20
)

// A Source is who guesses, and from where.
type Source struct {
	User     string
	Terminal string
	Addr     netip.Addr
}

// A Backoff counts failures by place (user, terminal and its address), by user
// and by address.
//
// A stranger cannot keep a user out: at a place where the user has logged in
// before, nothing counts but the failures at that very place; elsewhere the
// wait for others' failures is MaxStrange at most.
//
// It is pure, and not safe for concurrent use.
type Backoff struct {
	places map[Source]tally
	users  map[string]tally
	addrs  map[netip.Addr]tally
}

// A tally is what is known of a place, a user or an address.
type tally struct {
	failures int
	last     time.Time // that one was counted
	usual    time.Time // when the user last logged in here
}

// NewBackoff makes an empty one.
func NewBackoff() *Backoff {
	return &Backoff{map[Source]tally{}, map[string]tally{}, map[netip.Addr]tally{}}
}

// left are the failures that have not faded.
func (t tally) left(now time.Time) int {
	return max(0, t.failures-int(max(0, now.Sub(t.last))/fade))
}

// until is when the next attempt may be made.
func (t tally) until(now time.Time, free int, most time.Duration) time.Time {
	over := t.left(now) - free
	if over <= 0 {
		return time.Time{}
	}
	wait := most
	if over < 16 {
		wait = min(most, firstWait<<(over-1))
	}
	return t.last.Add(wait)
}

// Wait is how long an attempt has to wait from now on.
func (b *Backoff) Wait(now time.Time, s Source) time.Duration {
	here := b.places[s]
	at := here.until(now, freeHere, MaxWait)
	if here.usual.IsZero() || now.Sub(here.usual) > forget {
		for _, other := range []time.Time{
			b.users[s.User].until(now, freeUser, MaxStrange),
			b.addrs[s.Addr].until(now, freeAddr, MaxWait),
		} {
			if other.After(at) {
				at = other
			}
		}
	}
	return max(0, at.Sub(now))
}

// Failed counts a failure.
func (b *Backoff) Failed(now time.Time, s Source) {
	count(b.places, s, now, MaxPlaces)
	count(b.users, s.User, now, MaxUsers)
	count(b.addrs, s.Addr, now, MaxAddrs)
}

func count[K comparable](m map[K]tally, k K, now time.Time, most int) {
	t, ok := m[k]
	if !ok {
		room(m, most)
	}
	t.failures = min(t.left(now), 1000) + 1
	t.last = now
	m[k] = t
}

// Succeeded forgets the failures at a place and remembers it as the user's.
func (b *Backoff) Succeeded(now time.Time, s Source) {
	if _, ok := b.places[s]; !ok {
		room(b.places, MaxPlaces)
	}
	b.places[s] = tally{last: now, usual: now}
}

// room takes out the entry that changed longest ago, where there are too many;
// places of users go last.
func room[K comparable](m map[K]tally, most int) {
	if len(m) < most {
		return
	}
	var oldest K
	var was tally
	first := true
	for k, t := range m {
		if first || was.usual.IsZero() == t.usual.IsZero() && t.last.Before(was.last) || !was.usual.IsZero() && t.usual.IsZero() {
			oldest, was, first = k, t, false
		}
	}
	delete(m, oldest)
}
