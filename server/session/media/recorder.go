package media

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/trace"
	"sync"
	"time"

	"hotdesk/server/session/encode"
)

const (
	// traceFiles is how many traces a session keeps: the last ones.
	traceFiles = 4
	// traceBytes bounds what the runtime holds, and nearly what a file has.
	traceBytes = 1 << 20
	// traceAge is how far back a trace goes at least, as far as that fits.
	traceAge = 500 * time.Millisecond
	// traceEvery is the least time between two traces: writing one takes time
	// that may make the next frame late.
	traceEvery = 10 * time.Second
)

// A recorder keeps the last moments of the process and writes them to a file
// when a frame took longer to make than it may.
type recorder struct {
	encode.Source
	budget time.Duration
	dir    string
	log    *slog.Logger
	flight *trace.FlightRecorder

	mu      sync.Mutex
	written time.Time // when the last trace was begun
	n       int       // traces so far
	writing sync.WaitGroup
}

// newRecorder begins to record; Stop ends it.
func newRecorder(s encode.Source, budget time.Duration, dir string, log *slog.Logger) (*recorder, error) {
	if budget <= 0 || dir == "" {
		return nil, errors.New("media: a budget and a directory are needed to record")
	}
	r := &recorder{Source: s, budget: budget, dir: dir, log: log,
		flight: trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: traceAge, MaxBytes: traceBytes})}
	if err := r.flight.Start(); err != nil {
		return nil, fmt.Errorf("media: recording: %w", err)
	}
	return r, nil
}

// View takes the time from the wish for a frame to its last byte: the wait for
// the screen, and the making.
func (r *recorder) View(f func(encode.View)) {
	begin := time.Now()
	r.Source.View(f)
	r.made(time.Now(), time.Since(begin))
}

// made notes a frame that was made at now. One that was late does not wait for
// its trace.
func (r *recorder) made(now time.Time, took time.Duration) {
	if took <= r.budget {
		return
	}
	if n, ok := r.claim(now); ok {
		r.writing.Go(func() { r.write(n, took) })
	}
}

// claim gives the number of a trace at now, if one is due.
func (r *recorder) claim(now time.Time) (n int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n > 0 && now.Sub(r.written) < traceEvery {
		return 0, false
	}
	n = r.n
	r.n, r.written = r.n+1, now
	return n, true
}

// write puts down what was recorded, in the place of the oldest trace.
func (r *recorder) write(n int, took time.Duration) {
	var b bytes.Buffer
	_, err := r.flight.WriteTo(&b)
	name := filepath.Join(r.dir, fmt.Sprintf("frame-%d.trace", n%traceFiles))
	if err == nil {
		err = os.WriteFile(name+".new", b.Bytes(), 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		r.log.Warn("a frame was late, and no trace of it written", "took", took, "budget", r.budget, "err", err)
		return
	}
	r.log.Warn("a frame was late", "took", took, "budget", r.budget, "trace", name)
}

// Stop ends the recording when what is being written is.
func (r *recorder) Stop() {
	r.writing.Wait()
	r.flight.Stop()
}
