// Package patchbay is the network between the terminals of a fleet and its
// hosts: a switch in the program itself, that can lose, delay, double and
// reorder packets, and cut hosts off one way or both.
//
// Source: dtu/app's Wire, whose implementation it is. Packets (UDP) are lost,
// doubled and overtaken; of streams (TCP) the pieces are held up, as they are
// where the kernels send again what is lost.
//
// Invariants: what is cut comes through neither at once nor later, but for
// streams, whose bytes wait till the way is open again. A closed connection
// leaves no goroutine behind.
//
// A Bay is safe for concurrent use. Limit: maxWaiting packets of a connection
// are on their way in each direction; more are lost.
package patchbay

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"hotdesk/dtu/app"
	"hotdesk/tools/fleet/internal/scenario"
)

// maxWaiting bounds the packets that wait.
const maxWaiting = 1024

// again is what a lost piece of a stream costs: TCP's least timeout on Linux.
const again = 200 * time.Millisecond

// Way is a direction.
type Way int

// Ways, to be added up.
const (
	ToHost   Way = 1
	FromHost Way = 2
)

// A Bay is the network.
type Bay struct {
	mu      sync.Mutex
	rng     *rand.Rand
	weather scenario.Weather
	cut     map[netip.Addr]Way
	change  chan struct{} // closed when cut or weather changes
	counts  Counts
}

// Counts are the packets, and pieces of streams, that something happened to.
type Counts struct {
	Cut   int // they did not come through, or not before the way was open again
	Lost  int // of a stream: sent again
	Twice int
	Late  int
}

// Since is what has come since then.
func (c Counts) Since(then Counts) Counts {
	return Counts{c.Cut - then.Cut, c.Lost - then.Lost, c.Twice - then.Twice, c.Late - then.Late}
}

// Counts are those so far.
func (b *Bay) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

var _ app.Wire = (*Bay)(nil)

// New makes one whose fates are drawn by seed.
func New(seed uint64) *Bay {
	return &Bay{rng: rand.New(rand.NewPCG(seed, 77)), cut: map[netip.Addr]Way{}, change: make(chan struct{})}
}

// Weather sets what happens to everything.
func (b *Bay) Weather(w scenario.Weather) { b.set(func() { b.weather = w }) }

// Cut sets what comes through no more between the terminals and a host.
func (b *Bay) Cut(host netip.Addr, ways Way) { b.set(func() { b.cut[host] = ways }) }

func (b *Bay) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.change)
	b.change = make(chan struct{})
}

// fate is when copies of a packet come through; none: it is lost.
func (b *Bay) fate(host netip.Addr, way Way) (copies []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.weather
	if b.cut[host]&way != 0 {
		b.counts.Cut++
		return nil
	}
	if w.Loss > 0 && b.rng.Float64() < w.Loss {
		b.counts.Lost++
		return nil
	}
	n := 1
	if w.Duplicate > 0 && b.rng.Float64() < w.Duplicate {
		n = 2
		b.counts.Twice++
	}
	for range n {
		d := w.Delay + time.Duration(b.rng.Float64()*float64(w.Jitter))
		if w.Reorder > 0 && b.rng.Float64() < w.Reorder {
			d += w.Delay + 10*time.Millisecond
		}
		if d > 0 {
			b.counts.Late++
		}
		copies = append(copies, d)
	}
	return copies
}

// Packets puts the bay before a socket that is connected to a host.
func (b *Bay) Packets(to netip.AddrPort, c net.PacketConn) net.PacketConn {
	p := &packets{PacketConn: c, bay: b, host: to.Addr(), in: make(chan packet, maxWaiting), done: make(chan struct{})}
	go p.receive()
	return p
}

type packet struct {
	data []byte
	from net.Addr
	err  error
}

type packets struct {
	net.PacketConn
	bay  *Bay
	host netip.Addr
	in   chan packet

	once sync.Once
	done chan struct{}
}

func (p *packets) receive() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.PacketConn.ReadFrom(buf)
		if err != nil {
			select {
			case p.in <- packet{err: err}:
			case <-p.done:
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if errors.Is(err, os.ErrDeadlineExceeded) { // it will be closed next
				<-p.done
				return
			}
			continue
		}
		for _, d := range p.bay.fate(p.host, FromHost) {
			pkt := packet{data: append([]byte(nil), buf[:n]...), from: from}
			p.later(d, func() {
				select {
				case p.in <- pkt:
				default: // lost
				}
			})
		}
	}
}

// later does f when d has passed; at once where d is 0, so that order is kept.
func (p *packets) later(d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	time.AfterFunc(d, f)
}

// ReadFrom receives.
func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case pkt := <-p.in:
		return copy(b, pkt.data), pkt.from, pkt.err
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends.
func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	for _, d := range p.bay.fate(p.host, ToHost) {
		if d <= 0 {
			if _, err := p.PacketConn.WriteTo(b, to); err != nil {
				return 0, err
			}
			continue
		}
		data := append([]byte(nil), b...)
		time.AfterFunc(d, func() { _, _ = p.PacketConn.WriteTo(data, to) })
	}
	return len(b), nil
}

// Close ends it.
func (p *packets) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.PacketConn.Close()
}

// Stream puts the bay before a connection to a host.
func (b *Bay) Stream(to netip.AddrPort, c net.Conn) net.Conn {
	return &stream{Conn: c, bay: b, host: to.Addr(), done: make(chan struct{})}
}

type stream struct {
	net.Conn
	bay  *Bay
	host netip.Addr
	once sync.Once
	done chan struct{}
}

// hold waits as long as a piece of the stream needs.
func (s *stream) hold(way Way) {
	for first := true; ; first = false {
		s.bay.mu.Lock()
		cut, change := s.bay.cut[s.host]&way != 0, s.bay.change
		shut := cut || s.bay.weather.Loss >= 1
		switch {
		case first && cut:
			s.bay.counts.Cut++
		case first && shut:
			s.bay.counts.Lost++
		}
		s.bay.mu.Unlock()
		if !shut {
			break
		}
		select {
		case <-change:
		case <-s.done:
			return
		}
	}
	wait := time.Duration(0)
	for copies := s.bay.fate(s.host, way); ; copies = s.bay.fate(s.host, way) {
		if len(copies) > 0 {
			wait += copies[0]
			break
		}
		if wait += again; wait > 5*again {
			break
		}
	}
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.done:
	}
}

// Read receives.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if err == nil {
		s.hold(FromHost)
	}
	return n, err
}

// Write sends.
func (s *stream) Write(b []byte) (int, error) {
	s.hold(ToHost)
	return s.Conn.Write(b)
}

// Close ends it.
func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.Conn.Close()
}
