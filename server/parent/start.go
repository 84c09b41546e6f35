package parent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

const (
	// mediaBuffer is the size that media sockets' buffers should have: a whole
	// picture may leave at once.
	mediaBuffer = 4 << 20
	// firstUID is the lowest user id that is a person's (Debian policy 9.2.2).
	firstUID = 1000
	// killTime is how long a keeper that did not get ready may clean up.
	killTime = 5 * time.Second
)

// keeperProc is a keeper that this parent started.
type keeperProc struct {
	pid   int
	start keeperapi.Start
	done  chan struct{} // closed when it has been waited for, and its files are gone or left to remains
	ran   bool          // its session started; until then start reports
}

// serve answers one gateway until it is gone; an error means that it broke the
// rules. When ctx ends nothing is begun for it any more.
func (p *parent) serve(ctx context.Context, l link, requests *sync.WaitGroup) error {
	for {
		m, files, err := l.receive()
		closeAll(files) // a gateway has nothing to pass
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET):
			return nil
		case err != nil:
			return err
		}
		p.seats <- struct{}{}
		requests.Go(func() {
			defer func() { <-p.seats }()
			reply, file := p.answer(ctx, m)
			reply.ID = m.ID
			if err := l.send(reply, file); err != nil {
				p.Log.Info("the gateway did not wait for its answer", "error", err)
			}
			if file != nil {
				file.Close()
			}
		})
	}
}

func (p *parent) answer(ctx context.Context, m message) (message, *os.File) {
	var out message
	var conn *net.UnixConn
	err := fmt.Errorf("parent: unknown request %.40q", m.Op)
	switch m.Op {
	case opStart:
		err = errors.New("parent: start without a description")
		if m.Start != nil {
			conn, err = p.start(ctx, *m.Start)
		}
	case opOpen:
		conn, err = open(p.Runtime, m.Session)
	case opList:
		p.mu.Lock()
		p.came = true
		p.mu.Unlock()
		p.starting.Lock()
		out.List, err = p.sessions()
		p.starting.Unlock()
	case opSign:
		err = errors.New("parent: the authority's key is on another host")
		if p.Sign != nil {
			out.Chain, err = p.Sign(m.Name, m.Public)
		}
	}
	var file *os.File
	if err == nil && conn != nil {
		file, err = conn.File()
		conn.Close()
	}
	if err != nil {
		return message{Error: strings.ToValidUTF8(err.Error(), "?")}, nil
	}
	return out, file
}

// start starts a session and returns a control connection to its keeper.
func (p *parent) start(ctx context.Context, s Start) (*net.UnixConn, error) {
	ks := keeperapi.Start{Session: s.Session, Token: s.Token, Width: s.Width, Height: s.Height, Layout: s.Layout, Lang: s.Lang, Desktop: s.Desktop, Limits: s.Limits.Within(p.Limits)}
	var err error
	switch {
	case !s.Session.Valid() || !s.Token.Valid() || s.User != "" && !keeperapi.UserName(s.User):
		return nil, errors.New("parent: a session, a token or a user with a name that is none") // not in the log either
	case s.Kiosk != "" && s.Login:
		err = errors.New("a kiosk has no login")
	case s.Kiosk != "":
		ks.Kiosk = &keeperapi.Kiosk{Command: s.Kiosk, Skeleton: p.KioskSkeleton}
		ks.User, err = p.kiosk(s.User)
	case !s.Login:
		ks.User, err = p.allowed(s.User)
	case p.Local:
		err = errors.New("logins need a server that root runs, without -local")
	case p.Service == "":
		err = errors.New("this server has no logins")
	default: // the keeper asks whether the user may, when it knows who it is
		ks.User, ks.Service, ks.Terminal, ks.Addr = s.User, p.Service, s.Terminal, s.Addr.String()
		ks.Group, ks.Kiosks, ks.LeastUID = p.SessionGroup, p.KioskGroup, firstUID
	}
	if err != nil {
		p.Log.Warn("session refused", "session", s.Session, "token", s.Token, "error", err)
		return nil, err
	}
	if err := ks.Check(); err != nil {
		return nil, err
	}
	p.starting.RLock()
	defer p.starting.RUnlock()
	if ctx.Err() != nil {
		return nil, errors.New("parent: whoever asked for the session is gone") // the next gateway may have the list already
	}
	conn, err := p.startKeeper(ctx, ks)
	if err != nil {
		p.Log.Error("session did not start", "session", s.Session, "token", s.Token, "error", err)
		return nil, err
	}
	p.Log.Info("session started", "session", s.Session, "token", s.Token)
	return conn, nil
}

func (p *parent) startKeeper(ctx context.Context, ks keeperapi.Start) (*net.UnixConn, error) {
	udp, err := p.mediaSocket(ctx)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	lock, err := p.claim(ctx, ks)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	tries, err := p.counted(ctx, ks)
	if err != nil {
		p.remains.clear(ks.Session, p.FrameBuffer)
		return nil, err
	}
	defer tries.Close()
	ready, k, err := p.spawn(ks, udp, lock, tries)
	lock.Close() // the keeper holds it now, or nobody
	if err != nil {
		p.remains.clear(ks.Session, p.FrameBuffer)
		return nil, err
	}
	defer ready.Close()
	_ = ready.SetReadDeadline(time.Now().Add(StartTime))
	y, err := keeperapi.ReadReady(ready)
	if err == nil && y.Error != "" {
		err = errors.New(y.Error)
	}
	var conn *net.UnixConn
	if err == nil {
		conn, err = open(p.Runtime, ks.Session)
	}
	if err != nil {
		p.giveUp(k)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k.ran = true
	return conn, nil
}

// allowed returns the user of a session, "" for the caller, if that user may
// have one.
func (p *parent) allowed(name string) (string, error) {
	if p.Local {
		return "", nil
	}
	u, err := person(name)
	if err != nil {
		return "", err
	}
	if p.KioskGroup != "" {
		if in, err := member(u, p.KioskGroup); err != nil {
			return "", err
		} else if in {
			return "", fmt.Errorf("parent: no session for %s, an account of kiosks, being in group %s: what it leaves goes when a kiosk begins", name, p.KioskGroup)
		}
	}
	if p.SessionGroup == "" && p.Only != "" && name != p.Only {
		return "", fmt.Errorf("parent: no session for %s without a login", name)
	}
	if p.SessionGroup == "" {
		return u.Username, nil
	}
	if err := mustBe(u, p.SessionGroup); err != nil {
		return "", err
	}
	return u.Username, nil
}

// person finds a user who is not a system's.
func person(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("parent: no session for %.64q: %w; name an account with -session-user", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil || uid < firstUID {
		return nil, fmt.Errorf("parent: no session for %s: uid %s belongs to the system; sessions are for people (uid %d and above)", name, u.Uid, firstUID)
	}
	return u, nil
}

// member reports whether a user is in a group.
func member(u *user.User, group string) (bool, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, fmt.Errorf("parent: a group that says who may have sessions: %w", err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false, fmt.Errorf("parent: groups of %s: %w", u.Username, err)
	}
	return slices.Contains(ids, g.Gid), nil
}

// mustBe refuses a user who is not in a group.
func mustBe(u *user.User, group string) error {
	in, err := member(u, group)
	if err == nil && !in {
		err = fmt.Errorf("parent: no session for %s, who is not in group %s", u.Username, group)
	}
	return err
}

// mediaSocket binds the UDP socket of a session, with buffers that only root
// can make large.
func (p *parent) mediaSocket(ctx context.Context) (*os.File, error) {
	addr := p.Addr
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
		if p.Local {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			for _, options := range [2][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
				if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, options[0], mediaBuffer) != nil {
					_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, options[1], mediaBuffer) // as far as we may
				}
			}
		})
	}}
	ports := []int{0}
	if p.FirstPort != 0 {
		n := p.LastPort - p.FirstPort + 1
		if n < 1 {
			return nil, fmt.Errorf("parent: -media-ports %d-%d is empty", p.FirstPort, p.LastPort)
		}
		ports = ports[:0]
		for i, first := 0, rand.IntN(n); i < n; i++ {
			ports = append(ports, p.FirstPort+(first+i)%n)
		}
	}
	for _, port := range ports {
		pc, err := lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(addr, uint16(port)).String())
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("parent: media socket: %w", err)
		}
		f, err := pc.(*net.UDPConn).File()
		pc.Close()
		if err != nil {
			return nil, fmt.Errorf("parent: media socket: %w", err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("parent: every media port %d-%d is in use: widen -media-ports", p.FirstPort, p.LastPort)
}

// spawn starts a keeper, away from this process's terminal and signals.
func (p *parent) spawn(ks keeperapi.Start, udp, lock, tries *os.File) (ready *os.File, k *keeperProc, err error) {
	// The keeper has no network of its own; its programs have this one's.
	var net *os.File
	if os.Geteuid() == 0 {
		if net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return nil, nil, fmt.Errorf("parent: %w", err)
		}
		defer net.Close()
		ks.HostNet = true
		ready, k, err = p.spawnIn(net, ks, udp, lock, tries)
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSPC) {
			return ready, k, err
		}
		p.Log.Warn("the keeper has the host's network: the system gives it none of its own", "session", ks.Session, "error", err)
		ks.HostNet = false
	}
	return p.spawnIn(nil, ks, udp, lock, tries)
}

// spawnIn starts a keeper in a network namespace of its own, if net, the one of
// its programs, is not nil.
func (p *parent) spawnIn(net *os.File, ks keeperapi.Start, udp, lock, tries *os.File) (ready *os.File, k *keeperProc, err error) {
	var text bytes.Buffer
	if err := keeperapi.Write(&text, ks); err != nil {
		return nil, nil, err
	}
	stdin, stdinW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("parent: %w", err)
	}
	defer stdin.Close()
	_, err = stdinW.Write(text.Bytes()) // MaxStart fits into any pipe
	stdinW.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("parent: %w", err)
	}
	ready, readyW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("parent: %w", err)
	}
	defer readyW.Close()
	args := []string{"keeper",
		"-runtime", p.Runtime,
		"-fb", p.FrameBuffer,
		"-max-size", fmt.Sprintf("%dx%d", p.MaxWidth, p.MaxHeight),
		"-log-level", p.Level.String(),
	}
	if p.SessionScript != "" {
		args = append(args, "-session-script", p.SessionScript)
	}
	if p.SessionServices != "" {
		args = append(args, "-session-services", p.SessionServices)
	}
	if p.FrameBudget > 0 {
		args = append(args, "-frame-budget", p.FrameBudget.String())
	}
	if p.Local {
		args = append(args, "-local")
	}
	cmd := exec.Command(p.SessionProgram, args...)
	cmd.Dir = "/"
	cmd.Stdin = stdin
	cmd.ExtraFiles = []*os.File{udp, readyW, lock, net, tries} // keeperapi.UDPFD, ReadyFD, LockFD, NetFD, TriesFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if net != nil {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	}
	p.mu.Lock()
	defer p.mu.Unlock() // reap finds it
	if err := cmd.Start(); err != nil {
		ready.Close()
		return nil, nil, fmt.Errorf("parent: %w", err)
	}
	k = &keeperProc{pid: cmd.Process.Pid, start: ks, done: make(chan struct{})}
	_ = cmd.Process.Release()
	p.keepers[k.pid] = k
	return ready, k, nil
}

// reap waits for the keepers that have ended, and removes what those leave that
// died.
func (p *parent) reap() {
	for _, k := range p.ended() {
		p.remains.clear(k.start.Session, p.FrameBuffer)
		close(k.done)
	}
}

// ended waits for the keepers that have ended, and returns those that left
// something.
func (p *parent) ended() (dead []*keeperProc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid, k := range p.keepers {
		var status unix.WaitStatus
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if got == 0 || err == unix.EINTR {
			continue
		}
		delete(p.keepers, pid)
		if err == nil && status.Exited() && status.ExitStatus() == 0 {
			p.Log.Info("session ended", "session", k.start.Session, "token", k.start.Token)
			close(k.done)
			continue
		}
		if k.ran {
			p.Log.Error("keeper died", "session", k.start.Session, "token", k.start.Token, "status", exitText(status))
		}
		dead = append(dead, k)
	}
	return dead
}

func exitText(s unix.WaitStatus) string {
	if s.Signaled() {
		return "signal: " + s.Signal().String()
	}
	return "exit status " + strconv.Itoa(s.ExitStatus())
}

// giveUp ends a keeper whose session did not start and waits for its end.
func (p *parent) giveUp(k *keeperProc) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		p.mu.Lock()
		if p.keepers[k.pid] == k { // not waited for: the pid is still its own
			_ = unix.Kill(k.pid, sig)
		}
		p.mu.Unlock()
		select {
		case <-k.done:
			return
		case <-time.After(killTime):
		}
	}
}
