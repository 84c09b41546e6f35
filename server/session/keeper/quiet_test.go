package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/server/session/client"
	"hotdesk/server/session/mediaapi"
)

// Media, which a session's programs may have taken over, tells of quiet in
// turns, for what is attached alone, and not faster than its time lets it.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t)
		w.begin()
		k, e, _ := w.connect()
		for _, quiet := range []int64{-1, client.MinQuiet - 1, client.MaxQuiet + 1} {
			if _, err := k.Attach(t.Context(), client.Attach{Terminal: ask.Terminal, Addr: ask.Addr, Quiet: quiet}); err == nil {
				t.Errorf("attached with a quiet of %d ms", quiet)
			}
		}
		if _, err := k.Attach(t.Context(), client.Attach{Terminal: ask.Terminal, Addr: ask.Addr, Quiet: 10000}); err != nil {
			t.Fatal(err)
		}
		m := w.run(0)
		tell := func(op string) {
			_ = m.conn.Notify(op, client.Change{Terminal: ask.Terminal, Gen: 1})
			synctest.Wait()
		}
		is := func(want bool) {
			t.Helper()
			if s, err := k.Status(t.Context()); err != nil || s.Quiet != want {
				t.Errorf("quiet %v, %v", s.Quiet, err)
			}
		}
		tell(mediaapi.EventQuiet) // not attached
		tell(mediaapi.EventAttached)
		w.want(e, "attached 0800200a0b0c 1")
		tell(mediaapi.EventQuiet)   // at once
		tell(mediaapi.EventStirred) // it is not quiet
		w.want(e)
		is(false)
		time.Sleep(10 * time.Second)
		tell(mediaapi.EventQuiet)
		tell(mediaapi.EventQuiet)
		w.want(e, "quiet 1 true")
		is(true)
		tell(mediaapi.EventStirred)
		tell(mediaapi.EventQuiet) // at once
		w.want(e, "quiet 1 false")
		is(false)
		time.Sleep(10 * time.Second)
		tell(mediaapi.EventQuiet)
		tell(mediaapi.EventDetached)
		w.want(e, "quiet 1 true", "detached 0800200a0b0c 1")
		is(false)
		w.end()
		<-w.stopped
	})
}
