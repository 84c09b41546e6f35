package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

// An xwire is a program in a session that speaks to its X server as it likes:
// requests are bytes, and nothing of a library holds it back.
type xwire struct {
	f    *fort
	c    net.Conn
	base uint32 // of its resources' ids
	root uint32
	seq  uint16
}

// xwire connects with the session's own cookie, as any program of its user.
func (f *fort) xwire(session alp.SessionID) *xwire {
	f.t.Helper()
	st, _, err := f.host.Keeper(f.ctx, session)
	f.must(err)
	auth, err := os.ReadFile(filepath.Join(f.host.FrameBuffers(), string(session), "Xauthority"))
	f.must(err)
	c, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(st.Display, ":"))
	f.must(err)
	f.t.Cleanup(func() { c.Close() })
	x := &xwire{f: f, c: c}
	name := "MIT-MAGIC-COOKIE-1"
	setup := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, 16, 0, 0, 0}
	setup = append(append(append(setup, name...), 0, 0), auth[len(auth)-16:]...)
	x.send(setup)
	head := x.read(8)
	if head[0] != 1 {
		f.t.Fatalf("the X server refuses: %q", x.read(4*int(binary.LittleEndian.Uint16(head[6:]))))
	}
	body := x.read(4 * int(binary.LittleEndian.Uint16(head[6:])))
	x.base = binary.LittleEndian.Uint32(body[4:])
	vendor, formats := int(binary.LittleEndian.Uint16(body[16:])), int(body[21])
	x.root = binary.LittleEndian.Uint32(body[32+(vendor+3)&^3+8*formats:])
	return x
}

func (x *xwire) send(b []byte) {
	x.f.t.Helper()
	x.c.SetDeadline(time.Now().Add(patience))
	_, err := x.c.Write(b)
	x.f.must(err)
}

func (x *xwire) read(n int) []byte {
	x.f.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(x.c, b)
	x.f.must(err)
	return b
}

// request sends one request: its code, the byte beside it, and words.
func (x *xwire) request(code, detail byte, words ...uint32) {
	x.f.t.Helper()
	b := []byte{code, detail, byte(1 + len(words)), byte((1 + len(words)) >> 8)}
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	x.seq++
	x.send(b)
}

// reply returns the reply to the latest request; errors of those before it,
// and events, are passed over.
func (x *xwire) reply() []byte {
	x.f.t.Helper()
	for {
		m := x.read(32)
		if m[0] == 1 {
			return append(m, x.read(4*int(binary.LittleEndian.Uint32(m[4:])))...)
		}
		if m[0] == 0 && binary.LittleEndian.Uint16(m[2:]) == x.seq {
			x.f.t.Fatalf("X error %d", m[1])
		}
	}
}

// Requests of the X protocol that an attacker likes.
const (
	xCreateWindow   = 1
	xQueryTree      = 15
	xChangeProperty = 18
	xGrabPointer    = 26
	xGrabKeyboard   = 31
	xGrabServer     = 36
	xGetInputFocus  = 43
	xKillClient     = 113
)

// round waits until all requests before it are done.
func (x *xwire) round() { x.request(xGetInputFocus, 0); x.reply() }

// owners are the clients that have windows: people would see those go.
func (x *xwire) owners() (list []uint32) {
	x.f.t.Helper()
	const client = 0x1fffff // resource-id-mask: 256 clients
	todo := []uint32{x.root}
	for len(todo) > 0 {
		x.request(xQueryTree, 0, todo[0])
		todo = todo[1:]
		for m := x.reply()[32:]; len(m) >= 4; m = m[4:] {
			w := binary.LittleEndian.Uint32(m)
			todo = append(todo, w)
			list = append(list, w&^uint32(client))
		}
	}
	return list
}

// A program of a session that turns against the session's own media, keeper
// and gateway by way of the X server. What it ruins is its own session; the
// person at the terminal gets out with their card, and others notice nothing.
func TestAttackX(t *testing.T) {
	f := newFort(t)
	bad, err := f.lab.Terminal(f.ctx, "bad", "-server", f.host.Addr, "-size", small)
	f.must(err)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := bad.Ctl(f.ctx, args...)
		f.must(err)
		return out
	}
	in := func() alp.SessionID {
		t.Helper()
		ctl("insert", "card2")
		ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
		id, err := bad.Status(f.ctx, "session")
		f.must(err)
		return alp.SessionID(id)
	}
	id := in()

	t.Run("kills media's connection", func(t *testing.T) {
		f.t = t
		before, _, err := f.host.Keeper(f.ctx, id)
		f.must(err)
		f.during(func() {
			x := f.xwire(id)
			spared := append(x.owners(), x.base)
			for n := range uint32(256) {
				if base := n << 21; !slices.Contains(spared, base) {
					for r := range uint32(16) {
						x.request(xKillClient, 0, base|r)
					}
				}
			}
			x.round()
		})
		for until := time.Now().Add(patience); ; pause() {
			st, _, err := f.host.Keeper(f.ctx, id)
			f.must(err)
			if st.Media != 0 && st.Media != before.Media && st.Terminal != "" {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("no other media shows the session: %+v", st)
			}
		}
		ctl("wait", "-timeout", patience.String(), "picture", "session="+string(id), "pixel=400,300,"+xtermColour)
	})

	t.Run("floods properties and windows, takes pointer and keys", func(t *testing.T) {
		f.t = t
		f.during(func() {
			x := f.xwire(id)
			x.request(xGrabPointer, 0, x.root, 0x01010000, 0, 0, 0)
			x.request(xGrabKeyboard, 0, x.root, 0, 0x0101)
			long := bytes.Repeat([]byte("\x1b]0;\n\x00\xff<b>"), 6000)
			for n := range uint32(200) {
				w := x.base | (n + 1)
				// 16 pixels everywhere, off the screen and back, never mapped.
				x.request(xCreateWindow, 0, w, x.root, 0x7fff7fff-n, 0x00100010, 0x00010000, 0, 0)
				words := []uint32{w, 39, 31, 8, uint32(len(long) &^ 3)} // WM_NAME, STRING
				for b := long; len(b) >= 4; b = b[4:] {
					words = append(words, binary.LittleEndian.Uint32(b))
				}
				x.request(xChangeProperty, 0, words...)
			}
			x.round()
			x.c.Close() // and what it took is free
		})
		ctl("type", "xsetroot -solid '#123456'\n")
		ctl("wait", "-timeout", patience.String(), corner+"123456")
	})

	t.Run("holds the X server for ever", func(t *testing.T) {
		f.t = t
		f.during(func() {
			x := f.xwire(id)
			x.request(xGrabServer, 0)
			x.round()
			ctl("type", "x")
			ctl("remove")
			ctl("wait", "-timeout", patience.String(), "picture", "session=")
			// Another card is served at the same terminal.
			ctl("insert", "card3")
			ctl("wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
			if now, err := bad.Status(f.ctx, "session"); err != nil || now == string(id) {
				t.Errorf("card3 has session %s, %v", now, err)
			}
			ctl("remove")
			x.c.Close() // the program ends: its session is as it was
		})
		if again := in(); again != id {
			t.Errorf("the session was %s and is %s", id, again)
		}
		ctl("type", "\nxsetroot -solid '#654321'\n")
		ctl("wait", "-timeout", patience.String(), corner+"654321")
	})
	f.t = t
	f.works()
	f.unharmed()
	if f.logged("panic") > 0 {
		t.Error(fmt.Sprint("a program panicked:\n", f.log()))
	}
}
