package app

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
)

// asProgram holds the arguments of groupmgr in a process that is it, and not a
// test.
const asProgram = "HOTDESK_TEST_GROUPMGR"

func TestMain(m *testing.M) {
	if args := os.Getenv(asProgram); args != "" {
		os.Exit(Main(strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// BenchmarkThousandHosts is what a host message costs a groupmgr of its own
// process that has 1,000 hosts in its table: processor time, the kernel's for
// its socket included, and memory. At the default period such a group sends 50
// a second into each network.
func BenchmarkThousandHosts(b *testing.B) {
	const hosts = 1000
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asProgram+"="+strings.Join([]string{"-local", "-runtime", dir, "-state", dir, "-port", "0", "-log-level", "error"}, "\n"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	sc := bufio.NewScanner(out)
	var name, addr string
	var port int
	if !sc.Scan() {
		b.Fatal("it did not start")
	}
	if _, err := fmt.Sscanf(sc.Text(), "groupmgr: ready host=%s addr=%s port=%d", &name, &addr, &port); err != nil {
		b.Fatal(err)
	}
	ring, err := (&keyFile{path: filepath.Join(dir, "group.key")}).read()
	if err != nil {
		b.Fatal(err)
	}
	unix, err := net.Dial("unix", filepath.Join(dir, "groupmgr.sock"))
	if err != nil {
		b.Fatal(err)
	}
	c := rpc.New(unix, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Serve(context.Background()) }()
	defer func() { c.Close(); <-done }()
	status := func() (s local.Status) {
		if err := c.Call(b.Context(), local.OpStatus, nil, &s); err != nil {
			b.Fatal(err)
		}
		return s
	}
	conn, err := listenUDP("127.0.1.1:0", true)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	to := netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
	sent := uint64(0)
	say := func(i int) []byte {
		ip := netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)})
		h := group.Host{
			Name: fmt.Sprintf("server-%04d", i), Addr: ip, Time: time.Now().Unix(), Flags: group.FlagsSent, CPUs: 16, Clock: 3000, Control: 7443,
			State: group.Online, Boot: uint64(i + 1), Counter: 1 + sent/hosts, Load: group.Load{Sessions: 25, Limit: 100, Busy: 312, Memory: 64000, Free: 48000},
			Interfaces: []group.Interface{{Name: "eth0", IP: ip, Mask: netip.AddrFrom4([4]byte{255}), Bcast: loopbackBroadcast}},
		}
		return ring.Sign(h.Append(nil), group.SHA1)
	}
	send := func() {
		if _, err := conn.WriteToUDPAddrPort(say(int(sent%hosts)), to); err != nil {
			b.Fatal(err)
		}
		if sent++; sent%100 == 0 {
			for status().Counters.Hosts < sent { // its own broadcasts count too
			}
		}
	}
	for range hosts {
		send()
	}
	for status().Trusted < hosts {
	}
	before := cpu(b, cmd.Process.Pid)
	for b.Loop() {
		send()
	}
	b.ReportMetric(float64(cpu(b, cmd.Process.Pid)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/message")
	b.ReportMetric(float64(memoryOf(b, cmd.Process.Pid))/1024, "MiB-resident")
	if s := status(); s.Trusted != hosts || s.Counters.Untrusted != 0 {
		b.Fatalf("%+v", s)
	}
}

// cpu is the processor time that a process took.
func cpu(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// memoryOf is the resident memory of a process in KiB.
func memoryOf(b *testing.B, pid int) int {
	v := kib(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	if v == 0 {
		b.Fatal("no VmRSS")
	}
	return v
}
