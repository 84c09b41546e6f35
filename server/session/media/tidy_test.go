package media

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// What nothing holds any more counts as spare, though it was not collected.
func TestSpare(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	debug.FreeOSMemory()
	before := spare()
	const n = 8 << 20
	b := make([]byte, n)
	runtime.KeepAlive(b)
	if got := spare() - before; got < n {
		t.Errorf("%d bytes more are spare, want %d", got, n)
	}
}

// Memory is collected once for each rest that follows a terminal, and not
// before the first.
func TestTidy(t *testing.T) {
	collections := func() uint32 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.NumForcedGC
	}
	synctest.Test(t, func(t *testing.T) {
		m := &media{quiet: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		m.serving.Go(func() { m.tidy(ctx) })
		pass := func(d time.Duration) (n uint32) {
			before := collections()
			time.Sleep(d)
			synctest.Wait()
			return collections() - before
		}
		if n := pass(time.Hour); n != 0 {
			t.Errorf("%d collections before a terminal came", n)
		}
		m.quiet <- struct{}{}
		if n := pass(tidyAfter - 1); n != 0 {
			t.Errorf("%d collections right after a terminal had gone", n)
		}
		m.quiet <- struct{}{}
		if n := pass(tidyAfter - 1); n != 0 {
			t.Errorf("%d collections right after the next had gone", n)
		}
		if n := pass(time.Second); n == 0 {
			t.Error("none after a rest")
		}
		if n := pass(time.Hour); n != 0 {
			t.Errorf("%d collections more", n)
		}
		cancel()
		m.serving.Wait()
	})
}
