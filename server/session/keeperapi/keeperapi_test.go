package keeperapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/protocol/alp"
)

var start = Start{Session: "00000000000000a1", Token: "card.4711", User: "ann", Width: 1280, Height: 1024, Layout: "de", Lang: "de_DE.UTF-8@euro", Desktop: "xfce"}

func text(tb testing.TB, v any) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := Write(&b, v); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestStart(t *testing.T) {
	got, err := ReadStart(bytes.NewReader(text(t, start)))
	if err != nil || got != start {
		t.Errorf("%+v, %v", got, err)
	}
	for name, spoil := range map[string]func(*Start){
		"session": func(s *Start) { s.Session = "../../etc/passwd" },
		"token":   func(s *Start) { s.Token = "" },
		"user":    func(s *Start) { s.User = strings.Repeat("a", 65) },
		"width":   func(s *Start) { s.Width = alp.MaxSide + 1 },
		"height":  func(s *Start) { s.Height = -1 },
		"layout":  func(s *Start) { s.Layout = "us -option" },
		"long":    func(s *Start) { s.Layout = strings.Repeat("a", 33) },
		"lang":    func(s *Start) { s.Lang = "../../tmp/x" },
		"desktop": func(s *Start) { s.Desktop = "../x" },
	} {
		bad := start
		spoil(&bad)
		if err := bad.Check(); err == nil {
			t.Errorf("%s: %+v passed", name, bad)
		}
	}
	for _, bad := range []string{"", "{", strings.Repeat(" ", MaxStart+1), "[]"} {
		if s, err := ReadStart(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q: %+v", bad, s)
		}
	}
}

func TestReady(t *testing.T) {
	y, err := ReadReady(bytes.NewReader(text(t, Ready{Error: strings.Repeat("\x01", 10*MaxReady)})))
	if err != nil || y.Error == "" {
		t.Errorf("%d bytes, %v", len(y.Error), err)
	}
	if y, err := ReadReady(bytes.NewReader(text(t, Ready{Display: ":7"}))); err != nil || y.Display != ":7" {
		t.Errorf("%+v, %v", y, err)
	}
	if _, err := ReadReady(strings.NewReader("")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a dead keeper: %v", err)
	}
}

func TestPeer(t *testing.T) {
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid, err := PeerUID(conn); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("uid %d, %v", uid, err)
	}
	if err := CheckPeer(conn); err != nil {
		t.Error(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := CheckPeer(a); err == nil {
		t.Error("a connection without credentials passed")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(text(f, start))
	f.Add(text(f, Ready{Error: "xsession: no"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ReadStart(bytes.NewReader(b)); err == nil {
			again, err := ReadStart(bytes.NewReader(text(t, s)))
			if err != nil && len(text(t, s)) <= MaxStart || err == nil && again != s {
				t.Errorf("%+v became %+v, %v", s, again, err)
			}
		}
		if y, err := ReadReady(bytes.NewReader(b)); err == nil && len(y.Error) <= MaxError {
			again, err := ReadReady(bytes.NewReader(text(t, y)))
			if err == nil && again != y {
				t.Errorf("%+v became %+v", y, again)
			}
		}
	})
}
