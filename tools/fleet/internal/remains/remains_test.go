package remains

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// traceback is what a program writes at SIGQUIT, in short.
const traceback = `SIGQUIT: quit
PC=0x408c6e m=0 sigcode=0

goroutine 0 gp=0x5fe920 m=0 mp=0x5ff6e0 [idle]:
runtime.netpoll(0x18a0613c9570?)
	/usr/local/go/src/runtime/netpoll_epoll.go:119 +0xd4 fp=0x7ffec80ada80 sp=0x7ffec80ad3f0 pc=0x445e74

goroutine 1 gp=0x18a0613961e0 m=nil [sync.WaitGroup.Wait, 5 minutes]:
runtime.gopark(0x18a0613dce90?, 0x41edf4?, 0x0?, 0xa0?, 0x50df4e?)
	/usr/local/go/src/runtime/proc.go:462 +0xce
sync.(*WaitGroup).Wait(0x18a06141c0b0)
	/usr/local/go/src/sync/waitgroup.go:206 +0x85
main.main()
	/src/main.go:3 +0xd5
runtime.main()
	/usr/local/go/src/runtime/proc.go:290 +0x2d5
runtime.goexit({})
	/usr/local/go/src/runtime/asm_amd64.s:1771 +0x1

goroutine 21 gp=0x18a061408960 m=nil [IO wait]:
internal/poll.(*FD).Accept(0xc000130000)
	/usr/local/go/src/internal/poll/fd_unix.go:613 +0x2a
hotdesk/server/control.(*Server).Serve.func3({0x1, 0x2}, 0x3)
	/src/server/control/control.go:260 +0x1
sync.(*WaitGroup).Go.func1()
	/usr/local/go/src/sync/waitgroup.go:258 +0x4a
created by sync.(*WaitGroup).Go in goroutine 1
	/usr/local/go/src/sync/waitgroup.go:238 +0x73

goroutine 22 gp=0x18a061408960 m=nil [IO wait]:
hotdesk/server/control.(*Server).Serve.func3({0x1, 0x2}, 0x3)
	/src/server/control/control.go:260 +0x1
created by sync.(*WaitGroup).Go in goroutine 1
	/usr/local/go/src/sync/waitgroup.go:238 +0x73

rax    0xfffffffffffffffc
`

func TestGoroutines(t *testing.T) {
	want := map[string]int{"main.main": 1, "hotdesk/server/control.(*Server).Serve.func3": 2}
	if got := Goroutines(traceback); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Goroutines(said + strings.ReplaceAll(traceback, "\n", "\n"+said)); !maps.Equal(got, want) {
		t.Errorf("in a keeper's log: %v, want %v", got, want)
	}
	if got := Goroutines("nothing\n"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestDescriptors(t *testing.T) {
	before, err := Descriptors(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x")
	for range 2 {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	after, err := Descriptors(os.Getpid())
	if err != nil || after[file] != 2 || after["socket"] != before["socket"]+1 {
		t.Errorf("%v, before %v, %v", after, before, err)
	}
}

func TestLeaks(t *testing.T) {
	was := Program{map[string]int{"socket": 10, "/dev/null": 3}, map[string]int{"a.f": 4}, 20}
	for name, c := range map[string]struct {
		old  Program
		want []string
	}{
		"the same": {was, nil},
		"a little": {Program{map[string]int{"socket": 10 + spare}, map[string]int{"a.f": 4 + spare, "b.f": spare}, heap*20 + 10}, nil},
		"sockets":  {Program{map[string]int{"socket": 11 + spare, "/dev/null": 3}, nil, 20}, []string{"14 descriptors socket, and a fresh one 10"}},
		"more of one than of the other": {Program{nil, map[string]int{"a.f": 9, "b.f": 99}, 20},
			[]string{"99 goroutines b.f, and a fresh one 0", "9 goroutines a.f, and a fresh one 4"}},
		"memory": {Program{nil, nil, heap*20 + 11}, []string{"71 MB, and a fresh one 20"}},
	} {
		if got := Leaks(c.old, was, Margin{MB: 10}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := Leaks(Program{nil, map[string]int{"b.f": spare + 5, "c.f": spare + 6}, 0}, was, Margin{Each: 5}); !slices.Equal(got, []string{"9 goroutines c.f, and a fresh one 0"}) {
		t.Errorf("with a margin: %q", got)
	}
	if got := Leaks(Program{map[string]int{"socket": 99}, map[string]int{"a.f": 99}, 99}, Program{}, Margin{MB: 10}); got != nil {
		t.Errorf("what cannot be seen of a fresh one: %q", got)
	}
}

func TestReadLog(t *testing.T) {
	// often is a message n times, apart.
	often := func(n int, level, message string, apart time.Duration) string {
		var b strings.Builder
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range n {
			fmt.Fprintf(&b, "time=%s level=%s msg=%q peer=10.0.0.1\n", at.Format(time.RFC3339Nano), level, message)
			at = at.Add(apart)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		log   string
		noise []string
		crash []string
	}{
		"a day":            {often(20, "INFO", "token inserted", time.Second) + often(10, "WARN", "media silent", time.Second) + "server: ready control=1\n", nil, nil},
		"for each card":    {often(quiet+2*quietEach, "INFO", "token inserted", time.Millisecond), nil, nil},
		"too often":        {often(quiet+2*quietEach+500, "INFO", "token inserted", time.Millisecond), []string{"140 times in 10s at 2026-01-01T00:00:00.14Z: \"token inserted\""}, nil},
		"warnings":         {often(loud+2*loudEach+1, "WARN", "silent", time.Millisecond), []string{"14 times in 10s at 2026-01-01T00:00:00.014Z: \"silent\""}, nil},
		"for a long time":  {often(1000, "ERROR", "silent", time.Second), nil, nil},
		"a clock set back": {strings.Repeat(often(10, "WARN", "silent", time.Second), 9), nil, nil},
		"crashes":          {"panic: close of closed channel\n\ngoroutine 14 [running]:\nfatal error: out of memory\n", nil, []string{"panic: close of closed channel", "fatal error: out of memory"}},
		"media's":          {"| panic: boo\n", nil, []string{"panic: boo"}},
		"a race":           {"WARNING: DATA RACE\n", nil, []string{"WARNING: DATA RACE"}},
		"a long line":      {strings.Repeat("x", maxLine+1), []string{"a line of over"}, nil},
	} {
		l, err := ReadLog(strings.NewReader(c.log), 2)
		if err != nil || !slices.Equal(l.Crashes, c.crash) || !slices.EqualFunc(l.Noise, c.noise, strings.Contains) {
			t.Errorf("%s: %q, %v", name, l, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	lives, err := net.Listen("unix", at("X1"))
	if err != nil {
		t.Fatal(err)
	}
	defer lives.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("X2"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	var p Places
	if got := p.Left(); got != nil {
		t.Errorf("%q", got)
	}
	p.Add(at("X2"), at("X1"), at("X3"), dir)
	if got := p.Left(); !slices.Equal(got, []string{dir, at("X2")}) {
		t.Errorf("%q", got)
	}
}
