package media

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is late leaves a trace, at most one in a while and so many in all; what
// is in time leaves none.
func TestRecorder(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	const budget = 10 * time.Millisecond
	r, err := newRecorder(nil, budget, dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, step := range []struct {
		after, took time.Duration
		files       int
	}{
		{0, budget, 0},
		{time.Second, budget + 1, 1},
		{2 * time.Second, budget + 1, 1}, // too soon
		{time.Second + traceEvery, budget + 1, 2},
		{time.Second + 2*traceEvery, time.Hour, 3},
		{time.Second + 3*traceEvery, time.Hour, traceFiles},
		{time.Second + 4*traceEvery, time.Hour, traceFiles},
	} {
		r.made(start.Add(step.after), step.took)
		r.writing.Wait()
		if got, _ := filepath.Glob(filepath.Join(dir, "*")); len(got) != step.files {
			t.Errorf("after %v: %d files %v, want %d", step.after, len(got), got, step.files)
		}
	}
	r.Stop()
	if n := strings.Count(log.String(), "a frame was late"); n != 5 {
		t.Errorf("%d lines, want 5:\n%s", n, &log)
	}
	b, err := os.ReadFile(filepath.Join(dir, "frame-0.trace"))
	if err != nil || !bytes.HasPrefix(b, []byte("go 1.")) || len(b) > 4*traceBytes {
		t.Errorf("no trace: %d bytes, %.20q, %v", len(b), b, err)
	}
}
