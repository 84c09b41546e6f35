package attach

import (
	"time"

	"hotdesk/protocol/native"
	"hotdesk/server/session/encode"
)

const (
	// keepBuffer is the largest frame whose memory is kept for the next, or that of
	// its pieces, unless what came within keepFor was larger: fresh memory costs a
	// page of photos a twentieth of its time.
	keepBuffer = 128 << 10
	keepFor    = time.Second
)

const (
	// slowLink is a link, in bytes a second, on which what moves must leave
	// room for what is typed: 10 Mbit/s.
	slowLink = 1.25e6
	// leastSample is the smallest frame, in bytes, that tells how quick a link
	// is.
	leastSample = 2000
	// share is how long a slow link may be busy with one frame of what moves.
	share = 40 * time.Millisecond
	// gain is the part of a slow link that is used: the rest is for what was
	// lost, and for not knowing the link too well.
	gain = 0.4
	// maxQueue is how much longer than on an idle link a frame may take before
	// what moves waits till nothing is on its way.
	maxQueue = 50 * time.Millisecond
	// busy is what a terminal that shares its cores, or a switch, may take for
	// itself with a frame: less than a film's are apart, so that a link on which
	// frames are later could not carry it.
	busy = 30 * time.Millisecond
	// far is a link's least delay, there and back, from which on it is taken for
	// one that may be slow, until it has shown that it is not.
	far = 5 * time.Millisecond
	// probes of a few bytes follow a frame on a slow link, so far apart that each
	// is a packet of its own: without that the loss of the frame's last packet is
	// noticed only when QUIC's timer is out, which takes several times as long;
	// it takes a packet as lost when three after it have come.
	probes     = 3
	probeAfter = 4 * time.Millisecond
	// firstBudget is what a frame of what moves may have, in bytes, on a link that
	// may be slow: what a good one sends at once would fill a slow one for half a
	// second. It is enough to tell which it is.
	firstBudget = 4000
	// leastBudget is what such a frame may have at least, in bytes.
	leastBudget = 1200
)

// pace says when a frame may be made and what it may be. After rest that is at
// once. It learns how quick the link is from acknowledgements.
type pace struct {
	last  time.Time              // when the last picture was begun
	heard time.Time              // when the last of one was acknowledged
	onWay [MaxUnackedSlow]flight // those not acknowledged, the oldest first
	n     int                    // of them
	free  time.Time              // when a slow link will have taken what was sent
	rate  float64                // bytes a second; 0: not known, or quick
	queue time.Duration          // how much longer than rtt the last frame took
	known bool                   // it was measured once
	doubt bool                   // the last sample of a near link was slow
	rtt   time.Duration          // the least; 0: not known
}

// A flight is a picture on its way: a frame, or several pieces.
type flight struct {
	seq   uint32 // of its last frame
	bytes int
	at    time.Time
}

// wait returns how long to wait before the next picture, and whether an
// acknowledgement must come first.
func (p *pace) wait(now time.Time) (d time.Duration, ack bool) {
	most := MaxUnacked
	if p.rate > 0 {
		most = MaxUnackedSlow
	}
	return p.last.Add(FrameInterval).Sub(now), p.n >= most
}

// sends notes a picture, whose last frame is seq.
func (p *pace) sends(now time.Time, seq uint32, bytes int) {
	p.onWay[p.n] = flight{seq, bytes, now}
	p.n++
	if p.rate > 0 {
		if p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(time.Duration(float64(bytes) / (gain * p.rate) * float64(time.Second)))
	}
}

// hears notes acknowledgements up to acked; rtt is what a packet took there and
// back at least.
func (p *pace) hears(now time.Time, acked uint32, rtt time.Duration) {
	p.rtt = rtt
	done := 0
	for ; done < p.n && p.onWay[done].seq <= acked; done++ {
		f := p.onWay[done]
		p.queue = now.Sub(f.at) - rtt
		if f.bytes < leastSample {
			continue
		}
		// It began to cross when the one before it had.
		from := f.at
		if busy := p.heard.Add(-rtt); busy.After(from) {
			from = busy
		}
		took := max(now.Sub(from)-rtt, time.Millisecond)
		sample := float64(f.bytes) / took.Seconds()
		p.known = true
		switch {
		case p.rate == 0 && sample >= slowLink:
			p.doubt = false
		case p.rate == 0 && rtt < far && (took < busy || !p.doubt):
			p.doubt = took >= busy // one alone tells of the terminal: being slow costs much where it is not so
		case p.rate == 0:
			p.rate = sample
		default:
			p.rate += (sample - p.rate) / 8
		}
		if p.rate >= slowLink {
			p.rate = 0
		}
	}
	if done > 0 {
		p.heard = now
		p.n = copy(p.onWay[:], p.onWay[done:p.n])
	}
}

// terms are those of a frame at now, which is since after some start. On a slow
// link what moves waits till the link has taken what was sent, and then takes
// its share.
func (p *pace) terms(t encode.Terms, now time.Time, since time.Duration, onWay uint32) encode.Terms {
	t.Now = since
	if !p.known && p.rtt >= far && t.Motion {
		t.First = true
		t.Budget = firstBudget
	}
	if p.rate > 0 && t.Motion {
		t.Budget = max(int(p.rate*share.Seconds()), leastBudget)
		t.Hold = p.free.After(now) || p.queue > maxQueue && onWay > 0
	}
	return t
}

// late is how long after now what moves must wait at least, and whether an
// acknowledgement must come first.
func (p *pace) late(now time.Time, onWay uint32) (d time.Duration, ack bool) {
	if p.rate == 0 {
		return 0, false
	}
	return p.free.Sub(now), p.queue > maxQueue && onWay > 0
}

// patient reports whether acknowledgements may be late: not where they tell how
// quick the link is, or are long on their way.
func (p *pace) patient() bool { return p.rate == 0 && p.rtt > 0 && p.rtt < far }

const (
	// calmAfter is how long nothing must have been shown before what rests is
	// packed, a few milliseconds at a time: the next key does not wait for it, and a
	// person who types does not pay for it.
	calmAfter = time.Second
	// packAfter is how long that may put it off: something may blink for hours.
	packAfter = 30 * time.Second
)

// A calm says when what rests is packed.
type calm struct{ seen time.Time } // when there was one last

// wait returns how long to wait with it at now, where last is when a picture was
// begun last.
func (c *calm) wait(now, last time.Time) time.Duration {
	left := calmAfter - now.Sub(last)
	if left <= 0 {
		c.seen = now
		return 0
	}
	if now.Sub(c.seen) >= packAfter {
		return 0
	}
	return left
}

// probe says Alive out of turn. That it may fail is noticed elsewhere.
func (a *attachment) probe() { _ = a.alive() }

// turn waits till a frame may be made; turnOver must follow.
func (a *attachment) turn(over <-chan struct{}) bool {
	if !a.spec.Still {
		return true
	}
	select {
	case a.makers <- struct{}{}:
		return true
	case <-over:
		return false
	}
}

func (a *attachment) turnOver() {
	if a.spec.Still {
		<-a.makers
	}
}

func (a *attachment) encoder() (*encode.Encoder, error) {
	if a.spec.Ahead != nil {
		if enc := a.spec.Ahead(); enc != nil {
			return enc, nil
		}
	}
	return encode.NewEncoder()
}

// display sends the first frame whole and at once, what was made of it in advance
// before all is ready, and then what has changed whenever it may. Pieces of a large change go out while the others are made,
// and count as one: they wait for nobody.
func (a *attachment) display() {
	enc, err := a.encoder()
	if err != nil {
		a.log.Error("media encoder failed", "err", err)
		a.end(native.CloseRestart, "the encoder failed")
		return
	}
	defer enc.Close()
	if a.spec.Still {
		enc.Rest() // till its turn
	}
	out, err := a.conn.OpenUniStream()
	if err != nil {
		a.lost(err)
		return
	}
	pace := pace{rtt: a.conn.ConnectionStats().MinRTT}
	alarm, rang := a.alarm()
	if alarm == nil {
		return
	}
	defer alarm.Stop()
	rest, resting := time.NewTimer(encode.CompactEvery), false
	defer rest.Stop()
	quiet := calm{time.Now()}
	over := a.conn.Context().Done()
	buf := []byte{byte(native.StreamDisplay)}
	var terms encode.Terms
	parts, large := pieces{out: out}, time.Time{}
	part := func(b []byte) []byte {
		a.sent.Store(enc.Seq())
		return parts.add(b)
	}
	early := pace.terms(a.spec.Terms, time.Now(), 0, 0)
	if b := enc.Open(buf, a.hello.Width, a.hello.Height, early); len(b) > len(buf) {
		buf = parts.add(b)
	}
	select {
	case <-a.ready:
	case <-over:
		return
	}
	view := func(v encode.View) { buf = enc.EncodePieces(buf, v, terms, part) } // made once: a frame allocates nothing here
	forget := func() {
		if parts.free = nil; cap(buf) > keepBuffer {
			buf = nil
		}
	}
	for {
		if !a.turn(over) {
			return
		}
		pace.last = time.Now()
		terms = pace.terms(a.spec.Terms, pace.last, pace.last.Sub(a.start), a.sent.Load()-a.acked.Load())
		a.spec.Source.View(view)
		if a.spec.Still && (a.spec.Awake == nil || !a.spec.Awake()) {
			enc.Rest() // before the terminal takes its time
		}
		a.turnOver()
		if len(buf)+parts.bytes > 0 {
			bytes := len(buf) + parts.bytes
			if bytes > keepBuffer {
				large = pace.last
			}
			if a.late.Load() && len(buf) <= native.MaxLate {
				bytes = len(buf) // when the last piece is acknowledged tells nothing
			}
			pace.sends(pace.last, enc.Seq(), bytes)
			a.sent.Store(enc.Seq()) // first: its acknowledgement may overtake Write's return
			if err := parts.end(buf); err != nil {
				a.lost(err)
				return
			}
			if len(buf) <= native.MaxLate {
				a.small.Store(int64(time.Since(a.start)))
			}
			if pace.rate > 0 {
				for k := range probes {
					time.AfterFunc(time.Duration(k+1)*probeAfter, a.probe)
				}
			}
		}
		buf = buf[:0]
		if a.spec.Still || pace.last.Sub(large) > keepFor {
			forget()
		}
		if resting {
			rest.Reset(encode.CompactEvery)
			resting = false
		}
		changed := a.spec.Source.Changed()
		for news := false; ; {
			now, sent, acked := time.Now(), a.sent.Load(), a.acked.Load()
			d, ack := pace.wait(now)
			if !news {
				at, ok := enc.Due()
				late, wait := pace.late(now, sent-acked)
				d, ack = max(d, at-now.Sub(a.start), late), ack || wait || !ok
			}
			if !ack && d <= 0 {
				break
			}
			var due <-chan struct{}
			if !ack {
				alarm.Reset(d)
				due = rang
			}
			select {
			case <-changed:
				news, changed = true, nil
			case <-due:
			case <-rest.C:
				forget()
				if left := quiet.wait(time.Now(), pace.last); left > 0 {
					rest.Reset(left)
				} else if again := enc.Compact(); again > 0 {
					rest.Reset(again)
				} else {
					resting = true
					if a.spec.Rested != nil {
						a.spec.Rested()
					}
				}
			case <-a.acks:
				pace.hears(time.Now(), a.acked.Load(), a.conn.ConnectionStats().MinRTT)
				if late := pace.patient(); a.late.Swap(late) && !late {
					a.probe() // which says so
				}
			case <-over:
				return
			}
		}
	}
}
