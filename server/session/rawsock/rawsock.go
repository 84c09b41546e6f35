// Package rawsock reads and writes sockets without a word to Go's scheduler.
//
// Purpose: around each system call package net tells the scheduler that the
// thread may be held up. While nobody else works that wakes the scheduler's
// monitor, a thread that then looks every 20 us whether it is: a fifth of the
// CPU of a process that makes a few short calls for each frame. A socket that
// does not block holds nobody up, so there is nothing to tell; waiting is the
// poller's, as in package net, but for a Direct's, whose answers come at once. For
// the same reason there is an Alarm, whose time the scheduler does not know.
//
// Source: recvmsg(2), sendmsg(2); sysmon and entersyscall in Go's runtime/proc.go,
// timers.check in its time.go for what is done before waiting for a datagram.
//
// Invariants:
//  1. Whoever waits, for something to read or for room, waits in the poller; of a
//     Direct only after a moment, and then as any system call does.
//  2. Deadlines, Close and errors are as package net has them. A Direct has no
//     deadlines.
//
// A Stream and a Datagrams are safe for concurrent use as a net.Conn is, a Direct
// is for one reader beside writers, and an Alarm is as a time.Timer is.
// Limits: addresses with a zone go the way of package net.
package rawsock

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// raw is the call of a socket of package net, which never blocks.
func raw(call, fd, a, b uintptr) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, a, b)
		switch errno {
		case unix.EINTR:
			continue
		case 0:
			return int(n), 0
		}
		return 0, errno
	}
}

// A side is one direction of a Stream: the call that is under way. What the
// poller calls is made once, so that a call allocates nothing.
type side struct {
	sync.Mutex
	call  uintptr
	b     []byte
	n     int
	errno unix.Errno
	try   func(fd uintptr) bool
}

func (s *side) init(call uintptr) {
	s.call = call
	s.try = func(fd uintptr) bool {
		s.n, s.errno = raw(s.call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.b))), uintptr(len(s.b)))
		return s.errno != unix.EAGAIN
	}
}

// A Stream is a connected stream socket.
type Stream struct {
	net.Conn
	rc            syscall.RawConn
	reads, writes side
}

// NewStream returns c if it is no socket.
func NewStream(c net.Conn) net.Conn {
	rc := rawConn(c)
	if rc == nil {
		return c
	}
	s := &Stream{Conn: c, rc: rc}
	s.reads.init(unix.SYS_READ)
	s.writes.init(unix.SYS_WRITE)
	return s
}

func rawConn(c any) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

func (s *Stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r := &s.reads
	r.Lock()
	defer r.Unlock()
	r.b = b
	err := s.rc.Read(r.try)
	r.b = nil
	read()
	switch {
	case err != nil:
		return 0, err
	case r.errno != 0:
		return 0, s.failed("read", r.errno)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (s *Stream) Write(b []byte) (done int, err error) {
	w := &s.writes
	w.Lock()
	defer w.Unlock()
	written()
	for done < len(b) {
		w.b = b[done:]
		err := s.rc.Write(w.try)
		w.b = nil
		switch {
		case err != nil:
			return done, err
		case w.errno != 0:
			return done, s.failed("write", w.errno)
		}
		done += w.n
	}
	return done, nil
}

func (s *Stream) failed(call string, errno unix.Errno) error {
	return &net.OpError{Op: call, Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(call, syscall.Errno(errno))}
}

// A message is one direction of a Datagrams: the call that is under way.
type message struct {
	sync.Mutex
	hdr   unix.Msghdr
	iov   unix.Iovec
	name  unix.RawSockaddrAny
	n     int
	errno unix.Errno
	try   func(fd uintptr) bool
}

func (m *message) init(call uintptr) {
	m.try = func(fd uintptr) bool {
		m.n, m.errno = raw(call, fd, uintptr(unsafe.Pointer(&m.hdr)), 0)
		return m.errno != unix.EAGAIN
	}
}

// set puts what is to be sent or filled into the call.
func (m *message) set(b, oob []byte, name uint32) {
	m.iov.Base = unsafe.SliceData(b)
	m.iov.SetLen(len(b))
	m.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&m.name)), Namelen: name, Iov: &m.iov, Control: unsafe.SliceData(oob)}
	m.hdr.SetIovlen(1)
	m.hdr.SetControllen(len(oob))
}

// clear lets go of the memory.
func (m *message) clear() {
	m.hdr, m.iov = unix.Msghdr{}, unix.Iovec{}
}

// A Datagrams is an UDP socket, as quic-go wants one.
type Datagrams struct {
	*net.UDPConn
	rc            syscall.RawConn
	six           bool // an IPv6 socket, that may also carry IPv4
	reads, writes message

	given bool // a datagram was read, and is being worked on
	lull  lull

	// The peer of the last datagram: mostly it is that of the next too.
	last unix.RawSockaddrInet6
	peer *net.UDPAddr
}

// NewDatagrams returns c if it is no UDP socket.
func NewDatagrams(c net.PacketConn) net.PacketConn {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return c
	}
	d := &Datagrams{UDPConn: u, rc: rawConn(u)}
	if d.rc == nil {
		return c
	}
	family := 0
	if err := d.rc.Control(func(fd uintptr) {
		family, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN) // else 0
	}); err != nil || family != unix.AF_INET && family != unix.AF_INET6 {
		return c
	}
	d.six = family == unix.AF_INET6
	d.lull.init()
	d.reads.init(unix.SYS_RECVMSG)
	d.writes.init(unix.SYS_SENDMSG)
	return d
}

// ReadBatch fills the first of ms: a session's terminal sends little, and
// mostly one datagram is there.
func (d *Datagrams) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	r, m := &d.reads, &ms[0]
	r.Lock()
	defer r.Unlock()
	if d.given {
		runtime.Gosched() // what was given is worked on first
		d.lull.begins()
	}
	d.given = true
	r.set(m.Buffers[0], m.OOB, unix.SizeofSockaddrAny)
	defer r.clear()
	if err := d.rc.Read(r.try); err != nil {
		return 0, err
	}
	read()
	if r.errno != 0 {
		return 0, d.failed("read", "recvmsg", nil, r.errno)
	}
	m.N, m.NN, m.Flags, m.Addr = r.n, int(r.hdr.Controllen), int(r.hdr.Flags), d.from(&r.name)
	return 1, nil
}

// from is the address of a peer, which nobody changes.
func (d *Datagrams) from(name *unix.RawSockaddrAny) *net.UDPAddr {
	switch name.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		six := unix.RawSockaddrInet6{Family: a.Family, Port: a.Port}
		copy(six.Addr[:], a.Addr[:])
		if d.peer == nil || six != d.last {
			d.last, d.peer = six, &net.UDPAddr{IP: net.IP(append([]byte(nil), a.Addr[:]...)), Port: hostOrder(a.Port)}
		}
		return d.peer
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(name))
		six := *a
		six.Flowinfo = 0
		if d.peer == nil || six != d.last {
			d.last, d.peer = six, &net.UDPAddr{IP: net.IP(append([]byte(nil), a.Addr[:]...)), Port: hostOrder(a.Port), Zone: zone(a.Scope_id)}
		}
		return d.peer
	}
	return &net.UDPAddr{}
}

// zone names an interface.
func zone(index uint32) string {
	if index == 0 {
		return ""
	}
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return ""
	}
	return i.Name
}

// hostOrder and netOrder turn a port as it is in a socket's address.
func hostOrder(port uint16) int {
	p := (*[2]byte)(unsafe.Pointer(&port))
	return int(p[0])<<8 | int(p[1])
}

func netOrder(port int) (p uint16) {
	b := (*[2]byte)(unsafe.Pointer(&p))
	b[0], b[1] = byte(port>>8), byte(port)
	return p
}

// WriteMsgUDP sends one datagram.
func (d *Datagrams) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if addr == nil || addr.Zone != "" || len(b) == 0 {
		return d.UDPConn.WriteMsgUDP(b, oob, addr)
	}
	w := &d.writes
	w.Lock()
	defer w.Unlock()
	var size uint32
	switch four := addr.IP.To4(); {
	case !d.six && four == nil:
		return d.UDPConn.WriteMsgUDP(b, oob, addr) // has words for it
	case !d.six:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&w.name))
		*a = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: netOrder(addr.Port), Addr: [4]byte(four)}
		size = unix.SizeofSockaddrInet4
	default:
		sixteen := addr.IP.To16()
		if sixteen == nil {
			return d.UDPConn.WriteMsgUDP(b, oob, addr) // the same
		}
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(&w.name))
		*a = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: netOrder(addr.Port), Addr: [16]byte(sixteen)}
		size = unix.SizeofSockaddrInet6
	}
	w.set(b, oob, size)
	defer w.clear()
	written()
	if err := d.rc.Write(w.try); err != nil {
		return 0, 0, err
	}
	if w.errno != 0 {
		return 0, 0, d.failed("write", "sendmsg", addr, w.errno)
	}
	d.lull.begins() // QUIC has sent what it had, with the acknowledgements that were due
	return w.n, len(oob), nil
}

func (d *Datagrams) failed(op, call string, addr *net.UDPAddr, errno unix.Errno) error {
	e := &net.OpError{Op: op, Net: "udp", Source: d.LocalAddr(), Err: os.NewSyscallError(call, syscall.Errno(errno))}
	if addr != nil {
		e.Addr = addr
	}
	return e
}
