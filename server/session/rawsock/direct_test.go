package rawsock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
)

// direct is two ends of a unix socket, the first of them a Direct.
func direct(t testing.TB) (*Direct, net.Conn) {
	t.Helper()
	s, b := pair(t)
	d, err := NewDirect(s.(*Stream).Conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, b
}

func TestDirect(t *testing.T) {
	d, peer := direct(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than the kernel takes at once
	go io.Copy(peer, peer)
	go d.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(d, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("what came back is not what was sent: %v", err)
	}
	if n, err := d.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing read: %d, %v", n, err)
	}
	peer.Close()
	if _, err := d.Read(got); err != io.EOF {
		t.Errorf("after the other end closed: %v", err)
	}
	if _, err := d.Write(got); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to nobody: %v", err)
	}
	d.Close()
	if _, err := d.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := d.Write(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Whoever answers may be of this process, and have no other core.
func TestDirectLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d, peer := direct(t)
	go peer.Write([]byte("late"))
	var b [4]byte
	if _, err := io.ReadFull(d, b[:]); err != nil || string(b[:]) != "late" {
		t.Errorf("%q, %v", b, err)
	}
	done := make(chan error)
	go func() {
		_, err := d.Write(make([]byte, 1<<20))
		done <- err
	}()
	if _, err := io.CopyN(io.Discard, peer, 1<<20); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The world stops, for the garbage collector here, while somebody waits.
func TestDirectStopsWithTheWorld(t *testing.T) {
	d, peer := direct(t)
	for range 200 {
		go func() {
			runtime.GC()
			peer.Write([]byte{1})
		}()
		if _, err := d.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectIsClosedMeanwhile(t *testing.T) {
	for _, call := range []func(d *Direct) error{
		func(d *Direct) error { _, err := d.Read(make([]byte, 1)); return err },
		func(d *Direct) error { _, err := d.Write(make([]byte, 1<<20)); return err },
	} {
		d, _ := direct(t)
		ended := make(chan error)
		go func() { ended <- call(d) }()
		for begun := false; !begun; runtime.Gosched() {
			select {
			case err := <-ended:
				t.Fatalf("it has ended by itself: %v", err)
			default:
			}
			d.mu.Lock()
			begun = d.users > 0
			d.mu.Unlock()
		}
		d.Close()
		if err := <-ended; err == nil {
			t.Error("no error")
		}
	}
}

func TestDirectIsNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if _, err := NewDirect(a); err == nil {
		t.Error("a pipe became a Direct")
	}
}

// BenchmarkDirect and BenchmarkStream are a question that is answered at once.
func BenchmarkDirect(b *testing.B) {
	d, peer := direct(b)
	answered(b, d, peer)
}

func BenchmarkStream(b *testing.B) {
	s, peer := pair(b)
	answered(b, s, peer)
}

func answered(b *testing.B, rw io.ReadWriter, peer net.Conn) {
	go io.Copy(peer, peer)
	buf := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rw.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(rw, buf); err != nil {
			b.Fatal(err)
		}
	}
}
