package control_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/control"
)

// A terminal that makes tokens up gets no more sessions than half of the
// places; another address, and a card that is known, get theirs.
func TestMadeUpTokens(t *testing.T) {
	run(t, ruled("token card.known"), func(r *rig) {
		got := 0
		for n := range control.MaxSessions {
			u := r.dial(alp.TerminalID(fmt.Sprintf("0800200b%04x", n)))
			u.insert(fmt.Sprintf("card.made%d", n))
			synctest.Wait()
			if len(r.parent.Starts()) == got {
				break
			}
			got++
		}
		if got != control.MaxSessions/2 {
			t.Errorf("%d sessions of one address, want %d", got, control.MaxSessions/2)
		}
		u := r.dial("0800200c0001")
		u.insert("card.made-more")
		if q := u.screen(); !strings.Contains(q.Screen.Text, "cards that nobody knows") {
			t.Errorf("told: %+v", q.Screen)
		}
		synctest.Wait()
		if n := len(r.parent.Starts()); n != got {
			t.Errorf("%d sessions", n)
		}
		known := r.dial("0800200c0002")
		known.insert("card.known")
		if c := known.shown(); c.Session == "" {
			t.Errorf("a known card: %+v", c)
		}
		other := r.dialFrom("0800200c0003", "127.0.0.10:5000")
		other.insert("card.elsewhere")
		if c := other.shown(); c.Session == "" {
			t.Errorf("another address: %+v", c)
		}
	})
}

// A redirect alone vouches for nobody: what was made up elsewhere is made up.
func TestMadeUpTokensByRedirect(t *testing.T) {
	for proven, most := range map[string]int{"": 8, "pin": 40} {
		run(t, func(r *rig) {
			r.parent.Hold = make(chan struct{})
			r.group.Proof = func(local.Verify) local.Verified { return local.Verified{OK: true, Proven: proven} }
		}, func(r *rig) {
			for n := range 40 {
				redirected(r.dial(alp.TerminalID(fmt.Sprintf("0800200b%04x", n))), fmt.Sprintf("card.made%d", n))
			}
			synctest.Wait()
			if n := len(r.parent.Starts()); n != most {
				t.Errorf("proven %q: %d start at once, want %d", proven, n, most)
			}
			close(r.parent.Hold)
		})
	}
}

// Made-up tokens that come all at once do not take every place where sessions
// start: somebody else's starts meanwhile, and theirs one after the other.
func TestMadeUpTokensAtOnce(t *testing.T) {
	const flood = 40
	run(t, func(r *rig) { r.parent.Hold = make(chan struct{}) }, func(r *rig) {
		for n := range flood {
			r.dial(alp.TerminalID(fmt.Sprintf("0800200b%04x", n))).insert(fmt.Sprintf("card.made%d", n))
		}
		time.Sleep(time.Second)
		if n := len(r.parent.Starts()); n == 0 || n > 8 {
			t.Errorf("%d start at once", n)
		}
		u := r.dialFrom("0800200c0003", "127.0.0.10:5000")
		u.insert("card.elsewhere")
		synctest.Wait()
		all := r.parent.Starts()
		if last := all[len(all)-1]; last.Token != "card.elsewhere" {
			t.Errorf("starts: %v", last.Token)
		}
		close(r.parent.Hold)
		u.shown()
		time.Sleep(2 * time.Second)
		if n := len(r.parent.Starts()); n != flood+1 {
			t.Errorf("%d sessions started, want %d", n, flood+1)
		}
	})
}
