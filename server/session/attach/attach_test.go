package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/draw"
	"hotdesk/protocol/input"
	"hotdesk/protocol/native"
	"hotdesk/server/session/attach/attachtest"
)

// That all rests is said once, and again after the next change.
func TestRested(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		var said atomic.Int32
		s.spec.Rested = func() { said.Add(1) }
		c := b.attach(s)
		defer c.close()
		for n := range 3 {
			c.ack(uint32(n + 1))
			pass(time.Second)
			if got := int(said.Load()); got != n {
				t.Errorf("said %d times right after %d changes", got, n)
			}
			pass(time.Hour)
			if got := int(said.Load()); got != n+1 {
				t.Errorf("said %d times an hour after %d changes", got, n)
			}
			s.source.Dot(1, 1, byte(n+1))
			c.frame()
		}
	})
}

// Invariant 4, and the frame interval.
func TestPacing(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		defer c.close()
		pass(time.Second / 2) // rest
		views := s.source.Views()

		at := time.Now()
		s.source.Dot(1, 1, 1)
		if c.frame().Seq != 2 || time.Since(at) != 0 {
			t.Errorf("the first change after rest took %v", time.Since(at))
		}
		// Frames 1 and 2 are not acknowledged: nothing more is even looked at.
		s.source.Dot(1, 1, 2)
		pass(100 * time.Millisecond)
		s.source.Dot(1, 1, 3)
		pass(100 * time.Millisecond)
		if got := s.source.Views() - views; got != 1 {
			t.Errorf("%d views with two frames unacknowledged, want 1", got)
		}
		at = time.Now()
		c.ack(1)
		if c.frame().Seq != 3 || time.Since(at) != 0 {
			t.Errorf("the frame after an acknowledgement took %v", time.Since(at))
		}
		synctest.Wait()
		if got := s.source.Views() - views; got != 2 {
			t.Errorf("%d views after one acknowledgement, want 2", got)
		}
		// With everything acknowledged the interval is what is waited for.
		c.ack(3)
		synctest.Wait()
		s.source.Dot(1, 1, 4)
		c.frame()
		c.ack(4)
		if d := time.Since(at); d != FrameInterval {
			t.Errorf("the next frame came after %v, want %v", d, FrameInterval)
		}
	})
}

func TestSilence(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		c.record(input.Record{Type: input.Key, Usage: 4, Down: true})
		expect(t, s.sink, "resize 640 480", "key 4 true")
		pass(time.Minute) // QUIC acknowledges our Alive: a terminal need say nothing
		synctest.Wait()
		if e := s.sink.Pending(); len(e) > 0 {
			t.Errorf("while the terminal was alive the sink got %q", e)
		}
		at := time.Now()
		b.net.silence(c)
		expect(t, s.sink, "release")
		if d := time.Since(at); d < native.DeadAfter-native.AliveEvery(native.AlivePeriod) || d > native.DeadAfter {
			t.Errorf("released after %v of silence", d)
		}
		c.closed(native.CloseSlow, "nothing came for 5s")
		if d := time.Since(at); d < SlowAfter-native.AliveEvery(native.AlivePeriod) || d > SlowAfter {
			t.Errorf("closed after %v of silence", d)
		}
		s.event(t, "detached: nothing came")
		expect(t, s.sink, "release")
	})
}

// A key that is held is let go in time whenever the silence begins.
func TestHeldInSilence(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		expect(t, s.sink, "resize 640 480")
		const parts = 16
		for i := range parts {
			c.record(input.Record{Type: input.Key, Usage: 4, Down: true})
			expect(t, s.sink, "key 4 true")
			pass(5*native.AlivePeriod + time.Duration(i)*native.AlivePeriod/parts)
			synctest.Wait()
			if e := s.sink.Pending(); len(e) > 0 {
				t.Errorf("while the terminal was alive the sink got %q", e)
			}
			at := time.Now()
			b.net.silence(c)
			expect(t, s.sink, "release")
			if d := time.Since(at); d > native.DeadAfter {
				t.Errorf("released after %v of silence", d)
			}
			b.net.silence(nil)
			c.record(input.Record{Type: input.Key, Usage: 4})
			expect(t, s.sink, "key 4 false")
		}
		c.close()
	})
}

// Answers that take long are answers: on a long way nothing is let go while
// they come, and in silence as soon as on a short one.
func TestHeldFarAway(t *testing.T) {
	for _, rtt := range []time.Duration{160, 400, 700, 790, 900} {
		rtt *= time.Millisecond
		t.Run(rtt.String(), func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.net.far(rtt)
				s := newShown(1)
				c := b.attach(s)
				expect(t, s.sink, "resize 640 480")
				const parts = 16
				for i := range parts {
					c.record(input.Record{Type: input.Pointer, Buttons: 1})
					expect(t, s.sink, "pointer 0 0 1")
					pass(20*native.AlivePeriod + time.Duration(i)*native.AlivePeriod/parts)
					if e := s.sink.Pending(); len(e) > 0 {
						t.Errorf("while the terminal was alive the sink got %q", e)
						break
					}
					at := time.Now()
					b.net.silence(c)
					expect(t, s.sink, "release")
					if d := time.Since(at); d > native.DeadAfter {
						t.Errorf("released after %v of silence", d)
					}
					b.net.silence(nil)
					c.record(input.Record{Type: input.Pointer})
					expect(t, s.sink, "pointer 0 0 0")
					// Right after a button was pressed: what else has come since the last
					// Alive may be taken for its answer.
					c.record(input.Record{Type: input.Pointer, Buttons: 1})
					expect(t, s.sink, "pointer 0 0 1")
					at = time.Now()
					b.net.silence(c)
					expect(t, s.sink, "release")
					if d := time.Since(at); d > native.DeadAfter+min(rtt, native.AlivePeriod) {
						t.Errorf("released after %v of silence that followed a button", d)
					}
					b.net.silence(nil)
					c.record(input.Record{Type: input.Pointer})
					expect(t, s.sink, "pointer 0 0 0")
				}
				c.close()
			})
		})
	}
}

// Answers that take longer and longer are 900 ms apart: no silence.
func TestHeldOnALengtheningWay(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		defer c.close()
		expect(t, s.sink, "resize 640 480")
		c.record(input.Record{Type: input.Pointer, Buttons: 1})
		expect(t, s.sink, "pointer 0 0 1")
		for rtt := time.Duration(0); rtt <= time.Second; rtt += 100 * time.Millisecond {
			b.net.far(rtt)
			pass(native.AlivePeriod)
		}
		pass(5 * time.Second)
		if e := s.sink.Pending(); len(e) > 0 {
			t.Errorf("while the terminal was alive the sink got %q", e)
		}
	})
}

func TestSilenceAtAnIdleScreen(t *testing.T) {
	inBubble(t, native.AlivePeriodIdle, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		expect(t, s.sink, "resize 640 480")
		pass(time.Hour)
		synctest.Wait()
		if e := s.sink.Pending(); len(e) > 0 {
			t.Errorf("while the terminal was alive the sink got %q", e)
		}
		at := time.Now()
		b.net.silence(c)
		expect(t, s.sink, "release")
		if d := time.Since(at); d > native.SilentAfter(native.AlivePeriodIdle) || d < native.SilentAfter(native.AlivePeriodIdle)-native.AlivePeriodIdle {
			t.Errorf("released after %v of silence", d)
		}
		b.net.silence(nil)
		c.record(input.Record{Type: input.Wheel, Y: 1})
		expect(t, s.sink, "wheel 0 1")
		b.net.silence(c)
		expect(t, s.sink, "release")
		c.closed(native.CloseSlow, "nothing came for 15s")
	})
}

func TestAliveIsSaid(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		c := b.attach(newShown(1))
		defer c.close()
		at := time.Now()
		for range 3 {
			d, err := c.conn.ReceiveDatagram(context.Background())
			if p, ok := native.ParseAlive(d); err != nil || !ok || p != native.AlivePeriod {
				t.Fatalf("datagram % x, %v", d, err)
			}
		}
		if d := time.Since(at); d != 2*native.AliveEvery(native.AlivePeriod) {
			t.Errorf("three Alive in %v", d)
		}
	})
}

// A frame is as good as an Alive: what is typed and echoed has none.
func TestFramesAreAlive(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c := b.attach(s)
		for i := range 50 {
			pass(native.AlivePeriod / 2)
			s.source.Dot(1, 1, byte(i+1))
			c.ack(c.frame().Seq)
		}
		said := 0
		for {
			over, cancel := context.WithTimeout(context.Background(), native.AlivePeriod/4)
			_, err := c.conn.ReceiveDatagram(over)
			cancel()
			if err != nil {
				break
			}
			said++
		}
		if said != 1 {
			t.Errorf("Alive was said %d times, once for the beginning is enough", said)
		}
		at := time.Now()
		if _, err := c.conn.ReceiveDatagram(context.Background()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(at); d > native.AlivePeriod*3/4 {
			t.Errorf("after the last frame it was said after %v more", d)
		}
		// A terminal that goes while frames are sent is noticed in time.
		at = time.Now()
		b.net.silence(c)
		expect(t, s.sink, "resize 640 480")
		for i := range 10 {
			<-time.After(native.AlivePeriod / 3)
			s.source.Dot(1, 1, byte(i+100))
		}
		c.closed(native.CloseSlow, "nothing came for 5s")
		if d := time.Since(at); d < SlowAfter-native.AlivePeriod || d > SlowAfter+2*native.AlivePeriod {
			t.Errorf("closed after %v of silence", d)
		}
	})
}

// Late acknowledgements are allowed on a link that is near, until it is slow.
func TestAcknowledgementsMayBeLate(t *testing.T) {
	for _, rtt := range []time.Duration{2 * time.Millisecond, 20 * time.Millisecond} {
		inBubble(t, 0, func(b *bubble) {
			b.net.far(rtt)
			s := newShown(1)
			s.source = attachtest.NewSource(200, 200)
			s.spec.Source = s.source
			c := b.attach(s)
			defer c.close()
			late := func() bool {
				d, err := c.conn.ReceiveDatagram(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				return native.AcksLate(d)
			}
			if got := late(); got != (rtt < far) {
				t.Errorf("round trip %v: acknowledgements may be late: %v", rtt, got)
			}
			c.ack(1)
			noise := rand.New(rand.NewPCG(1, 2))
			for range 2 { // one alone does not tell on a near link
				s.source.Change(image.Rect(0, 0, 100, 100), func(p *draw.Pixmap) {
					for y := range 100 {
						for x := range 400 {
							p.Row(y, 0, 100)[x] = byte(noise.Uint32())
						}
					}
				})
				h := c.frame()
				<-time.After(time.Second) // of which most was for 30 kB
				c.ack(h.Seq)
			}
			at := time.Now()
			for late() {
			}
			if d := time.Since(at); d > 2*rtt {
				t.Errorf("round trip %v: that the link is slow was said after %v", rtt, d)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	key := input.Record{Type: input.Key, Usage: 4, Down: true}.Append(nil)
	for _, x := range []struct {
		name, reason string
		b            []byte
	}{
		{"unknown type", "type 0", make([]byte, 100)},
		{"key beyond the last", "Usage:65535", []byte{1, 0xff, 0xff, 1}},
		{"frame that was not sent", "acknowledgement of frame 2, sent were 1", input.Record{Type: input.Ack, Seq: 2}.Append(nil)},
		{"more than a buffer", "type 255", append(bytes.Repeat(key, 1000), 255)},
	} {
		t.Run(x.name, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				s, other := newShown(1), newShown(1)
				other.spec.Terminal = "0200c0a80002"
				o := b.attach(other)
				defer o.close()
				c := b.attach(s)
				c.send(append(bytes.Clone(key), x.b...))
				c.closed(native.CloseProtocol, x.reason)
				s.event(t, "detached: ")
				events := s.sink.Pending()
				if len(events) < 3 || events[1] != "key 4 true" || events[len(events)-1] != "release" {
					t.Errorf("sink got %q", events)
				}
				if n := strings.Count(b.log.String(), "media input refused"); n != 1 {
					t.Errorf("logged %d times:\n%s", n, b.log)
				}
				o.send(key)
				expect(t, other.sink, "resize 640 480", "key 4 true")
			})
		})
	}
	t.Run("end of the stream", func(t *testing.T) {
		inBubble(t, 0, func(b *bubble) {
			c := b.attach(newShown(1))
			c.out.Close()
			c.closed(native.CloseProtocol, "the input stream ended")
		})
	})
	t.Run("input in pieces", func(t *testing.T) {
		inBubble(t, 0, func(b *bubble) {
			s := newShown(1)
			c := b.attach(s)
			defer c.close()
			for _, x := range key {
				c.send([]byte{x})
				synctest.Wait()
			}
			expect(t, s.sink, "resize 640 480", "key 4 true")
		})
	})
	t.Run("further streams and datagrams of a later version", func(t *testing.T) {
		inBubble(t, 0, func(b *bubble) {
			s := newShown(1)
			c := b.attach(s)
			defer c.close()
			later, err := c.conn.OpenUniStream()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := later.Write([]byte{77, 1, 2, 3}); err != nil {
				t.Fatal(err)
			}
			if err := c.conn.SendDatagram([]byte("\x99later")); err != nil {
				t.Fatal(err)
			}
			<-later.Context().Done() // STOP_SENDING
			c.send(key)
			expect(t, s.sink, "resize 640 480", "key 4 true")
		})
	})
}

func TestBadGreeting(t *testing.T) {
	for _, x := range []struct {
		name, reason string
		b            []byte
	}{
		{"nothing", "no greeting", nil},
		{"half of it", "no greeting", hello(Spec{Terminal: terminal}, make([]byte, alp.TicketSize))[:30]},
		{"unknown kind", "no greeting", append([]byte{200}, make([]byte, 100)...)},
		{"another version", "version 9", append([]byte{byte(native.StreamInput), 9}, make([]byte, 100)...)},
		{"no screen", "screen of 0x0", append([]byte{byte(native.StreamInput), native.Version}, make([]byte, 100)...)},
	} {
		t.Run(x.name, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				at := time.Now()
				c, err := b.dial()
				if err != nil {
					t.Fatal(err)
				}
				if x.b != nil {
					c.send(x.b)
				}
				c.closed(native.CloseProtocol, x.reason)
				if d := time.Since(at); d > GreetWithin {
					t.Errorf("refused after %v", d)
				}
				if n := strings.Count(b.log.String(), "media greeting refused"); n != 1 {
					t.Errorf("logged %d times:\n%s", n, b.log)
				}
			})
		})
	}
}

func TestExpired(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		ticket, err := b.ep.Offer(s.spec)
		if err != nil {
			t.Fatal(err)
		}
		c, err := b.dial()
		if err != nil {
			t.Fatal(err)
		}
		pass(native.TicketLife - GreetWithin)
		c.close()
		pass(GreetWithin)
		if c, err = b.dial(); err != nil {
			t.Fatal(err)
		}
		c.send(hello(s.spec, ticket))
		c.closed(native.CloseTicket, "ticket expired")
		if !strings.Contains(b.log.String(), `msg="media ticket refused" reason="ticket expired" terminal=0200c0a80001`) {
			t.Errorf("log:\n%s", b.log)
		}
		if len(s.events) > 0 {
			t.Error("the expired ticket had a callback")
		}
	})
}

// Half-open connections are bounded, do not keep an expected terminal out, and
// go away by themselves.
func TestHalfOpen(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		s.spec.Addr = addr4(b.host(MaxStrangers + 2))
		ticket, err := b.ep.Offer(s.spec)
		if err != nil {
			t.Fatal(err)
		}
		var idle []*client
		for range MaxStrangers {
			c, err := b.dial()
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, c)
		}
		if _, err := b.dial(); err == nil || !strings.Contains(b.log.String(), "media connection refused") {
			t.Fatalf("one stranger too many: %v, log:\n%s", err, b.log)
		}
		c, err := b.dial()
		if err != nil {
			t.Fatal(err)
		}
		c.send(hello(s.spec, ticket))
		if c.frame().Seq != 1 {
			t.Error("no picture")
		}
		defer c.close()
		for _, c := range idle {
			c.closed(native.CloseProtocol, "no greeting")
		}
		if left := b.left(); left != [3]int{0, 0, 1} {
			t.Errorf("pending, strangers, live: %v", left)
		}
	})
}

func TestReplacedTicket(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		first, second := newShown(1), newShown(2)
		old, err := b.ep.Offer(first.spec)
		if err != nil {
			t.Fatal(err)
		}
		c := b.attach(second)
		late, err := b.dial()
		if err != nil {
			t.Fatal(err)
		}
		late.send(hello(first.spec, old))
		late.closed(native.CloseTicket, "ticket withdrawn")
		c.close()
	})
}

// Invariants 2 and 3: the older attachment's Release comes before the newer's
// first call, and a removal ends what began before it, and only that.
func TestOrderOfAttachments(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		a := b.attach(s)
		a.record(input.Record{Type: input.Key, Usage: 4, Down: true})
		expect(t, s.sink, "resize 640 480", "key 4 true")
		s.spec.Terminal, s.spec.Gen = "0200c0a80002", 2
		ticket, err := b.ep.Offer(s.spec)
		if err != nil {
			t.Fatal(err)
		}
		c, err := b.dial()
		if err != nil {
			t.Fatal(err)
		}
		c.send(hello(s.spec, ticket))
		c.record(input.Record{Type: input.Key, Usage: 5, Down: true})
		a.closed(native.CloseDetached, "shown elsewhere")
		expect(t, s.sink, "release", "resize 640 480", "key 5 true")
		s.event(t, "detached: shown elsewhere")
		s.event(t, "attached")

		b.ep.Detach(1, "", native.CloseDetached, "removed")
		b.ep.Detach(2, terminal, native.CloseDetached, "removed")
		synctest.Wait()
		if len(s.events) > 0 {
			t.Fatal(<-s.events)
		}
		b.ep.Detach(2, "0200c0a80002", native.CloseEnded, "over")
		c.closed(native.CloseEnded, "over")
		s.event(t, "detached: over")
	})
}

// TestHangingBefore: while an attachment cannot end, as its X server hangs,
// those who come after it wait as long as they like, and nothing of those who
// have left stays.
func TestHangingBefore(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		hangs := make(chan struct{})
		s := newShown(1)
		attached := s.spec.Attached
		s.spec.Attached = func() { attached(); <-hangs }
		come := func() *client {
			t.Helper()
			ticket, err := b.ep.Offer(s.spec)
			if err != nil {
				t.Fatal(err)
			}
			c, err := b.dial()
			if err != nil {
				t.Fatal(err)
			}
			c.send(hello(s.spec, ticket))
			synctest.Wait()
			s.spec.Gen++
			return c
		}
		come().close()
		s.event(t, "attached")
		for range 10 {
			come().close()
			if live := b.left()[2]; live != 1 {
				t.Fatalf("%d live", live)
			}
		}
		stays := come()
		come().close() // it ends stays, which waits for the first one still
		stays.closed(native.CloseDetached, "shown elsewhere")
		last := come()
		if live := b.left()[2]; live != 2 || len(s.events) > 0 {
			t.Fatalf("%d live, %d events", live, len(s.events))
		}
		close(hangs)
		s.event(t, "detached")
		s.event(t, "attached")
		if h := last.frame(); h.Seq != 1 {
			t.Errorf("the first frame is %d", h.Seq)
		}
		last.close()
		s.event(t, "detached: closed by the terminal")
	})
}

func TestOffer(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		for name, change := range map[string]func(*Spec){
			"no terminal": func(s *Spec) { s.Terminal = "" },
			"no source":   func(s *Spec) { s.Source = nil },
			"no sink":     func(s *Spec) { s.Sink = nil },
		} {
			s := newShown(1)
			change(&s.spec)
			if _, err := b.ep.Offer(s.spec); err == nil {
				t.Errorf("%s: offered", name)
			}
		}
		s := newShown(1)
		for i := range MaxTickets + 1 {
			s.spec.Terminal = alp.TerminalID(fmt.Sprintf("%012x", i))
			if _, err := b.ep.Offer(s.spec); (err != nil) != (i == MaxTickets) {
				t.Fatalf("offer %d: %v", i, err)
			}
		}
		pass(native.TicketLife + time.Second)
		if n := len(b.ep.tickets.waiting) + len(b.ep.tickets.ofAddr) + len(b.ep.tickets.ofTerminal) + len(b.ep.tickets.order); n > 0 {
			t.Errorf("%d things of expired tickets are kept", n)
		}
	})
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Identity: id}); err == nil {
		t.Error("an endpoint without a socket")
	}
}

// TestLimiter: a few warnings are written as they come; of those that go on for
// ever one a second is, and says how many are left out.
func TestLimiter(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		for range 10 * limiterBurst {
			b.ep.loud.Warn("media noise")
		}
		if n := strings.Count(b.log.String(), "media noise"); n != limiterBurst {
			t.Errorf("%d lines at once", n)
		}
		pass(limiterEvery)
		b.ep.loud.Warn("media noise")
		if want := fmt.Sprintf("omitted=%d\n", 9*limiterBurst); !strings.HasSuffix(b.log.String(), want) {
			t.Errorf("no %q in\n%s", want, b.log)
		}
		before := strings.Count(b.log.String(), "media noise")
		for range 100 {
			pass(limiterEvery / 10)
			b.ep.loud.Warn("media noise")
		}
		if n := strings.Count(b.log.String(), "media noise") - before; n != 10 {
			t.Errorf("%d lines in 10 s of noise", n)
		}
	})
}

func TestServeEnds(t *testing.T) {
	var ep *Endpoint
	var c *client
	inBubble(t, 0, func(b *bubble) {
		s := newShown(1)
		c = b.attach(s)
		half, err := b.dial()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // till it is accepted
		ep = b.ep
		go func() {
			half.closed(native.CloseRestart, "going away")
			c.closed(native.CloseRestart, "going away")
		}()
	})
	if _, err := ep.Offer(newShown(1).spec); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
