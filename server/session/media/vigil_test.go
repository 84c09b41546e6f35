package media

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// nothing is a Sink.
type nothing struct{}

func (nothing) Key(uint16, bool)       {}
func (nothing) Pointer(int, int, byte) {}
func (nothing) Wheel(int, int)         {}
func (nothing) Hold(bool)              {}
func (nothing) Release()               {}
func (nothing) Resize(int, int)        {}

func TestVigil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		v := &vigil{Sink: nothing{}, after: 10 * time.Second, tell: func(quiet bool) { told = append(told, quiet) }}
		pass := func(d time.Duration, want ...bool) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			v.mu.Lock() // told is said under it
			defer v.mu.Unlock()
			if !slices.Equal(told, want) {
				t.Fatalf("told %v, want %v", told, want)
			}
			told = nil
		}
		v.begin()
		pass(9 * time.Second)
		v.Key(4, true)
		pass(9 * time.Second)
		v.Release() // nobody did that
		v.Resize(640, 480)
		pass(1*time.Second+time.Millisecond, true)
		pass(time.Hour)
		v.Pointer(1, 1, 0)
		pass(0, false)
		v.Wheel(0, 1)
		pass(9 * time.Second)
		pass(1*time.Second+time.Millisecond, true)
		v.Key(4, false)
		pass(0, false)
		v.end()
		v.Key(4, true)
		pass(time.Hour)
	})
}
