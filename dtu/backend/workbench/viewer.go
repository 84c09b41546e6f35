package workbench

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"hotdesk/dtu/backend"
	"hotdesk/dtu/backend/dirty"
	"hotdesk/protocol/input"
)

const (
	// sendTime is how long a viewer may take to accept one message before it
	// is given up.
	sendTime = 20 * time.Second
	// stateTime is how often cards and title are looked at: nothing tells when
	// a card was moved by other means than this page.
	stateTime = 250 * time.Millisecond
)

// A viewer is one page that shows the terminal.
type viewer struct {
	b    *Workbench
	conn *websocket.Conn

	acks chan uint32 // newest acknowledged update

	keys    map[uint16]bool // down
	buttons byte
	x, y    int
}

// live serves one page's WebSocket.
func (b *Workbench) live(w http.ResponseWriter, r *http.Request) {
	select {
	case b.viewers <- struct{}{}:
	default:
		http.Error(w, fmt.Sprintf("This terminal already has %d viewers.", MaxViewers), http.StatusServiceUnavailable)
		return
	}
	defer func() { <-b.viewers }()
	b.active.Add(1)
	defer b.active.Done()
	conn, err := websocket.Accept(w, r, nil) // which checks Origin once more
	if err != nil {
		b.cfg.Log.Debug("workbench: no viewer", "peer", r.RemoteAddr, "err", err)
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	v := &viewer{b: b, conn: conn, acks: make(chan uint32, 1), keys: map[uint16]bool{}}
	ctx, cancel := context.WithCancel(r.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		defer cancel() // ends the reading too
		if err := v.send(ctx); err != nil {
			b.cfg.Log.Debug("workbench: viewer lost", "peer", r.RemoteAddr, "err", err)
		}
	})
	err = v.receive(ctx)
	cancel()
	sending.Wait()
	v.release()
	b.cfg.Log.Debug("workbench: viewer gone", "peer", r.RemoteAddr, "err", err)
}

// send brings state and picture to the page until ctx ends.
func (v *viewer) send(ctx context.Context) error {
	watch := v.b.picture.Watch()
	defer watch.Close()
	tick := time.NewTicker(stateTime)
	defer tick.Stop()
	var (
		told    string // state that the page has
		size    image.Point
		seq     uint32
		showing = true // the page has shown update seq
		changed = true
		buf     []byte
	)
	for {
		if state := v.b.state(); string(state) != told {
			if err := v.write(ctx, websocket.MessageText, state); err != nil {
				return err
			}
			told = string(state)
		}
		if changed && showing {
			changed = false
			var n int
			buf, n = v.update(buf[:0], seq+1, watch.Take(), &size)
			if n > 0 {
				seq++
				showing = false
				if err := v.write(ctx, websocket.MessageBinary, buf); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Changed():
			changed = true
		case ack := <-v.acks:
			showing = showing || ack == seq
		case <-tick.C:
		}
	}
}

func (v *viewer) write(ctx context.Context, kind websocket.MessageType, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return v.conn.Write(ctx, kind, b)
}

// update appends the update message for what has changed, n rectangles; all of
// the picture when its size is another than last time.
func (v *viewer) update(b []byte, seq uint32, changed []image.Rectangle, size *image.Point) (_ []byte, n int) {
	w, h := v.b.picture.Size()
	all := image.Rect(0, 0, w, h)
	if *size != all.Max {
		*size = all.Max
		changed = []image.Rectangle{all}
	}
	rects := dirty.Merge(changed, all)
	le := binary.LittleEndian
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, seq)
	b = le.AppendUint16(b, uint16(w))
	b = le.AppendUint16(b, uint16(h))
	b = le.AppendUint32(b, uint32(len(rects)))
	for _, r := range rects {
		for _, f := range [4]int{r.Min.X, r.Min.Y, r.Dx(), r.Dy()} {
			b = le.AppendUint16(b, uint16(f))
		}
	}
	for _, r := range rects {
		b = appendRGBA(b, v.b.picture, r)
	}
	return b, len(rects)
}

// appendRGBA appends r's pixels as a canvas wants them.
func appendRGBA(b []byte, p backend.Picture, r image.Rectangle) []byte {
	start, size := len(b), r.Dx()*r.Dy()*4
	if cap(b)-start < size {
		b = append(make([]byte, 0, start+size), b...)
	}
	b = b[:start+size]
	pix := b[start:]
	p.Read(r, pix, r.Dx()*4)
	for i := 0; i+3 < len(pix); i += 4 {
		pix[i], pix[i+2], pix[i+3] = pix[i+2], pix[i], 0xff
	}
	return b
}

// receive takes what the page sends until it closes or breaks a rule.
func (v *viewer) receive(ctx context.Context) error {
	for {
		kind, b, err := v.conn.Read(ctx)
		if err != nil {
			return err
		}
		if kind != websocket.MessageBinary {
			return v.refuse("text")
		}
		for len(b) > 0 {
			var r input.Record
			if r, b, err = input.Next(b); err != nil {
				return v.refuse(err.Error())
			}
			if err := v.take(r); err != nil {
				return err
			}
		}
	}
}

func (v *viewer) refuse(why string) error {
	v.conn.Close(websocket.StatusPolicyViolation, "unknown message")
	return fmt.Errorf("workbench: refused message: %s", why)
}

// take does what one record asks.
func (v *viewer) take(r input.Record) error {
	switch r.Type {
	case input.Key:
		if v.keys[r.Usage] == r.Down {
			return nil // a repeat, or a release of what was released at blur
		}
		v.keys[r.Usage] = r.Down
		v.b.hands.Key(r.Usage, r.Down)
	case input.Pointer:
		v.x, v.y, v.buttons = r.X, r.Y, r.Buttons
		v.b.hands.Pointer(r.X, r.Y, r.Buttons)
	case input.Wheel:
		v.b.hands.Wheel(r.X, r.Y)
	case input.Release:
		clear(v.keys)
		v.buttons = 0
		v.b.hands.Release()
	case input.Ack:
		select {
		case <-v.acks: // an older one that was not looked at
		default:
		}
		v.acks <- r.Seq // the only sender
	default:
		return v.refuse("a record that pages do not send")
	}
	return nil
}

// release lets go of what the page held, and of nothing that another holds.
func (v *viewer) release() {
	for usage, down := range v.keys {
		if down {
			v.b.hands.Key(usage, false)
		}
	}
	if v.buttons != 0 {
		v.b.hands.Pointer(v.x, v.y, 0)
	}
}
