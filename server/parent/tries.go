package parent

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

// How often passwords are tried, whatever the gateway says. Its own waits
// (package login) are longer and come first; these hold where it has been taken
// over, so that they are by user, and by places only where that user did log in:
// a gateway can make up all others.
const (
	// strangeFree tries of a user may follow each other where that user never
	// logged in, and one more for every strangeEvery.
	strangeFree, strangeEvery = 30, 10 * time.Second
	// usualFree and usualEvery are the same for each place where the user did:
	// what strangers try elsewhere takes nothing from it.
	usualFree, usualEvery = 10, 30 * time.Second
	// maxTried and maxUsual bound the users, and the places of one.
	maxTried, maxUsual = 4096, 32
)

// A place is where a user logs in, as far as the gateway tells the truth.
type place struct{ terminal, addr string }

// An allowance is empty of tries at that time; each try moves it on.
type allowance time.Time

func (a *allowance) take(now time.Time, free int, every time.Duration) bool {
	at := time.Time(*a)
	if at.Sub(now) > time.Duration(free-1)*every {
		return false
	}
	if at.Before(now) {
		at = now
	}
	*a = allowance(at.Add(every))
	return true
}

func (a *allowance) whole(now time.Time) bool { return !time.Time(*a).After(now) }

// tried is what is known of a user.
type tried struct {
	strange allowance
	usual   map[place]*usualPlace
}

type usualPlace struct {
	allowance
	last time.Time // that the user logged in here
}

// tries counts them. It is pure, and not safe for concurrent use.
type tries struct{ users map[string]*tried }

// take is one try more. If it may be, it returns what gives it back.
func (t *tries) take(now time.Time, user string, at place) (giveBack func(), ok bool) {
	u := t.user(now, user)
	if u == nil {
		return nil, false
	}
	a, free, every := &u.strange, strangeFree, strangeEvery
	if p := u.usual[at]; p != nil {
		a, free, every = &p.allowance, usualFree, usualEvery
	}
	if !a.take(now, free, every) {
		return nil, false
	}
	return func() { *a = allowance(time.Time(*a).Add(-every)) }, true
}

// right notes that the user has logged in there.
func (t *tries) right(now time.Time, user string, at place) {
	u := t.user(now, user)
	if u == nil {
		return
	}
	if p := u.usual[at]; p != nil {
		p.last = now
		return
	}
	if len(u.usual) >= maxUsual {
		var oldest place
		for q, p := range u.usual {
			if o := u.usual[oldest]; o == nil || p.last.Before(o.last) {
				oldest = q
			}
		}
		delete(u.usual, oldest)
	}
	if u.usual == nil {
		u.usual = map[place]*usualPlace{}
	}
	u.usual[at] = &usualPlace{last: now}
}

// user returns a user's entry; nil where there is no room, for what is
// remembered of tries must not be washed away by made-up names.
func (t *tries) user(now time.Time, name string) *tried {
	name = strings.ToLower(name) // to some modules it is the same
	if u := t.users[name]; u != nil {
		return u
	}
	if len(t.users) >= maxTried && !t.room(now) {
		return nil
	}
	u := &tried{}
	t.users[name] = u
	return u
}

// room takes out a user of whom nothing counts; one who never logged in, if
// there is one.
func (t *tries) room(now time.Time) bool {
	victim, found := "", false
	for name, u := range t.users {
		counts := !u.strange.whole(now)
		for _, p := range u.usual {
			counts = counts || !p.whole(now)
		}
		if counts {
			continue
		}
		victim, found = name, true
		if len(u.usual) == 0 {
			break
		}
	}
	delete(t.users, victim)
	return found
}

// counter is tries with a lock around it.
type counter struct {
	mu sync.Mutex
	tries
}

// counted returns the keeper's end of the socket on which its tries are counted,
// nil for a session without a login.
func (p *parent) counted(ctx context.Context, s keeperapi.Start) (*os.File, error) {
	if s.Service == "" {
		return nil, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "tries"), os.NewFile(uintptr(pair[1]), "tries")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("parent: %w", err)
	}
	p.logins.Go(func() { p.count(ctx, conn, s) })
	return theirs, nil
}

// count answers the keeper of one login whether it may try the password, and
// hears whether that was right.
func (p *parent) count(ctx context.Context, conn net.Conn, s keeperapi.Start) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	at := place{string(s.Terminal), s.Addr}
	if !keeperapi.Hear(conn, keeperapi.MayTry) {
		return
	}
	p.tried.mu.Lock()
	giveBack, ok := p.tried.take(time.Now(), s.User, at)
	p.tried.mu.Unlock()
	if !ok {
		p.Log.Warn("login refused: too many tries", "session", s.Session, "terminal", s.Terminal, "addr", s.Addr, "user", s.User)
		return
	}
	if keeperapi.Say(conn, keeperapi.DoTry) != nil || !keeperapi.Hear(conn, keeperapi.WasRight) {
		return
	}
	p.tried.mu.Lock()
	defer p.tried.mu.Unlock()
	giveBack()
	p.tried.right(time.Now(), s.User, at)
}
