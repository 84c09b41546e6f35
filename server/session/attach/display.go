package attach

import (
	"time"

	"hotdesk/protocol/native"
	"hotdesk/server/session/encode"
)

// keepBuffer is the largest frame whose memory is kept for the next.
const keepBuffer = 128 << 10

// pace says when a frame may be made: its state is when the last was begun.
// After rest that is at once.
type pace struct{ last time.Time }

// wait returns how long to wait before the next frame, and whether an
// acknowledgement must come first.
func (p pace) wait(now time.Time, sent, acked uint32) (d time.Duration, ack bool) {
	return p.last.Add(FrameInterval).Sub(now), sent-acked >= MaxUnacked
}

// display sends the first frame whole and at once, and then what has changed
// whenever it may.
func (a *attachment) display() {
	enc, err := encode.NewEncoder()
	if err != nil {
		a.log.Error("media encoder failed", "err", err)
		a.end(native.CloseRestart, "the encoder failed")
		return
	}
	defer enc.Close()
	out, err := a.conn.OpenUniStream()
	if err != nil {
		a.lost(err)
		return
	}
	var pace pace
	timer := time.NewTimer(0)
	defer timer.Stop()
	over := a.conn.Context().Done()
	buf := []byte{byte(native.StreamDisplay)}
	for {
		pace.last = time.Now()
		a.spec.Source.View(func(v encode.View) { buf = enc.Encode(buf, v) })
		if len(buf) > 0 {
			a.sent.Store(enc.Seq()) // first: its acknowledgement may overtake Write's return
			if _, err := out.Write(buf); err != nil {
				a.lost(err)
				return
			}
		}
		if buf = buf[:0]; cap(buf) > keepBuffer {
			buf = nil
		}
		if a.spec.Still && (a.spec.Awake == nil || !a.spec.Awake()) {
			enc.Rest()
		}
		select {
		case <-a.spec.Source.Changed():
		case <-over:
			return
		}
		for {
			d, ack := pace.wait(time.Now(), a.sent.Load(), a.acked.Load())
			if !ack && d <= 0 {
				break
			}
			var due <-chan time.Time
			if !ack {
				timer.Reset(d)
				due = timer.C
			}
			select {
			case <-due:
			case <-a.acks:
			case <-over:
				return
			}
		}
	}
}
