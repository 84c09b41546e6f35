package keeper

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeper/family"
	"hotdesk/server/session/services"

	"golang.org/x/sys/unix"
)

// However fast terminals come and go, and however long commands take, services
// are told how it is in the end.
func TestServicesAreToldTheLast(t *testing.T) {
	fam, err := family.New()
	if err != nil {
		t.Fatal(err)
	}
	defer fam.Close()
	fifo := filepath.Join(t.TempDir(), "said")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	if err := said.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	hook := "read go <" + fifo + ".go; echo hook $HOTDESK_EVENT $HOTDESK_TERMINAL >" + fifo
	if err := unix.Mkfifo(fifo+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	gate, err := os.OpenFile(fifo+".go", os.O_RDWR, 0) // a line for each hook
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	d := newMinder([]services.Spec{{Name: "watch", Command: "exec cat >" + fifo, Required: true, Connect: hook, Disconnect: hook}},
		"00000000000000c1", slog.New(slog.DiscardHandler), func(cmd *exec.Cmd) (*family.Child, error) {
			cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
			return fam.Spawn(cmd)
		})
	const all = 2 * maxEvents
	var want []string
	for n := range all {
		terminal := alp.TerminalID(fmt.Sprintf("%012x", n/2+1))
		event := services.Connect
		if n%2 == 1 {
			event = services.Disconnect
		}
		if n >= all-maxEvents {
			want = append(want, fmt.Sprintf("%s %s", event, terminal))
		}
		if event == services.Disconnect {
			terminal = ""
		}
		d.connection(terminal)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var minding sync.WaitGroup
	minding.Go(func() { d.run(ctx) })
	lines := bufio.NewReader(said)
	var told, run []string
	read := func() {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v; told %v, run for %v", err, told, run)
		}
		line = strings.TrimSpace(line)
		if event, ok := strings.CutPrefix(line, "hook "); ok {
			run = append(run, event)
		} else {
			told = append(told, line)
		}
	}
	for len(told) < maxEvents {
		read()
	}
	if len(run) != 0 {
		t.Errorf("hooks that wait have run: %v", run)
	}
	if _, err := gate.WriteString(strings.Repeat("\n", maxEvents)); err != nil {
		t.Fatal(err)
	}
	for len(run) < maxEvents {
		read()
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	slices.Sort(run)
	slices.Sort(want)
	if !slices.Equal(run, want) {
		t.Errorf("run for %v, want %v", run, want)
	}
	cancel()
	minding.Wait()
	end, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := fam.End(end, 0, nil); err != nil {
		t.Error(err)
	}
}
