package xdisplay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/BurntSushi/xgb/shm"
	"github.com/BurntSushi/xgb/xproto"

	"hotdesk/server/session/rawsock"
)

// An asker is a second connection to the X server, for what is asked and said with
// each frame and each key: the requests of a moment go out in one write, and who
// asks sleeps till the answers are there. Through xgb each request and each answer
// takes several turns of the scheduler, which is most of what a small frame costs.
//
// The X server's windows, regions and damage are the same for both connections. The
// order of what is asked here and there is not kept, but that what was answered
// there comes before what is asked here afterwards. While the X server is held by
// one of the two the other waits.
type asker struct {
	conn *rawsock.Direct
	ops  opcodes
	ask  sync.Mutex // held by who waits for answers

	mu   sync.Mutex // of what goes out
	out  []byte     // requests of this moment
	sent uint16     // sequence of the last of them
	more bool       // input that comes at once goes with them

	// Of who holds ask.
	in         []byte // read
	from, upto int    // of in, what was not looked at
	region     []xproto.Rectangle
}

// opcodes are the first bytes of the requests of extensions.
type opcodes struct{ damage, xfixes, xtest, shm byte }

// Requests by their numbers in the protocols.
const (
	opGrabServer     = 36
	opUngrabServer   = 37
	opQueryPointer   = 38
	opGetInputFocus  = 43
	damageSubtract   = 3
	fixesFetchRegion = 19
	fixesCursorImage = 4
	shmGetImage      = 4
	xtestFakeInput   = 2

	genericEvent = 35 // the one that is longer than others
)

// maxAnswer bounds one answer: a cursor of the largest size that X knows how to
// tell is the longest, and regions are far below.
const (
	maxAnswer = 16 << 20
	// keepAnswer is what answers may have in memory between two.
	keepAnswer = 4 << 10
)

var errAnswer = errors.New("the X server says what it must not")

// newAsker opens the second connection. What it asks is little endian, as the
// first one's.
func newAsker(c net.Conn, cookie []byte, ops opcodes) (*asker, error) {
	conn, err := rawsock.NewDirect(c)
	if err != nil {
		return nil, err
	}
	a := &asker{conn: conn, ops: ops, in: make([]byte, keepAnswer)}
	if err := a.setUp(cookie); err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

func (a *asker) setUp(cookie []byte) error {
	if _, err := a.conn.Write(setupRequest(cookie)); err != nil {
		return err
	}
	var head [8]byte
	if _, err := io.ReadFull(a.conn, head[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, a.conn, 4*int64(binary.LittleEndian.Uint16(head[6:]))); err != nil {
		return err
	}
	if head[0] != 1 {
		return errors.New("the X server refuses a second connection")
	}
	// Without the versions requests fail.
	a.ask.Lock()
	defer a.ask.Unlock()
	a.mu.Lock()
	fixes := a.request(a.ops.xfixes, 0, 5, 0)  // QueryVersion
	damage := a.request(a.ops.damage, 0, 1, 1) // the same
	err := a.flush()
	a.mu.Unlock()
	for _, seq := range []uint16{fixes, damage} {
		if err == nil {
			_, err = a.answer(seq)
		}
	}
	return err
}

// request adds one to those of this moment, made of words, and returns its
// sequence. mu is held.
func (a *asker) request(major, minor byte, words ...uint32) uint16 {
	a.out = append(a.out, major, minor)
	a.out = binary.LittleEndian.AppendUint16(a.out, uint16(1+len(words)))
	for _, w := range words {
		a.out = binary.LittleEndian.AppendUint32(a.out, w)
	}
	a.sent++
	return a.sent
}

// flush sends what was added. mu is held.
func (a *asker) flush() error {
	if len(a.out) == 0 {
		return nil
	}
	_, err := a.conn.Write(a.out)
	a.out = a.out[:0]
	return err
}

// An xError is the X server's answer to a request that it does not carry out.
type xError byte

func (e xError) Error() string { return fmt.Sprintf("X error %d", byte(e)) }

// answer waits for the answer to a request, and skips what comes before it. What
// it returns is good until the next call. Errors other than an xError are the end
// of the connection. ask is held.
func (a *asker) answer(seq uint16) ([]byte, error) {
	for {
		m, err := a.message()
		if err != nil {
			return nil, err
		}
		if m[0] > 1 { // an event that nobody can decline
			continue
		}
		switch d := int16(binary.LittleEndian.Uint16(m[2:]) - seq); {
		case d > 0:
			return nil, errAnswer
		case d < 0: // an error that nobody asked for, or what one who gave up has left
		case m[0] == 0:
			return nil, xError(m[1])
		default:
			return m, nil
		}
	}
}

// message is the next one of the X server, good until the next call.
func (a *asker) message() ([]byte, error) {
	if err := a.have(32); err != nil {
		return nil, err
	}
	n := 32
	if m := a.in[a.from:]; m[0] == 1 || m[0]&0x7f == genericEvent {
		more := int64(binary.LittleEndian.Uint32(m[4:])) * 4
		if more > maxAnswer {
			return nil, fmt.Errorf("%w: an answer of %d bytes, at most %d", errAnswer, more, maxAnswer)
		}
		n += int(more)
	}
	if err := a.have(n); err != nil {
		return nil, err
	}
	m := a.in[a.from : a.from+n]
	a.from += n
	return m, nil
}

// have reads till n bytes are there that were not looked at.
func (a *asker) have(n int) error {
	if a.upto-a.from >= n {
		return nil
	}
	a.upto = copy(a.in, a.in[a.from:a.upto])
	a.from = 0
	switch {
	case n > len(a.in):
		a.in = append(a.in[:a.upto], make([]byte, n-a.upto)...)
	case len(a.in) > keepAnswer && n <= keepAnswer && a.upto <= keepAnswer:
		a.in = append([]byte(nil), a.in[:keepAnswer]...)
	}
	for a.upto < n {
		k, err := a.conn.Read(a.in[a.upto:])
		if err != nil {
			return err
		}
		a.upto += k
	}
	return nil
}

// sync waits until the X server has done all that was said.
func (a *asker) sync() error {
	a.ask.Lock()
	defer a.ask.Unlock()
	a.mu.Lock()
	seq := a.request(opGetInputFocus, 0)
	err := a.flush()
	a.mu.Unlock()
	if err == nil {
		_, err = a.answer(seq)
	}
	return err
}

// rectangles are those of an answer to FetchRegion, good until the next call.
func (a *asker) rectangles(m []byte) []xproto.Rectangle {
	a.region = a.region[:0]
	for m = m[32:]; len(m) >= 8; m = m[8:] {
		at := func(i int) uint16 { return binary.LittleEndian.Uint16(m[i:]) }
		a.region = append(a.region, xproto.Rectangle{X: int16(at(0)), Y: int16(at(2)), Width: at(4), Height: at(6)})
	}
	return a.region
}

// shmImage makes the X server put rows of the screen, w pixels wide, into shared
// memory. ask is held.
func (a *asker) shmImage(root xproto.Drawable, seg shm.Seg, y, w, h, offset int) error {
	a.mu.Lock()
	seq := a.request(a.ops.shm, shmGetImage, uint32(root), uint32(y)<<16, uint32(w)|uint32(h)<<16, ^uint32(0),
		xproto.ImageFormatZPixmap, uint32(seg), uint32(offset))
	err := a.flush()
	a.mu.Unlock()
	if err == nil {
		_, err = a.answer(seq)
	}
	return err
}
