package e2e

import (
	"encoding/binary"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A booth is where a terminal's control connection passes: it notes when the
// terminal says something, as a server's end would read it.
type booth struct {
	addr string

	mu   sync.Mutex
	last time.Time
	news chan struct{} // closed and replaced when something is said
}

// newBooth listens, and carries each connection on to the server at dial.
func newBooth(t *testing.T, l net.Listener, dial func() (net.Conn, error)) *booth {
	b := &booth{addr: l.Addr().String(), news: make(chan struct{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := dial()
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			wg.Go(func() { b.carry(far, near, b.note) })
			wg.Go(func() { b.carry(near, far, func(int) {}) })
		}
	})
	return b
}

func (b *booth) carry(to, from net.Conn, note func(int)) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			note(n)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// leastWord is less than the length of an infoReq in TLS, and more than that of a
// keepAliveReq, which comes of itself.
const leastWord = 120

// note takes down that so many bytes came.
func (b *booth) note(n int) {
	if n < leastWord {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	close(b.news)
	b.news = make(chan struct{})
}

// quiet waits until the terminal has said nothing for a while.
func (b *booth) quiet(t *testing.T) {
	t.Helper()
	const while = 300 * time.Millisecond
	for until := time.Now().Add(patience); ; pause() {
		b.mu.Lock()
		last := b.last
		b.mu.Unlock()
		if time.Since(last) > while {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the terminal talks without end")
		}
	}
}

// next is what f takes till the terminal's first word after its beginning.
func (b *booth) next(t *testing.T, f func()) time.Duration {
	t.Helper()
	b.quiet(t)
	b.mu.Lock()
	news := b.news
	b.mu.Unlock()
	began := time.Now()
	f()
	select {
	case <-news:
	case <-time.After(patience):
		t.Fatal("the terminal says nothing")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last.Sub(began)
}

// cardsOnTheWire puts a card in again and again, and logs how long it takes
// until the terminal presents it.
func (b *booth) cardsOnTheWire(t *testing.T, what string, insert, remove func()) {
	t.Helper()
	rounds := 5
	if os.Getenv("HOTDESK_LONG") != "" {
		rounds = 100
	}
	var all []time.Duration
	for range rounds {
		all = append(all, b.next(t, insert))
		remove()
	}
	slices.Sort(all)
	t.Logf("figure: %s: card in to its question on the wire: median %v, p90 %v, worst %v of %d",
		what, all[rounds/2], all[rounds*9/10], all[rounds-1], rounds)
}

// sniff is a booth at a machine's cable: what comes for its control port is
// noted. Tickets count only from the address that the control connection has,
// so that nothing can stand between where that matters.
func (r *realm) sniff(host string) *booth {
	r.t.Helper()
	b := &booth{news: make(chan struct{})}
	var fd int
	r.must(r.node(host).Do(func() (err error) {
		all := uint16(unix.ETH_P_IP)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all<<8|all>>8))
		return err
	}))
	file := os.NewFile(uintptr(fd), "sniff")
	raw, err := file.SyscallConn()
	r.must(err)
	var reading sync.WaitGroup
	r.t.Cleanup(func() { file.Close(); reading.Wait() })
	reading.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n := 0
			err := raw.Read(func(fd uintptr) bool {
				got, _, err := unix.Recvfrom(int(fd), buf, 0)
				n = max(got, 0)
				return err != unix.EAGAIN
			})
			if err != nil {
				return // closed
			}
			b.note(forControl(buf[:n]))
		}
	})
	return b
}

// forControl is how many bytes an IPv4 packet brings for a control port.
func forControl(p []byte) int {
	if len(p) < 20 || p[9] != unix.IPPROTO_TCP {
		return 0
	}
	whole, ip := int(binary.BigEndian.Uint16(p[2:])), int(p[0]&15)*4
	if len(p) < ip+20 || whole > len(p) {
		return 0
	}
	tcp := p[ip:whole]
	if binary.BigEndian.Uint16(tcp[2:]) != 7443 {
		return 0
	}
	return len(tcp) - int(tcp[12]>>4)*4
}

// localBooth is one before a host of a lab.
func localBooth(t *testing.T, server string) *booth {
	t.Helper()
	// At the host's own address: media is there too.
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return newBooth(t, l, func() (net.Conn, error) { return net.Dial("tcp", server) })
}

// What an emulated card takes.
func TestCardOnTheWire(t *testing.T) {
	w := openWorld(t)
	north, err := w.lab.Host(w.ctx, "north")
	if north != nil {
		w.hosts["north"] = north
	}
	must(t, err)
	b := localBooth(t, north.Addr)
	a, err := w.lab.Terminal(w.ctx, "a", "-server", b.addr, "-size", small)
	must(t, err)
	h := newHand(t, w.ctx, a)
	_, err = a.Ctl(w.ctx, "wait", "-timeout", patience.String(), "picture")
	must(t, err)
	b.cardsOnTheWire(t, "emulated", func() { must(t, h.insert(w.ctx, "card1")) }, func() { must(t, h.remove(w.ctx)) })
}
