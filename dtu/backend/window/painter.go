package window

import (
	"image"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/shm"
	"github.com/BurntSushi/xgb/xproto"
	"golang.org/x/sys/unix"

	"hotdesk/dtu/backend"
)

// stripBytes is the size of the buffer that pixels pass through: large enough
// that its answer from the X server does not count, and less than any limit on
// shared memory.
const stripBytes = 4 << 20

// A painter brings pixels to the window in strips: by shared memory when the X
// server can map it, else inside requests.
type painter struct {
	x   *xgb.Conn
	buf []byte
	seg shm.Seg // 0: pixels travel in requests
}

// newPainter tries shared memory, which a server on another host refuses.
func newPainter(x *xgb.Conn, setup *xproto.SetupInfo) painter {
	if p, ok := sharedPainter(x); ok {
		return p
	}
	const header = 24 // of a PutImage request
	return painter{x: x, buf: make([]byte, int(setup.MaximumRequestLength)*4-header)}
}

func sharedPainter(x *xgb.Conn) (painter, bool) {
	if shm.Init(x) != nil {
		return painter{}, false
	}
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, stripBytes, unix.IPC_CREAT|0o600)
	if err != nil {
		return painter{}, false
	}
	// The segment goes when the last of us and the X server has let go.
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	buf, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return painter{}, false
	}
	seg, err := shm.NewSegId(x)
	if err != nil || shm.AttachChecked(x, seg, uint32(id), true).Check() != nil {
		unix.SysvShmDetach(buf)
		return painter{}, false
	}
	return painter{x: x, buf: buf, seg: seg}, true
}

func (p *painter) close() {
	if p.seg != 0 {
		shm.Detach(p.x, p.seg)
		unix.SysvShmDetach(p.buf)
		p.seg = 0
	}
}

// put draws r of the picture, whose top left corner is at o in the window, and
// waits for the X server; false when it has gone.
func (p *painter) put(w *Window, pic backend.Picture, r image.Rectangle, o image.Point) bool {
	stride := r.Dx() * 4
	rows := len(p.buf) / stride
	for y := r.Min.Y; y < r.Max.Y; y += rows {
		s := image.Rect(r.Min.X, y, r.Max.X, min(y+rows, r.Max.Y))
		pic.Read(s, p.buf, stride)
		at := s.Min.Add(o)
		if p.seg != 0 {
			shm.PutImage(p.x, xproto.Drawable(w.id), w.gc, uint16(s.Dx()), uint16(s.Dy()), 0, 0, uint16(s.Dx()), uint16(s.Dy()),
				int16(at.X), int16(at.Y), w.depth, xproto.ImageFormatZPixmap, 0, p.seg, 0)
		} else {
			xproto.PutImage(p.x, xproto.ImageFormatZPixmap, xproto.Drawable(w.id), w.gc, uint16(s.Dx()), uint16(s.Dy()),
				int16(at.X), int16(at.Y), 0, w.depth, p.buf[:s.Dy()*stride])
		}
		if !w.sync() {
			return false
		}
	}
	return true
}
