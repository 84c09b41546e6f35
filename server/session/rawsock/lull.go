package rawsock

import "time"

// A lull is what comes between two datagrams, either way. A timer that was put
// off stays in the scheduler's heap with its old time, and wakes the process then
// for nothing: QUIC puts its own off with each acknowledgement that it gets or
// sends. Where a quarter of the timers were stopped, the scheduler puts its heap
// in order before it sleeps. If it ever does so without that, or no more with it,
// nothing else changes.
type lull [4]*time.Timer

// never is further off than any other timer.
const never time.Duration = 1 << 60

func (l *lull) init() {
	for i := range l {
		l[i] = time.AfterFunc(never, func() {})
		l[i].Stop()
	}
}

func (l *lull) begins() {
	for _, t := range l {
		t.Reset(never)
	}
	for _, t := range l {
		t.Stop()
	}
}
