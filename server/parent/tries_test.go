package parent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/server/session/keeperapi"
)

// A gateway that was taken over names other places, other spellings and many
// users: the tries of one user's password stay few.
func TestTries(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := tries{users: map[string]*tried{}}
	home := place{"080020c0ffee", "10.0.0.7"}
	giveBack, ok := c.take(now, "ann", home)
	if !ok {
		t.Fatal("the first try")
	}
	giveBack()
	c.right(now, "ann", home)

	const hours = 2
	guesses := 0
	for i := range hours * 3600 { // one a second, and two at her own place
		now = now.Add(time.Second)
		name := [...]string{"ann", "Ann", "ANN"}[i%3]
		for _, at := range []place{{fmt.Sprintf("0800200%05x", i), fmt.Sprintf("10.1.%d.%d", i>>8&255, i&255)}, home, home} {
			if _, ok := c.take(now, name, at); ok {
				guesses++
			}
		}
	}
	if most := strangeFree + usualFree + hours*3600/10 + hours*3600/30; guesses > most || guesses < most-10 {
		t.Errorf("%d guesses, at most %d are meant", guesses, most)
	}
	if _, ok := c.take(now, "bob", home); !ok {
		t.Error("another user has to wait")
	}

	// Made-up names do not wash it away, and room is made of what no longer counts.
	for i := range maxTried + 64 {
		c.take(now, fmt.Sprint("u", i), home)
	}
	if _, ok := c.take(now, "ann", place{"080020000000", ""}); ok || len(c.users) > maxTried {
		t.Errorf("%d users, and ann's tries are forgotten: %v", len(c.users), ok)
	}
	now = now.Add(time.Hour)
	for i := range maxTried + 64 {
		if _, ok := c.take(now, fmt.Sprint("v", i), home); ok != (i < maxTried) {
			t.Fatalf("made-up user %d: %v", i, ok)
		}
	}
}

// What strangers do takes nothing from a place where the user has logged in;
// only so many of those are remembered.
func TestUsualPlaces(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := tries{users: map[string]*tried{}}
	at := func(i int) place { return place{fmt.Sprint("t", i), ""} }
	for i := range maxUsual + 1 {
		c.right(now.Add(time.Duration(i)), "ann", at(i))
	}
	for ok := true; ok; {
		_, ok = c.take(now, "ann", at(999))
	}
	for i := range maxUsual + 1 {
		if _, ok := c.take(now, "ann", at(i)); ok != (i > 0) {
			t.Errorf("place %d: %v", i, ok)
		}
	}
}

// keeperTries is a keeper's part of one login.
func keeperTries(conn net.Conn, right bool) bool {
	defer conn.Close()
	if keeperapi.Say(conn, keeperapi.MayTry) != nil || !keeperapi.Hear(conn, keeperapi.DoTry) {
		return false
	}
	if right {
		_ = keeperapi.Say(conn, keeperapi.WasRight)
	}
	return true
}

// The parent counts what keepers ask for, however many ask at once; what never
// sent a password and what was right costs nothing.
func TestCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &parent{Config: Config{Log: slog.New(slog.DiscardHandler)}}
		p.tried.users = map[string]*tried{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		login := func(addr string, do func(net.Conn) bool) bool {
			ours, theirs := net.Pipe()
			p.logins.Go(func() {
				p.count(ctx, ours, keeperapi.Start{User: "ann", Terminal: "080020000001", Addr: addr})
			})
			return do(theirs)
		}
		for range 3 * strangeFree {
			if !login("10.0.0.1", func(c net.Conn) bool { return c.Close() == nil }) {
				t.Fatal("a login that was given up")
			}
			if !login("10.0.0.1", func(c net.Conn) bool { return keeperTries(c, true) }) {
				t.Fatal("a right password had to wait")
			}
			synctest.Wait() // for the parent to have heard it
		}
		done := make(chan bool)
		for i := range 3 * strangeFree {
			go func() {
				done <- login(fmt.Sprint("10.0.1.", i), func(c net.Conn) bool { return keeperTries(c, false) })
			}()
		}
		tried := 0
		for range 3 * strangeFree {
			if <-done {
				tried++
			}
		}
		if tried != strangeFree {
			t.Errorf("%d tries at once, want %d", tried, strangeFree)
		}
		if !login("10.0.0.1", func(c net.Conn) bool { return keeperTries(c, true) }) {
			t.Error("her own place is closed")
		}
		time.Sleep(strangeEvery)
		if !login("10.0.2.2", func(c net.Conn) bool { return keeperTries(c, false) }) {
			t.Error("a stranger's lock")
		}
		// The parent's end is theirs.
		if login("10.0.0.1", func(c net.Conn) bool { cancel(); synctest.Wait(); return keeperTries(c, false) }) {
			t.Error("a try that nobody counts")
		}
		p.logins.Wait()
	})
}
