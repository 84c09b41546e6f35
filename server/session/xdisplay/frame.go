package xdisplay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/shm"
	"github.com/BurntSushi/xgb/xproto"
	"golang.org/x/sys/unix"

	"hotdesk/protocol/draw"
)

// A frame is where the pixels of the screen are.
type frame interface {
	// max is the largest screen that the frame can show, 0x0 if any.
	max() image.Point
	// resize says that the visible screen has this size now. What the frame
	// keeps for more is given back.
	resize(w, h int) error
	// refresh makes the pixels of the rectangles current. The asker's ask is held.
	refresh([]image.Rectangle) error
	// picture is the visible screen, for as long as resize is not called.
	picture() *draw.Pixmap
	close()
}

// A mapped frame is the file of an X server started with -fbdir: an XWD header
// and the very memory that the X server draws in. Nothing is copied and there
// is nothing to refresh. Header and stride stay those of the initial size when
// the screen is resized.
type mapped struct {
	file *os.File // nil: not writable, nothing is given back
	mem  []byte
	x    xwd
	pix  draw.Pixmap
	log  *slog.Logger
}

func openMapped(name string, log *slog.Logger) (*mapped, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	writable := err == nil
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, xwdHeader)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	x, err := parseXWD(head, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(x.end()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &mapped{mem: mem, x: x, log: log}
	if writable {
		m.file, keep = f, true
	} else {
		log.Info("frame buffer is not writable: the memory of hidden rows is kept", "file", name)
	}
	return m, nil
}

func (m *mapped) max() image.Point { return image.Pt(m.x.w, m.x.h) }

// resize gives the rows below the screen back to the system. The caller sees to
// it that the X server does not grow the screen meanwhile.
func (m *mapped) resize(w, h int) error {
	if w > m.x.w || h > m.x.h {
		return fmt.Errorf("screen of %dx%d in a frame buffer of %dx%d", w, h, m.x.w, m.x.h)
	}
	m.pix = draw.Pixmap{Pix: m.mem[m.x.offset : m.x.offset+h*m.x.stride : m.x.offset+h*m.x.stride], Stride: m.x.stride, W: w, H: h}
	if m.file == nil {
		return nil
	}
	hidden := int64(m.x.offset + h*m.x.stride)
	if n := m.x.end() - hidden; n > 0 {
		if err := unix.Fallocate(int(m.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, hidden, n); err != nil {
			m.log.Warn("hidden rows of the frame buffer stay in memory", "err", err)
		}
	}
	return nil
}

func (m *mapped) refresh([]image.Rectangle) error { return nil }
func (m *mapped) picture() *draw.Pixmap           { return &m.pix }

func (m *mapped) close() {
	m.pix = draw.Pixmap{}
	_ = unix.Munmap(m.mem) // our own mapping: cannot fail
	if m.file != nil {
		m.file.Close()
	}
}

// xwdHeader is the length of an XWD version 7 header without the name.
const xwdHeader = 100

// An xwd says where the pixels are in a frame buffer file.
type xwd struct {
	w, h           int
	offset, stride int
}

func (x xwd) end() int64 { return int64(x.offset) + int64(x.h)*int64(x.stride) }

var errXWD = errors.New("not a frame buffer of 32 bits a pixel")

// parseXWD reads the header of a frame buffer file of the given size
// (X11/XWDFile.h: 25 big-endian words, then the name, then 12 bytes for each
// colour, then the pixels).
func parseXWD(b []byte, size int64) (xwd, error) {
	if len(b) < xwdHeader {
		return xwd{}, fmt.Errorf("%w: %d bytes", errXWD, len(b))
	}
	at := func(i int) uint32 { return binary.BigEndian.Uint32(b[i*4:]) }
	header, version, format, w, h := at(0), at(1), at(2), at(4), at(5)
	order, bits, stride, colours := at(7), at(11), at(12), at(19)
	const zPixmap, maxHeader, maxColours = 2, 4096, 65536
	switch {
	case version != 7 || format != zPixmap || order != 0 || bits != 32:
		return xwd{}, fmt.Errorf("%w: version %d, format %d, order %d, %d bits", errXWD, version, format, order, bits)
	case header < xwdHeader || header > maxHeader || colours > maxColours:
		return xwd{}, fmt.Errorf("%w: header of %d bytes, %d colours", errXWD, header, colours)
	case w == 0 || h == 0 || w > maxSide || h > maxSide || stride < w*4 || stride > maxSide*8:
		return xwd{}, fmt.Errorf("%w: %dx%d, rows of %d bytes", errXWD, w, h, stride)
	}
	x := xwd{w: int(w), h: int(h), offset: int(header) + int(colours)*12, stride: int(stride)}
	if x.end() > size {
		return xwd{}, fmt.Errorf("%w: %dx%d do not fit in %d bytes", errXWD, w, h, size)
	}
	return x, nil
}

// A shared frame is a copy of the screen that the X server makes on demand in
// shared memory (MIT-SHM). It works with every X server.
type shared struct {
	conn *xgb.Conn
	ask  *asker // who may hold the X server
	root xproto.Drawable
	seg  shm.Seg
	mem  []byte
	pix  draw.Pixmap
}

func newShared(c *xgb.Conn, root xproto.Window, a *asker) *shared {
	return &shared{conn: c, root: xproto.Drawable(root), ask: a}
}

func (s *shared) max() image.Point { return image.Point{} }

func (s *shared) resize(w, h int) error {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, w*h*4, unix.IPC_CREAT|0600)
	if err != nil {
		return fmt.Errorf("shared memory for %dx%d: %w", w, h, err)
	}
	// Once it has been removed, the memory lives until the last of the two ends
	// detaches.
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return fmt.Errorf("shared memory for %dx%d: %w", w, h, err)
	}
	seg, err := shm.NewSegId(s.conn)
	if err == nil {
		err = shm.AttachChecked(s.conn, seg, uint32(id), false).Check()
	}
	if err != nil {
		_ = unix.SysvShmDetach(mem)
		return fmt.Errorf("shared memory for %dx%d: %w", w, h, err)
	}
	if s.mem != nil {
		shm.Detach(s.conn, s.seg)
		s.close()
	}
	s.seg, s.mem, s.pix = seg, mem, draw.Pixmap{Pix: mem[:w*h*4], Stride: w * 4, W: w, H: h}
	return nil
}

// refresh gets whole rows, so that they land where they belong in the picture.
func (s *shared) refresh(rects []image.Rectangle) error {
	for i := 0; i < len(rects); {
		y0, y1 := rects[i].Min.Y, rects[i].Max.Y
		for i++; i < len(rects) && rects[i].Min.Y <= y1; i++ {
			y0, y1 = min(y0, rects[i].Min.Y), max(y1, rects[i].Max.Y)
		}
		if err := s.ask.shmImage(s.root, s.seg, y0, s.pix.W, y1-y0, y0*s.pix.Stride); err != nil {
			return fmt.Errorf("reading rows %d to %d of the screen: %w", y0, y1, err)
		}
	}
	return nil
}

func (s *shared) picture() *draw.Pixmap { return &s.pix }

// close is our end of the memory; the X server lets go of its own when the
// connection ends.
func (s *shared) close() {
	if s.mem == nil {
		return
	}
	_ = unix.SysvShmDetach(s.mem) // our own mapping: cannot fail
	s.mem, s.pix = nil, draw.Pixmap{}
}
