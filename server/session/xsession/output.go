package xsession

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxTail bounds what is remembered of a process's output for messages, in
// bytes.
const maxTail = 512

// An output is what a process prints, on its way to the log.
type output struct {
	read  *os.File
	ended chan struct{} // closed when nobody can print any more

	mu   sync.Mutex
	last []byte
}

// copy passes everything on until read is closed or nobody can write any more.
// It never stops before: a full pipe would halt the session.
func (o *output) copy(w io.Writer) {
	defer close(o.ended)
	b := make([]byte, 4096)
	for {
		n, err := o.read.Read(b)
		if n > 0 {
			o.mu.Lock()
			o.last = append(o.last, b[:n]...)
			if over := len(o.last) - maxTail; over > 0 {
				o.last = append(o.last[:0], o.last[over:]...)
			}
			o.mu.Unlock()
			if w != nil {
				_, _ = w.Write(b[:n]) // a full disk must not end a session
			}
		}
		if err != nil {
			return
		}
	}
}

// over reports whether nobody can print any more.
func (o *output) over() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// settle waits for the last words of a process that has ended; its children
// may go on talking, so not for ever.
func (o *output) settle() {
	select {
	case <-o.ended:
	case <-time.After(settleTime):
	}
}

// says reports whether text is among what was said last.
func (o *output) says(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.last, []byte(text))
}

// tail is the last line that says something, in printable characters: it goes
// into messages.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range slices.Backward(bytes.Split(o.last, []byte("\n"))) {
		text := strings.Map(func(r rune) rune {
			if r < 0x20 || r == 0x7f {
				return -1
			}
			return r
		}, strings.ToValidUTF8(string(line), "?"))
		text = strings.TrimSpace(strings.ReplaceAll(text, "(EE)", "")) // an X server's mark of errors
		if text != "" {
			return text
		}
	}
	return ""
}
