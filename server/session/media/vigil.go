package media

import (
	"sync"
	"time"

	"hotdesk/server/session/attach"
)

// A vigil tells when nobody has typed or moved anything for a time, and when
// somebody does again, in turns. It is safe for concurrent use.
type vigil struct {
	attach.Sink
	after time.Duration
	tell  func(quiet bool)

	mu    sync.Mutex
	timer *time.Timer // nil: not begun, or over
	last  time.Time   // input
	quiet bool
}

func (v *vigil) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = time.Now()
	v.timer = time.AfterFunc(v.after, v.look)
}

func (v *vigil) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer != nil {
		v.timer.Stop()
		v.timer = nil
	}
}

func (v *vigil) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer == nil || v.quiet {
		return
	}
	if left := v.after - time.Since(v.last); left > 0 { // a timer that every key sets would cost more
		v.timer.Reset(left)
		return
	}
	v.quiet = true
	v.tell(true)
}

// stir is input.
func (v *vigil) stir() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = time.Now()
	if v.quiet && v.timer != nil {
		v.quiet = false
		v.tell(false)
		v.timer.Reset(v.after)
	}
}

func (v *vigil) Key(usage uint16, down bool)    { v.stir(); v.Sink.Key(usage, down) }
func (v *vigil) Pointer(x, y int, buttons byte) { v.stir(); v.Sink.Pointer(x, y, buttons) }
func (v *vigil) Wheel(right, down int)          { v.stir(); v.Sink.Wheel(right, down) }
