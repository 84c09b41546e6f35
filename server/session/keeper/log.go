package keeper

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxLog bounds a session's log, in bytes: two files of half that.
const maxLog = 4 << 20

// A logFile is a file that begins anew when it is half of maxLog; the one
// before is kept. Writing never fails: a full disk must not end a session.
type logFile struct {
	path string

	mu   sync.Mutex
	f    *os.File
	size int
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	return &logFile{path: path, f: f}, nil
}

// Write appends b.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+len(b) > maxLog/2 {
		if os.Rename(l.path, l.path+".1") == nil {
			if f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600); err == nil {
				l.f.Close()
				l.f = f
			}
		}
		l.size = 0
	}
	n, _ := l.f.Write(b)
	l.size += n
	return len(b), nil
}

// said is what the session's programs print, with a mark before each line: none
// of them can pass for a line of the keeper's own.
type said struct{ log *logFile }

// Write appends b, as lines of their own.
func (s said) Write(b []byte) (int, error) {
	text := make([]byte, 0, len(b)+64)
	for line := range bytes.Lines(b) {
		text = append(text, "| "...)
		for _, c := range bytes.TrimSuffix(line, []byte("\n")) {
			if c < ' ' && c != '\t' || c == 0x7f {
				c = '?'
			}
			text = append(text, c)
		}
		text = append(text, '\n')
	}
	_, _ = s.log.Write(text)
	return len(b), nil
}

// maxPart bounds the part of a line that whole waits with, in bytes.
const maxPart = 4096

// A whole passes lines on when they are whole: a traceback, which a Go program
// writes word by word, stays readable. It is for one goroutine.
type whole struct {
	w    io.Writer
	part []byte
}

// Write passes on what is whole.
func (l *whole) Write(b []byte) (int, error) {
	l.part = append(l.part, b...)
	end := bytes.LastIndexByte(l.part, '\n') + 1
	if len(l.part)-end > maxPart {
		end = len(l.part)
	}
	if end > 0 {
		_, _ = l.w.Write(l.part[:end])
		l.part = append(l.part[:0], l.part[end:]...)
	}
	return len(b), nil
}

// end passes on the rest.
func (l *whole) end() {
	if len(l.part) > 0 {
		_, _ = l.w.Write(l.part)
		l.part = nil
	}
}

// Close closes the file.
func (l *logFile) Close() error { return l.f.Close() }
