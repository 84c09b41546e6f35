package control

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Lines of the log that one terminal, and all together, can cause: so many at
// once, then so many a second. People stay far below; whoever does not cannot
// fill the disk.
const (
	terminalNotes, terminalNotesRate = 200, 2
	allNotes, allNotesRate           = 4000, 100
)

// notes bounds log lines that others cause: burst at once, then rate a second.
type notes struct {
	burst, rate int

	mu     sync.Mutex
	last   time.Time
	spent  int
	hidden int
}

// note runs log, with attributes that tell how many lines were left out since
// the last, unless there were too many of late.
func (n *notes) note(log func(more ...any)) {
	n.mu.Lock()
	now := time.Now()
	if back := int(now.Sub(n.last).Seconds() * float64(n.rate)); back > 0 {
		n.spent, n.last = max(0, n.spent-back), now
	}
	if n.spent >= n.burst {
		n.hidden++
		n.mu.Unlock()
		return
	}
	n.spent++
	hidden := n.hidden
	n.hidden = 0
	n.mu.Unlock()
	if hidden > 0 {
		log("unlogged", hidden)
		return
	}
	log()
}

// say logs what a terminal has caused.
func (s *Server) say(t *terminal, level slog.Level, message string, attributes ...any) {
	t.notes.note(func(own ...any) {
		s.notes.note(func(all ...any) {
			s.log.Log(context.Background(), level, message, slices.Concat([]any{"terminal", t.id}, attributes, own, all)...)
		})
	})
}
