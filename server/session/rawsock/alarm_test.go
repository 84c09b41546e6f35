package rawsock

import (
	"testing"
	"time"
)

func TestAlarm(t *testing.T) {
	rang := make(chan time.Time, 10)
	a, err := NewAlarm(func() { rang <- time.Now() })
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{20 * time.Millisecond, 0, -time.Second, time.Millisecond} {
		begun := time.Now()
		a.Reset(time.Hour)
		a.Reset(d) // the last one counts
		if at := <-rang; at.Sub(begun) < d {
			t.Errorf("after %v instead of %v", at.Sub(begun), d)
		}
	}
	a.Reset(time.Hour)
	a.Stop()
	a.Reset(0)
	a.Stop()
	select {
	case <-rang:
		t.Error("it rang too often")
	default:
	}
}
