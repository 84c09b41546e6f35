package rpc

import (
	"log/slog"
	"sync"
	"time"
)

// noteEvery is the time between two lines of Notes.
const noteEvery = time.Second

// Notes is the log of what peers cause: at most a line a second, which says how
// many there were that it leaves out.
type Notes struct {
	Log *slog.Logger // nil: silent

	mu     sync.Mutex
	told   time.Time
	untold int
}

// Warn writes a line if the rate allows it.
func (n *Notes) Warn(message string, attributes ...any) {
	n.mu.Lock()
	now := time.Now()
	if now.Sub(n.told) < noteEvery {
		n.untold++
		n.mu.Unlock()
		return
	}
	untold := n.untold
	n.told, n.untold = now, 0
	n.mu.Unlock()
	if untold > 0 {
		attributes = append(attributes, "unlogged", untold)
	}
	if n.Log != nil {
		n.Log.Warn(message, attributes...)
	}
}
