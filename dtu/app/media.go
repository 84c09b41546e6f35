package app

import (
	"bufio"
	"context"
	"errors"
	"sync"

	"hotdesk/dtu/screen"
	"hotdesk/dtu/terminal"
	"hotdesk/dtu/viewer"
	"hotdesk/protocol/input"
)

// A decoder draws a display stream, or counts it.
type decoder interface {
	viewer.Decoder
	Close()
}

var _ decoder = (*screen.Decoder)(nil)

// A mediaConn is one media connection, from dialling to its end.
type mediaConn struct {
	id     int
	cancel context.CancelFunc

	shows chan struct{} // closed by show
	dec   decoder       // before shows is closed

	mu     sync.Mutex
	view   *viewer.Viewer // nil while dialling
	closed bool
	why    string
	w, h   int // what the media end is to be told when dialled; 0: nothing
}

// openMedia begins to open a connection; show must follow. post tells the loop.
func openMedia(ctx context.Context, wg *sync.WaitGroup, id int, cfg viewer.Config, post func(any)) *mediaConn {
	ctx, cancel := context.WithCancel(ctx)
	m := &mediaConn{id: id, cancel: cancel, shows: make(chan struct{})}
	cfg.Decoder = m
	wg.Go(func() {
		defer cancel()
		defer func() { <-m.shows; m.dec.Close() }()
		v, err := viewer.Dial(ctx, cfg)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { v.Close("terminal off") })
			defer stop()
			m.set(v)
			for drawn := v.Drawn(); err == nil; {
				select {
				case <-drawn:
					post(terminal.MediaDrawn{Media: id})
					drawn = nil
				case <-v.Quiet():
					post(terminal.MediaQuiet{Media: id})
				case <-v.Done():
					err = v.Err()
				}
			}
		}
		down := terminal.MediaDown{Media: id, Reason: err.Error()}
		if closed, ok := errors.AsType[*viewer.Closed](err); ok {
			down.Peer, down.Code, down.Reason = true, closed.Code, closed.Reason
		}
		post(down)
	})
	return m
}

// show says what to draw with. The words of the step are drawn meanwhile.
func (m *mediaConn) show(dec decoder) {
	m.dec = dec
	close(m.shows)
}

// Decode draws a frame.
func (m *mediaConn) Decode(r *bufio.Reader) (seq uint32, err error) {
	<-m.shows
	return m.dec.Decode(r)
}

func (m *mediaConn) set(v *viewer.Viewer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view = v
	switch {
	case m.closed:
		v.Close(m.why)
	case m.w != 0:
		v.Send(input.Record{Type: input.Resize, X: m.w, Y: m.h})
	}
}

// resize tells the media end the screen's size.
func (m *mediaConn) resize(w, h int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view == nil {
		m.w, m.h = w, h
		return
	}
	m.view.Send(input.Record{Type: input.Resize, X: w, Y: h})
}

// touch finds out whether the media end is still there.
func (m *mediaConn) touch() {
	if v := m.viewer(); v != nil {
		v.Touch()
	}
}

// viewer returns the connection, or nil while it is dialled.
func (m *mediaConn) viewer() *viewer.Viewer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// close ends the connection at once: no input is sent afterwards.
func (m *mediaConn) close(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.why = true, reason
	if m.view == nil {
		m.cancel()
		return
	}
	m.view.Close(reason)
}
