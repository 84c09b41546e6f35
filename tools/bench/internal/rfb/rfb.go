// Package rfb is a small headless VNC client for benchmarks.
//
// Source: RFC 6143 and the community's RFB specification: Raw, CopyRect,
// Hextile, Tight and ZRLE, the cursor pseudo encodings, Fence and
// ContinuousUpdates as the real TigerVNC viewer speaks them.
//
// A Client reads from a goroutine of its own; its methods are safe for
// concurrent use. It trusts the server, which the benchmark has started
// itself: lengths from it are not bounded. JPEG is decoded by image/jpeg, which
// is slower than the viewer's own library; only the viewer's time shows that.
package rfb

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The encodings that a Client knows.
const (
	EncRaw     = 0
	EncCopy    = 1
	EncHextile = 5
	EncTight   = 7
	EncZRLE    = 16
)

// Options say what the client asks for.
type Options struct {
	Encodings []int32 // real encodings, preferred first
	Quality   int     // JPEG quality 0..9, -1 = lossless
	Compress  int     // -1 = not sent
}

// A zstream is one of the persistent zlib streams.
type zstream struct {
	in bytes.Buffer
	zr io.ReadCloser
}

func (z *zstream) ReadByte() (byte, error)    { return z.in.ReadByte() }
func (z *zstream) Read(p []byte) (int, error) { return z.in.Read(p) }
func (z *zstream) reset()                     { z.in.Reset(); z.zr = nil }
func (z *zstream) inflate(src, dst []byte) error {
	z.in.Write(src)
	if z.zr == nil {
		zr, err := zlib.NewReader(z)
		if err != nil {
			return err
		}
		z.zr = zr
	}
	_, err := io.ReadFull(z.zr, dst)
	return err
}

// A Client is one connection.
type Client struct {
	conn  net.Conn
	br    *bufio.Reader
	W, H  int
	opt   Options
	wmu   sync.Mutex
	mu    sync.Mutex // guards FB, armed, snap
	FB    []byte     // BGRX
	tight [4]zstream
	zrle  zstream
	buf   []byte
	buf2  []byte
	cu    bool

	Bytes, Sent, Updates, Rects, Pixels atomic.Int64
	EncCount, EncBytes                  [64]atomic.Int64
	JPEGRects, JPEGPixels               atomic.Int64
	Last                                atomic.Int64 // unix ns of the last update with pixels
	First                               atomic.Int64
	err                                 error
	Done                                chan struct{}

	armed   bool
	snap    []byte
	changed chan time.Time
}

// Read counts what comes.
func (c *Client) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	c.Bytes.Add(int64(n))
	return n, err
}

// Dial connects and asks for the whole screen.
func Dial(addr string, opt Options) (*Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, opt: opt, Done: make(chan struct{}), changed: make(chan time.Time, 1)}
	c.br = bufio.NewReaderSize(c, 256<<10)
	if err := c.handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	go func() { c.err = c.loop(); close(c.Done) }()
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close(); <-c.Done }

// Err is why it has ended, once Done is closed.
func (c *Client) Err() error { return c.err }
func (c *Client) full(n int) ([]byte, error) {
	if cap(c.buf) < n {
		c.buf = make([]byte, n+n/2)
	}
	b := c.buf[:n]
	_, err := io.ReadFull(c.br, b)
	return b, err
}

func (c *Client) send(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n, err := c.conn.Write(b)
	c.Sent.Add(int64(n))
	return err
}

func (c *Client) handshake() error {
	if _, err := c.full(12); err != nil {
		return err
	}
	c.send([]byte("RFB 003.008\n"))
	n, err := c.full(1)
	if err != nil {
		return err
	}
	if n[0] == 0 {
		l, _ := c.full(4)
		m, _ := c.full(int(binary.BigEndian.Uint32(l)))
		return fmt.Errorf("server refused: %s", m)
	}
	if _, err := c.full(int(n[0])); err != nil {
		return err
	}
	c.send([]byte{1})
	r, err := c.full(4)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(r) != 0 {
		return fmt.Errorf("security failed")
	}
	c.send([]byte{1})
	si, err := c.full(24)
	if err != nil {
		return err
	}
	c.W, c.H = int(binary.BigEndian.Uint16(si)), int(binary.BigEndian.Uint16(si[2:]))
	if _, err = c.full(int(binary.BigEndian.Uint32(si[20:]))); err != nil {
		return err
	}
	c.FB = make([]byte, c.W*c.H*4)
	// 32 bpp, depth 24, little endian, true colour, BGRX in memory
	c.send([]byte{0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0})
	encs := append([]int32{}, c.opt.Encodings...)
	encs = append(encs, EncCopy, -239, -314, -224, -223, -308, -312, -313)
	if c.opt.Quality >= 0 {
		encs = append(encs, int32(-32+c.opt.Quality))
	}
	if c.opt.Compress >= 0 {
		encs = append(encs, int32(-256+c.opt.Compress))
	}
	m := []byte{2, 0}
	m = binary.BigEndian.AppendUint16(m, uint16(len(encs)))
	for _, e := range encs {
		m = binary.BigEndian.AppendUint32(m, uint32(e))
	}
	c.send(m)
	return c.request(0)
}

func (c *Client) request(incr byte) error {
	m := []byte{3, incr, 0, 0, 0, 0}
	m = binary.BigEndian.AppendUint16(m, uint16(c.W))
	m = binary.BigEndian.AppendUint16(m, uint16(c.H))
	return c.send(m)
}

// Key sends a keysym.
func (c *Client) Key(sym uint32, down bool) {
	d := byte(0)
	if down {
		d = 1
	}
	c.send(binary.BigEndian.AppendUint32([]byte{4, d, 0, 0}, sym))
}

// Pointer moves the pointer.
func (c *Client) Pointer(x, y int, mask byte) {
	m := []byte{5, mask}
	m = binary.BigEndian.AppendUint16(m, uint16(x))
	m = binary.BigEndian.AppendUint16(m, uint16(y))
	c.send(m)
}

// Arm starts a wait for the next real pixel change.
func (c *Client) Arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.changed:
	default:
	}
	c.snap = append(c.snap[:0], c.FB...)
	c.armed = true
}

// WaitChange waits for what Arm watches for.
func (c *Client) WaitChange(d time.Duration) (time.Time, bool) {
	select {
	case t := <-c.changed:
		return t, true
	case <-time.After(d):
		c.mu.Lock()
		c.armed = false
		c.mu.Unlock()
		return time.Time{}, false
	}
}

// Image is a copy of the screen.
func (c *Client) Image() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.FB...)
}

// Rows copies some rows of the screen to where they are in pix.
func (c *Client) Rows(y0, y1 int, pix []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(pix[y0*c.W*4:y1*c.W*4], c.FB[y0*c.W*4:])
}

func (c *Client) loop() error {
	for {
		t, err := c.br.ReadByte()
		if err != nil {
			return err
		}
		switch t {
		case 0:
			if err := c.update(); err != nil {
				return err
			}
		case 1:
			h, err := c.full(5)
			if err != nil {
				return err
			}
			if _, err = c.full(6 * int(binary.BigEndian.Uint16(h[3:]))); err != nil {
				return err
			}
		case 2:
		case 3:
			h, err := c.full(7)
			if err != nil {
				return err
			}
			n := int32(binary.BigEndian.Uint32(h[3:]))
			if n < 0 {
				n = -n
			}
			if _, err = c.full(int(n)); err != nil {
				return err
			}
		case 150: // end of continuous updates: the server supports them
			if !c.cu {
				c.cu = true
				m := []byte{150, 1, 0, 0, 0, 0}
				m = binary.BigEndian.AppendUint16(m, uint16(c.W))
				m = binary.BigEndian.AppendUint16(m, uint16(c.H))
				c.send(m)
			}
		case 248:
			h, err := c.full(8)
			if err != nil {
				return err
			}
			fl := binary.BigEndian.Uint32(h[3:])
			n := int(h[7])
			p, err := c.full(n)
			if err != nil {
				return err
			}
			if fl&(1<<31) != 0 {
				m := []byte{248, 0, 0, 0}
				m = binary.BigEndian.AppendUint32(m, fl&7)
				m = append(m, byte(n))
				m = append(m, p...)
				c.send(m)
			}
		default:
			return fmt.Errorf("unknown message %d", t)
		}
	}
}

type rect struct{ x, y, w, h int }

func (c *Client) update() error {
	if !c.cu {
		// as the real viewer: ask for the next update before decoding this one
		c.request(1)
	}
	h, err := c.full(3)
	if err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(h[1:]))
	var rs []rect
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i < n; i++ {
		h, err := c.full(12)
		if err != nil {
			return err
		}
		r := rect{int(binary.BigEndian.Uint16(h)), int(binary.BigEndian.Uint16(h[2:])), int(binary.BigEndian.Uint16(h[4:])), int(binary.BigEndian.Uint16(h[6:]))}
		e := int32(binary.BigEndian.Uint32(h[8:]))
		b0 := c.Bytes.Load() - int64(c.br.Buffered())
		switch e {
		case -224: // LastRect
			i = n
			continue
		case -239:
			if _, err := c.full(r.w*r.h*4 + (r.w+7)/8*r.h); err != nil {
				return err
			}
			continue
		case -314:
			b, err := c.full(4)
			if err != nil {
				return err
			}
			if binary.BigEndian.Uint32(b) != 0 {
				return fmt.Errorf("alpha cursor encoding")
			}
			if _, err := c.full(r.w * r.h * 4); err != nil {
				return err
			}
			continue
		case -232:
			continue
		case -223, -308:
			if e == -308 {
				b, err := c.full(4)
				if err != nil {
					return err
				}
				if _, err := c.full(int(b[0]) * 16); err != nil {
					return err
				}
			}
			if r.w != c.W || r.h != c.H {
				c.W, c.H = r.w, r.h
				c.FB = make([]byte, c.W*c.H*4)
			}
			continue
		}
		if r.x+r.w > c.W || r.y+r.h > c.H {
			return fmt.Errorf("rect outside: %+v", r)
		}
		switch e {
		case EncRaw:
			err = c.raw(r)
		case EncCopy:
			err = c.copyRect(r)
		case EncHextile:
			err = c.hextile(r)
		case EncTight:
			err = c.tightRect(r)
		case EncZRLE:
			err = c.zrleRect(r)
		default:
			err = fmt.Errorf("unknown encoding %d", e)
		}
		if err != nil {
			return fmt.Errorf("encoding %d rect %+v: %w", e, r, err)
		}
		c.EncCount[e].Add(1)
		c.EncBytes[e].Add(12 + c.Bytes.Load() - int64(c.br.Buffered()) - b0)
		c.Rects.Add(1)
		c.Pixels.Add(int64(r.w * r.h))
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		return nil
	}
	now := time.Now()
	c.Updates.Add(1)
	c.Last.Store(now.UnixNano())
	c.First.CompareAndSwap(0, now.UnixNano())
	if c.armed {
		for _, r := range rs {
			for y := r.y; y < r.y+r.h; y++ {
				o := (y*c.W + r.x) * 4
				if !bytes.Equal(c.FB[o:o+r.w*4], c.snap[o:o+r.w*4]) {
					c.armed = false
					c.changed <- now
					return nil
				}
			}
		}
	}
	return nil
}
