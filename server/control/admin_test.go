package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who asks has all of the answer or none: what the owner is at is not left to itself,
// and what it has not begun is not begun.
func TestQueryIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		ctx, stop := context.WithCancel(t.Context())
		go s.own(ctx)
		hangUp, cancel := context.WithCancel(t.Context())
		n := 0
		err := s.query(hangUp, func() {
			n++
			cancel()
			time.Sleep(time.Second) // as one that has very many terminals
			n++
		})
		if err != nil || n != 2 {
			t.Errorf("%v, and %d of 2 was done", err, n)
		}
		s.post(func() { time.Sleep(time.Second) })
		if err := s.query(hangUp, func() { n++ }); !errors.Is(err, context.Canceled) {
			t.Errorf("whoever is gone: %v", err)
		}
		stop()
		<-s.stopped
		if err := s.query(t.Context(), func() { n++ }); !errors.Is(err, ErrStopped) {
			t.Errorf("the owner is gone: %v", err)
		}
		if n != 2 {
			t.Errorf("%d were done", n)
		}
	})
}
