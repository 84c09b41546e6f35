package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/rpc"
)

// Allow says who may use the API besides root.
type Allow struct {
	UID   int    // a user, for programs that run without root; -1: nobody
	Group string // members of a group; "": nobody
}

// may reports whether a user may. Groups are looked up at every connection, so
// that whoever leaves one is out.
func (a Allow) may(uid int) bool {
	if uid == 0 || a.UID >= 0 && uid == a.UID {
		return true
	}
	if a.Group == "" {
		return false
	}
	g, err := user.LookupGroup(a.Group)
	if err != nil {
		return false
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	return err == nil && slices.Contains(ids, g.Gid)
}

// A peer is who is at the other end.
type peer struct {
	uid int
	pid int
}

type peerKey struct{}

// who is the name of the admin who asks.
func who(r *http.Request) string {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return "unknown"
	}
	u, err := user.LookupId(strconv.Itoa(p.uid))
	if err != nil {
		return fmt.Sprintf("uid %d", p.uid)
	}
	return u.Username
}

// A peerConn is a connection that has one of the listener's places.
type peerConn struct {
	*net.UnixConn
	peer  peer
	spoke atomic.Bool // a whole line
	leave func()
}

// Read takes note of the end of the first line.
func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.UnixConn.Read(b)
	if !c.spoke.Load() && bytes.IndexByte(b[:n], '\n') >= 0 {
		c.spoke.Store(true)
	}
	return n, err
}

// Close gives the place back.
func (c *peerConn) Close() error {
	c.leave()
	return c.UnixConn.Close()
}

// listener lets in whoever may, and not too many: one that has not said a line
// yet makes room for who comes, and where all have, that one waits.
type listener struct {
	*net.UnixListener
	allow Allow
	notes rpc.Notes
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	inside []*peerConn   // the oldest first
	left   chan struct{} // something to receive after one has left
}

func newListener(ln *net.UnixListener, allow Allow, log *slog.Logger) *listener {
	return &listener{UnixListener: ln, allow: allow, notes: rpc.Notes{Log: log}, left: make(chan struct{}, 1), done: make(chan struct{})}
}

// Close ends Accept, also one that waits for a place.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.UnixListener.Close()
}

// Accept returns the next connection of someone who may.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.UnixListener.AcceptUnix()
		if err != nil {
			return nil, err
		}
		p, err := credentials(c)
		if err == nil && !l.allow.may(p.uid) {
			err = fmt.Errorf("admin: uid %d may not", p.uid)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte(refusal))
		}
		if err != nil {
			l.notes.Warn("admin refused", "uid", p.uid, "pid", p.pid, "err", err)
			c.Close()
			continue
		}
		pc := &peerConn{UnixConn: c, peer: p}
		pc.leave = sync.OnceFunc(func() { l.leave(pc) })
		for !l.admit(pc) {
			select {
			case <-l.left:
			case <-l.done:
				c.Close()
				return nil, net.ErrClosed
			}
		}
		return pc, nil
	}
}

// admit gives pc a place if there is one.
func (l *listener) admit(pc *peerConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.inside) >= MaxConns {
		i := slices.IndexFunc(l.inside, func(c *peerConn) bool { return !c.spoke.Load() })
		if i < 0 {
			return false
		}
		l.inside[i].UnixConn.Close() // whoever serves it finds out
		l.inside = slices.Delete(l.inside, i, i+1)
	}
	l.inside = append(l.inside, pc)
	return true
}

func (l *listener) leave(pc *peerConn) {
	l.mu.Lock()
	l.inside = slices.DeleteFunc(l.inside, func(c *peerConn) bool { return c == pc })
	l.mu.Unlock()
	select {
	case l.left <- struct{}{}:
	default:
	}
}

const refusalBody = `{"code":"denied","text":"only root may use the admin API, and the members of the server's -admin-group: run this as root"}`

var refusal = fmt.Sprintf("HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(refusalBody), refusalBody)

func credentials(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{-1, 0}, fmt.Errorf("admin: %w", err)
	}
	p := peer{-1, 0}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var u *unix.Ucred
		if u, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner == nil {
			p = peer{int(u.Uid), int(u.Pid)}
		}
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return peer{-1, 0}, fmt.Errorf("admin: who asks: %w", err)
	}
	return p, nil
}
