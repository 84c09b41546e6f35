package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeperapi"
)

const id alp.SessionID = "00000000000000d1"

// This test binary is also the session program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "keeper" || os.Args[1] == "media") {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, program.ExitOK, "started by server"},
		{[]string{"keeper", "-h"}, program.ExitOK, "-session-script"},
		{nil, program.ExitUsage, "keeper or media"},
		{[]string{"kepper"}, program.ExitUsage, "kepper"},
		{[]string{"keeper"}, program.ExitUsage, "-runtime"},
		{[]string{"keeper", "-runtime", "a", "-fb", "b", "-max-size", "big"}, program.ExitUsage, "WxH"},
		{[]string{"keeper", "-runtime", "a", "-fb", "b", "-max-size", "1x1"}, program.ExitUsage, "each side"},
		{[]string{"keeper", "-log-level", "loud"}, program.ExitUsage, "log-level"},
	} {
		var out, errs bytes.Buffer
		if code := Main(c.args, &out, &errs); code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%q: code %d, said %s%s", c.args, code, &out, &errs)
		}
	}
}

func TestParseSize(t *testing.T) {
	if w, h, err := ParseSize("2560x1600"); w != 2560 || h != 1600 || err != nil {
		t.Errorf("%dx%d, %v", w, h, err)
	}
	for _, bad := range []string{"", "2560", "2560x", "x1600", "2560x1600x24", "-5x600", "99999x600"} {
		if w, h, err := ParseSize(bad); err == nil {
			t.Errorf("%q: %dx%d", bad, w, h)
		}
	}
}

// Started by hand, it says that this is wrong.
func TestByHand(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"media"}, {"keeper", "-runtime", "a", "-fb", "b"}} {
		text, err := exec.Command(self, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(text), "is missing") {
			t.Errorf("%q: %v: %s", args, err, text)
		}
	}
}

type events chan string

func (e events) Attached(client.Change)       { e <- client.EventAttached }
func (e events) Detached(client.Change)       { e <- client.EventDetached }
func (e events) Quiet(client.Change, bool)    {}
func (e events) MediaRestarted(client.Change) { e <- client.EventMedia }
func (e events) Ended(x client.Ended)         { e <- x.Reason }

// The whole program, as a parent starts it, with its real media: a terminal
// gets a ticket, also from the successor of a media that was killed, for the
// same certificate.
func TestSession(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(run)
	fb, err := os.MkdirTemp("/dev/shm", "hd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fb)
	if err := os.MkdirAll(keeperapi.Dir(run, id), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(keeperapi.Lock(run, id))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := pc.(*net.UDPConn).File()
	pc.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	ready, readyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start, err := json.Marshal(keeperapi.Start{Session: id, Token: "card.1"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, "keeper", "-local", "-runtime", run, "-fb", filepath.Join(fb, "fb"), "-max-size", "800x600")
	cmd.Stdin = bytes.NewReader(start)
	cmd.Stderr = t.Output()
	cmd.ExtraFiles = []*os.File{udp, readyW, lock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readyW.Close()
	y, err := keeperapi.ReadReady(ready)
	if err != nil || y.Error != "" || y.Display == "" {
		t.Fatalf("%+v, %v", y, err)
	}
	conn, err := net.Dial("unix", keeperapi.Socket(run, id))
	if err != nil {
		t.Fatal(err)
	}
	e := make(events, 8)
	k := client.New(conn, e)
	served := make(chan error, 1)
	go func() { served <- k.Serve(ctx) }()

	ask := client.Attach{Terminal: "0800200a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Width: 640, Height: 480, Layout: "us"}
	first, err := k.Attach(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Cert) != sha256.Size || len(first.Ticket) != alp.TicketSize || first.Gen != 1 || first.Port == 0 {
		t.Errorf("offer: %+v", first)
	}
	s, err := k.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(s.Media)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := <-e; got != client.EventMedia {
		t.Errorf("event %q", got)
	}
	second, err := k.Attach(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Cert, second.Cert) || bytes.Equal(first.Ticket, second.Ticket) || second.Gen != 2 || second.Port != first.Port {
		t.Errorf("offers: %+v, %+v", first, second)
	}
	// The same stop as an administrator's kill.
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := <-e; !strings.Contains(got, "ended") {
		t.Errorf("event %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{keeperapi.Sessions(run), filepath.Join(fb, "fb")} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}
