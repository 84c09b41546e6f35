package xdisplay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A wire is the connection to the X server as xgb sees it: one that never
// fails. When the real one ends, xgb would close a channel twice and panic,
// and every caller that waits for a reply would wait for ever; so a wire
// answers each request of a lost connection with an error itself.
//
// It also presents the cookie of the session (xgb looks for it in the
// environment alone), and drops events until release is called: xgb fills its
// unlocked tables of events while extensions are initialised. Of those
// that come with each frame xgb sees nothing.
type wire struct {
	net.Conn // to the X server
	cookie   []byte
	lost     chan struct{}           // closed when the connection has ended
	released atomic.Bool             // events pass
	take     func(event []byte) bool // set by release: reports whether xgb need not see it
	r        *bufio.Reader
	head     [32]byte
	out      []byte // reader: what remains of the message being delivered
	setUp    bool   // reader: the setup reply has been delivered
	answered uint16 // reader: sequence of the newest reply or error

	mu      sync.Mutex
	more    sync.Cond // written has grown, or err is set
	greeted bool      // the setup request has been sent
	written uint16    // sequence of the newest request
	err     error     // why the connection ended
	beside  io.Closer // ends with it
	woken   bool      // the event that tells xgb's reader of the end was sent
}

// maxMessage bounds one message of the X server: a reply with an image of the
// largest screen is the longest.
const maxMessage = 64 << 20

// wakeEvent is the last thing that comes when the connection has ended, so that
// whoever waits for events knows: a KeymapNotify, which is never selected.
const wakeEvent = 11

// errorImplementation is X11's BadImplementation, the answer to every request
// on a lost connection.
const errorImplementation = 17

func newWire(c net.Conn, cookie []byte) *wire {
	w := &wire{Conn: c, cookie: cookie, lost: make(chan struct{}), r: bufio.NewReaderSize(c, 8<<10)}
	w.more.L = &w.mu
	return w
}

// release lets events pass from now on, but for those that take takes. It is called
// by the reader and must not wait for answers of the X server.
func (w *wire) release(take func(event []byte) bool) {
	w.take = take
	w.released.Store(true)
}

// Write sends one request; xgb writes each by one call.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.greeted {
		w.greeted = true
		if _, err := w.Conn.Write(setupRequest(w.cookie)); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	w.written++
	w.more.Signal()
	if w.err != nil {
		return len(b), nil
	}
	if _, err := w.Conn.Write(b); err != nil {
		w.endLocked(err)
	}
	return len(b), nil
}

// setupRequest opens the X11 protocol 11.0, little endian.
func setupRequest(cookie []byte) []byte {
	b := []byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if len(cookie) > 0 {
		binary.LittleEndian.PutUint16(b[6:], uint16(len(cookieName)))
		binary.LittleEndian.PutUint16(b[8:], uint16(len(cookie)))
		b = append(b, cookieName...)
		b = append(b, make([]byte, -len(b)&3)...)
		b = append(b, cookie...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	return b
}

// Read delivers what xgb asked for: it reads the 32 bytes of a message first
// and then the rest of it, so one call never crosses a message's end.
func (w *wire) Read(b []byte) (int, error) {
	if len(w.out) == 0 && !w.setUp {
		return w.readSetup(b)
	}
	for len(w.out) == 0 {
		m, err := w.message()
		if err != nil {
			w.end(err)
			m = w.afterEnd()
		}
		w.out = m
	}
	n := copy(b, w.out)
	w.out = w.out[n:]
	return n, nil
}

// readSetup delivers the answer to the setup request, of which errors are
// xgb's to report.
func (w *wire) readSetup(b []byte) (int, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return 0, err
	}
	m := make([]byte, 8+4*int(binary.LittleEndian.Uint16(head[6:])))
	copy(m, head)
	if _, err := io.ReadFull(w.r, m[8:]); err != nil {
		return 0, err
	}
	w.setUp = true
	w.out = m[copy(b, m):]
	return len(m) - len(w.out), nil
}

// message reads the next message of the X server that xgb is to see.
func (w *wire) message() ([]byte, error) {
	for {
		m := w.head[:]
		if _, err := io.ReadFull(w.r, m); err != nil {
			return nil, err
		}
		switch m[0] {
		case 0, 1: // error, reply
			w.answered = binary.LittleEndian.Uint16(m[2:])
			if n := int64(binary.LittleEndian.Uint32(m[4:])) * 4; m[0] == 1 && n > 0 {
				if n > maxMessage {
					return nil, fmt.Errorf("a reply of %d bytes, at most %d", n, maxMessage)
				}
				m = append(m, make([]byte, n)...)
				if _, err := io.ReadFull(w.r, m[32:]); err != nil {
					return nil, err
				}
			}
			return m, nil
		}
		if w.released.Load() && !w.take(m) {
			return m, nil
		}
	}
}

// afterEnd makes up the X server's side once it is gone.
func (w *wire) afterEnd() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = [32]byte{}
	m := w.head[:]
	if w.answered == w.written && !w.woken {
		w.woken = true
		m[0] = wakeEvent
		return m
	}
	for w.answered == w.written {
		w.more.Wait()
	}
	w.answered++
	m[1] = errorImplementation
	binary.LittleEndian.PutUint16(m[2:], w.answered)
	return m
}

// end closes the connection for a reason; the first counts.
func (w *wire) end(err error) {
	w.Conn.Close() // before the lock, which a request that is stuck holds
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked(err)
}

func (w *wire) endLocked(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	close(w.lost)
	w.Conn.Close()
	if w.beside != nil {
		w.beside.Close()
	}
}

// join makes c end with the connection.
func (w *wire) join(c io.Closer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beside = c
	if w.err != nil {
		c.Close()
	}
}

// why is nil while the connection lives.
func (w *wire) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// dial opens the socket of a local display, ":7" or "/dir:7".
func dial(display string) (net.Conn, error) {
	i := strings.LastIndexByte(display, ':')
	if i < 0 {
		return nil, fmt.Errorf("display %q: want :NUMBER", display)
	}
	number, _, _ := strings.Cut(display[i+1:], ".")
	if _, err := strconv.ParseUint(number, 10, 16); err != nil {
		return nil, fmt.Errorf("display %q: want :NUMBER", display)
	}
	socket := "/tmp/.X11-unix/X" + number
	if i > 0 {
		if display[0] != '/' {
			return nil, fmt.Errorf("display %q: only displays of this host", display)
		}
		socket = display[:i] + ":" + number
	}
	return net.Dial("unix", socket)
}

// cookieName is the one way to authenticate that is used here.
const cookieName = "MIT-MAGIC-COOKIE-1"

// maxAuthority bounds the file of cookies in bytes.
const maxAuthority = 1 << 20

// readCookie finds the display's cookie in an authority file; nil when the
// file has none.
func readCookie(file, display string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAuthority+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAuthority {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, maxAuthority)
	}
	number, _, _ := strings.Cut(display[strings.LastIndexByte(display, ':')+1:], ".")
	return parseAuthority(b, number)
}

var errAuthority = errors.New("bad X authority file")

// parseAuthority returns the cookie of the first entry for the display of that
// number, or for any. An entry is a 16 bit family and four strings with
// lengths of 16 bits, big endian: address, number, name and data. The address
// is not looked at: the file is the session's own.
func parseAuthority(b []byte, number string) ([]byte, error) {
	for len(b) > 0 {
		if len(b) < 2 {
			return nil, errAuthority
		}
		b = b[2:]
		var field [4][]byte
		for i := range field {
			if len(b) < 2 {
				return nil, errAuthority
			}
			n := int(binary.BigEndian.Uint16(b))
			if len(b) < 2+n {
				return nil, errAuthority
			}
			field[i], b = b[2:2+n], b[2+n:]
		}
		if (len(field[1]) == 0 || string(field[1]) == number) && string(field[2]) == cookieName {
			return field[3], nil
		}
	}
	return nil, nil
}
