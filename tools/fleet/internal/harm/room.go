package harm

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotdesk/protocol/alp"
	"hotdesk/tools/internal/lab"
)

const (
	diskFull = "disk full"
	// GatewayStarved is the one fault that a program ends of with a crash.
	GatewayStarved = "gateway's memory full"
)

// descriptors leaves the gateway almost none.
func (b *blow) descriptors(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return b.nothing("no gateway runs just now")
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return b.nothing("the gateway has just ended")
	}
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return b.nothing("the gateway has just ended")
	}
	less := was
	less.Cur = uint64(len(open) + b.rng.IntN(3))
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &less, nil); err != nil {
		return b.nothing("the gateway has just ended")
	}
	defer func() { _ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil) }() // it may have ended
	// Terminals may leave meanwhile: connections take what they give back.
	var conns []net.Conn
	defer func() { shut(conns) }()
	if !until(ctx, seenWithin, func() bool {
		if c, err := stranger(ctx, host, len(conns)); err == nil {
			conns = append(conns, c)
		}
		now, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return err == nil && uint64(len(now)) >= less.Cur
	}) {
		return b.nothing("the gateway does not use the %d that it may have", less.Cur)
	}
	b.saw("the gateway uses all %d that it may have, with %d connections", less.Cur, len(conns))
	wait(ctx, b.time(time.Second, 4*time.Second))
	return nil
}

// stranger connects to a host, from ever another address: of one the gateway
// takes few.
func stranger(ctx context.Context, host *lab.Host, n int) (net.Conn, error) {
	d := net.Dialer{Timeout: 100 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, byte(n>>8), byte(n))}}
	return d.DialContext(ctx, "tcp", host.Addr)
}

func shut(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// full leaves no room for state, sockets and logs.
func (b *blow) full(ctx context.Context, _ *lab.Host) error {
	file := b.Full + "/ballast"
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	info, failed := f.Stat()
	f.Close()
	if failed != nil || !errors.Is(err, unix.ENOSPC) {
		return errors.Join(err, failed)
	}
	b.saw("with %d MB: %v", info.Size()>>20, unix.ENOSPC)
	wait(ctx, b.time(time.Second, 4*time.Second))
	return nil
}

const (
	// spare is what a session has left before its programs get no more memory: as
	// in a real one, the X server is not the largest part of it.
	spare = 64 << 20
	// hunger bounds what the program takes that wants more, should nobody stop it.
	hunger = 512 << 10 // KiB
)

// memorySession has a program of a session take all memory that the session may
// have. The kernel ends that program; the session goes on.
func (b *blow) memorySession(ctx context.Context, host *lab.Host) error {
	s, ok, err := b.one(ctx, host)
	if !ok {
		return err
	}
	text, err := os.ReadFile(filepath.Join(host.Runtime, "sessions", string(s.id), "cgroup"))
	if err != nil {
		return b.nothing("the session has no control group")
	}
	for dir := range strings.FieldsSeq(string(text)) {
		for _, files := range [][2]string{{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}} {
			limit, usage := filepath.Join(dir, files[0]), filepath.Join(dir, files[1])
			was, err := os.ReadFile(limit)
			if err != nil {
				continue
			}
			used, err := os.ReadFile(usage)
			if err != nil {
				return b.nothing("the session has just ended")
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(used)), 10, 64)
			if err != nil {
				return err
			}
			n += spare
			if err := os.WriteFile(limit, strconv.AppendInt(nil, n, 10), 0); err != nil {
				return b.nothing("the session's limit cannot be set: %v", err)
			}
			how, starved := eat(ctx, filepath.Join(dir, "cgroup.procs"))
			_ = os.WriteFile(limit, bytes.TrimSpace(was), 0) // the session may have ended
			if !starved {
				return b.nothing("session %s, %d MB: a program that wanted more got it: %s", s.id, n>>20, how)
			}
			b.saw("session %s, %d MB: the kernel ended a program that wanted more", s.id, n>>20)
			return nil
		}
	}
	return b.nothing("the session has no control group for memory")
}

// eat runs a program in a control group that takes memory till it is ended, and
// is the first that the kernel ends. It says how the program ended, and whether
// that was the kernel's doing.
func eat(ctx context.Context, procs string) (how string, starved bool) {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	script := fmt.Sprintf("echo 1000 >/proc/self/oom_score_adj; echo $$ >%q && ulimit -v %d && exec tail /dev/zero", procs, hunger)
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Sprintf("still there after %v", seenWithin), false
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return err.Error(), true
	}
	return strings.TrimSpace(fmt.Sprintf("%v: %s", err, said)), false
}

// connections at once are what needs the memory that the gateway does not get.
const connections = 500

// memoryGateway lets the gateway take no more memory, and gives it reason to.
func (b *blow) memoryGateway(ctx context.Context, host *lab.Host) error {
	pid, err := host.Gateway()
	if err != nil {
		return b.nothing("no gateway runs just now")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return b.nothing("the gateway has just ended")
	}
	_, rest, ok := bytes.Cut(text, []byte("VmData:"))
	words := bytes.Fields(rest)
	if !ok || len(words) == 0 {
		return errors.New("the kernel does not tell the gateway's memory")
	}
	kib, err := strconv.ParseUint(string(words[0]), 10, 64)
	if err != nil {
		return err
	}
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &was); err != nil {
		return b.nothing("the gateway has just ended")
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: kib << 10, Max: was.Max}, nil); err != nil {
		return b.nothing("the gateway has just ended")
	}
	defer func() { _ = unix.Prlimit(pid, unix.RLIMIT_DATA, &was, nil) }() // it may have ended
	var conns []net.Conn
	defer func() { shut(conns) }()
	for n := range connections {
		c, err := stranger(ctx, host, n)
		if err == nil {
			conns = append(conns, c)
			ask, cancel := context.WithTimeout(ctx, time.Second)
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alp.ALPN}}).HandshakeContext(ask) // it may end meanwhile
			cancel()
		}
		if unix.Kill(pid, 0) == syscall.ESRCH {
			b.saw("%d MB; it ended at connection %d", kib>>10, n+1)
			return nil
		}
	}
	return b.nothing("the gateway lives with its %d MB and %d connections", kib>>10, connections)
}
