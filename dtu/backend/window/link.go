package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// A link is the connection to the X server as xgb sees it: one that never
// ends. xgb panics when a server goes away (it closes a channel twice), and its
// own Close can wait for ever (it may take its last reply for none); so a link
// tells its owner of the end, wakes who waits for events, and then leaves
// xgb's goroutines parked. It also writes the setup request with the cookie,
// which xgb looks for under a name that only its own dialling sets.
type link struct {
	net.Conn
	setup []byte        // sent instead of the first write, then nil
	head  []byte        // of the setup reply, 8 bytes with the length of the rest
	left  int           // bytes of the setup reply, or of its head, to come
	woken bool          // the last event has been made up
	gone  chan struct{} // closed when the connection has ended
	once  sync.Once
}

// setupHead is the length of the first part of the setup reply.
const setupHead = 8

func newLink(c net.Conn, cookie []byte) *link {
	return &link{Conn: c, setup: setupRequest(cookie), left: setupHead, gone: make(chan struct{})}
}

func (l *link) end() { l.once.Do(func() { close(l.gone) }) }

// Read tells of errors while xgb sets the connection up, and it can bear them.
func (l *link) Read(b []byte) (int, error) {
	if l.left > 0 {
		n, err := l.Conn.Read(b[:min(len(b), l.left)])
		l.left -= n
		if len(l.head) < setupHead {
			l.head = append(l.head, b[:n]...)
			if len(l.head) == setupHead {
				l.left = 4 * int(binary.LittleEndian.Uint16(l.head[6:]))
			}
		}
		return n, err
	}
	n, err := l.Conn.Read(b)
	if n > 0 || err == nil {
		return n, nil
	}
	l.end()
	if l.woken {
		select {}
	}
	const message, keymapNotify = 32, 11
	clear(b) // of a message that was cut short, zeros are the rest
	if len(b) == message {
		b[0], l.woken = keymapNotify, true
	}
	return len(b), nil
}

// Write drops what cannot be sent; Read tells.
func (l *link) Write(b []byte) (int, error) {
	if l.setup != nil {
		_, err := l.Conn.Write(l.setup)
		l.setup = nil
		return len(b), err
	}
	if _, err := l.Conn.Write(b); err != nil {
		l.end()
	}
	return len(b), nil
}

// dial opens a display such as ":7", ":7.0", "host:7" or "unix:7".
func dial(display string) (*link, error) {
	i := strings.LastIndexByte(display, ':')
	number, _, _ := strings.Cut(display[i+1:], ".")
	n, err := strconv.ParseUint(number, 10, 15)
	if i < 0 || err != nil {
		return nil, fmt.Errorf("display %q: want :NUMBER or HOST:NUMBER", display)
	}
	host := display[:i]
	var c net.Conn
	if host == "" || host == "unix" {
		c, err = net.Dial("unix", "/tmp/.X11-unix/X"+number)
	} else {
		c, err = net.Dial("tcp", net.JoinHostPort(host, strconv.FormatUint(6000+n, 10)))
	}
	if err != nil {
		return nil, err
	}
	cookie, err := readCookie(number)
	if err != nil {
		c.Close()
		return nil, err
	}
	return newLink(c, cookie), nil
}

// cookieName is the one way to authenticate that is known here.
const cookieName = "MIT-MAGIC-COOKIE-1"

// maxAuthority bounds the file of cookies, in bytes.
const maxAuthority = 1 << 20

// setupRequest opens the X11 protocol 11.0, little endian.
func setupRequest(cookie []byte) []byte {
	b := []byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if len(cookie) == 0 {
		return b
	}
	binary.LittleEndian.PutUint16(b[6:], uint16(len(cookieName)))
	binary.LittleEndian.PutUint16(b[8:], uint16(len(cookie)))
	pad := make([]byte, 3)
	b = append(b, cookieName...)
	b = append(b, pad[:-len(b)&3]...)
	b = append(b, cookie...)
	return append(b, pad[:-len(b)&3]...)
}

// readCookie looks where the X library would; no file is no cookie.
func readCookie(number string) ([]byte, error) {
	file := os.Getenv("XAUTHORITY")
	if file == "" {
		file = filepath.Join(os.Getenv("HOME"), ".Xauthority")
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAuthority))
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return findCookie(b, host, number), nil
}

// findCookie returns the data of the first entry for a display of this host.
// An entry is a 16 bit family and address, number, name and data, each with a
// 16 bit length, all big endian. What is broken ends the file.
func findCookie(b []byte, host, number string) []byte {
	const familyLocal, familyWild = 256, 65535
	for len(b) >= 2 {
		family := binary.BigEndian.Uint16(b)
		b = b[2:]
		var field [4][]byte
		for i := range field {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return nil
			}
			n := 2 + int(binary.BigEndian.Uint16(b))
			field[i], b = b[2:n], b[n:]
		}
		here := family == familyWild || family == familyLocal && string(field[0]) == host
		if here && (len(field[1]) == 0 || string(field[1]) == number) && string(field[2]) == cookieName {
			return field[3]
		}
	}
	return nil
}
