package xsession

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hotdesk/server/session/keeper/family"

	"github.com/BurntSushi/xgb"
	"github.com/BurntSushi/xgb/xproto"
	"golang.org/x/sys/unix"
)

const patience = time.Minute

var fam *family.Family

func TestMain(m *testing.M) {
	xgb.Logger = log.New(io.Discard, "", 0)
	var err error
	if fam, err = family.New(); err != nil {
		panic(err)
	}
	code := m.Run()
	fam.Close()
	os.Exit(code)
}

func config(t *testing.T) Config {
	t.Helper()
	me, err := LookupUser("")
	if err != nil {
		t.Fatal(err)
	}
	me.Shell = "/bin/sh" // the account of the tests may have none
	dir, err := os.MkdirTemp("/dev/shm", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{
		Family: fam, Session: "00000000000000b1", User: me, Base: filepath.Join(dir, "fb"),
		MaxWidth: 1024, MaxHeight: 768, Output: t.Output(),
	}
}

func end(t *testing.T, s *Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var x *family.Child
	if s != nil {
		x = s.X()
	}
	if err := fam.End(ctx, 2*time.Second, nil, x); err != nil {
		t.Error(err)
	}
	if s != nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Hotdesk's own script shows a managed terminal window on its own colour.
func TestDefaultSession(t *testing.T) {
	cfg := config(t)
	s, err := Start(t.Context(), cfg)
	defer end(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Reason() != "" {
		t.Errorf("reason: %s", s.Reason())
	}
	// Without the cookie nobody gets in.
	t.Setenv("XAUTHORITY", "/dev/null")
	if c, err := xgb.NewConnDisplay(s.Display()); err == nil {
		c.Close()
		t.Error("a client without cookie was let in")
	}
	t.Setenv("XAUTHORITY", s.Authority())
	c, err := xgb.NewConnDisplay(s.Display())
	if err != nil {
		t.Fatal(err)
	}
	var closing sync.Once // xgb may be closed once
	hangUp := func() { closing.Do(c.Close) }
	defer hangUp()
	giveUp := time.AfterFunc(patience, hangUp)
	defer giveUp.Stop()
	screen := xproto.Setup(c).DefaultScreen(c)
	if screen.WidthInPixels != 1024 || screen.HeightInPixels != 768 {
		t.Errorf("screen %dx%d", screen.WidthInPixels, screen.HeightInPixels)
	}
	if err := xproto.ChangeWindowAttributesChecked(c, screen.Root, xproto.CwEventMask,
		[]uint32{xproto.EventMaskPropertyChange}).Check(); err != nil {
		t.Fatal(err)
	}
	active, err := xproto.InternAtom(c, false, uint16(len("_NET_ACTIVE_WINDOW")), "_NET_ACTIVE_WINDOW").Reply()
	if err != nil {
		t.Fatal(err)
	}
	for !activeTerminal(c, screen.Root, active.Atom) {
		if ev, xerr := c.WaitForEvent(); ev == nil && xerr == nil {
			t.Fatal("no terminal window came")
		}
	}
	pixel, err := xproto.GetImage(c, xproto.ImageFormatZPixmap, xproto.Drawable(screen.Root), 2, 2, 1, 1, 0xffffffff).Reply()
	if err != nil || !bytes.Equal(pixel.Data[:3], []byte{0x58, 0x48, 0x2f}) {
		t.Errorf("background: %x, %v", pixel.Data, err)
	}
	st, err := os.Stat(s.FrameBuffer())
	if err != nil || st.Size() < 1024*768*4 {
		t.Errorf("frame buffer: %v, %v", st, err)
	}
	for _, path := range []string{filepath.Dir(s.FrameBuffer()), s.Authority(), s.RuntimeDir()} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	fam.Signal(s.script, unix.SIGKILL)
	<-s.Done()
	if !strings.Contains(s.Reason(), "signal: killed") {
		t.Errorf("reason: %s", s.Reason())
	}
}

// activeTerminal reports whether the window with the keyboard is an xterm.
func activeTerminal(c *xgb.Conn, root xproto.Window, active xproto.Atom) bool {
	p, err := xproto.GetProperty(c, false, root, active, xproto.AtomWindow, 0, 1).Reply()
	if err != nil || len(p.Value) != 4 {
		return false
	}
	w := xproto.Window(xgb.Get32(p.Value))
	class, err := xproto.GetProperty(c, false, w, xproto.AtomWmClass, xproto.GetPropertyTypeAny, 0, 64).Reply()
	return err == nil && bytes.Contains(class.Value, []byte("XTerm"))
}

func TestStartFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, *Config)
		want  string
	}{
		"no Xvfb":   {func(t *testing.T, _ *Config) { t.Setenv("PATH", t.TempDir()) }, "apt install xvfb"},
		"X refuses": {func(_ *testing.T, c *Config) { c.MaxWidth = -5 }, "the X server did not start (exit status 1): Couldn't add screen 0"},
		"another's directory": {func(t *testing.T, c *Config) {
			if err := os.Symlink(t.TempDir(), c.Base); err != nil {
				t.Fatal(err)
			}
		}, "is no directory"},
		"open to all": {func(t *testing.T, c *Config) {
			if err := os.Mkdir(c.Base, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(c.Base, 0o777); err != nil {
				t.Fatal(err)
			}
		}, "chmod 0711"},
		"on a disk":      {func(_ *testing.T, c *Config) { c.Base = "/proc" }, "is not on tmpfs"},
		"cannot be made": {func(_ *testing.T, c *Config) { c.Base = "/proc/none/none" }, "with -fb"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "on a disk" && os.Geteuid() != 0 {
				c.want = "belongs to uid 0" // said first
			}
			cfg := config(t)
			c.spoil(t, &cfg)
			s, err := Start(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			end(t, s)
			if entries, err := os.ReadDir(cfg.Base); err == nil && cfg.Base != "/proc" && len(entries) != 0 && name != "another's directory" {
				t.Errorf("left: %v", entries)
			}
		})
	}
}

func TestScriptFileRunsItself(t *testing.T) {
	cfg := config(t)
	cfg.Script = filepath.Join(t.TempDir(), "script")
	// Not a shell's text: the first line counts since the file is executable.
	if err := os.WriteFile(cfg.Script, []byte("#!/usr/bin/awk -f\nBEGIN { print \"awk says so\"; exit 4 }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), cfg)
	defer end(t, s)
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if want := "exit status 4). It said: awk says so"; !strings.Contains(s.Reason(), want) {
		t.Errorf("reason %q, want %q", s.Reason(), want)
	}
}

// Programs make sockets below the session's directory: a path with no room for
// them is refused, in words.
func TestLongBase(t *testing.T) {
	if err := CheckBase("/dev/shm/" + strings.Repeat("x", 60)); err == nil || !strings.Contains(err.Error(), "-fb") {
		t.Errorf("error: %v", err)
	}
}

func TestCookie(t *testing.T) {
	b := newCookie()
	if len(b) != 2+4*2+len(cookieName)+cookieSize || binary.BigEndian.Uint16(b) != 0xffff {
		t.Errorf("% x", b)
	}
	if bytes.Equal(b, newCookie()) {
		t.Error("the same cookie twice")
	}
}

func TestUsers(t *testing.T) {
	u, err := LookupUser("nobody")
	if err != nil || u.Name != "nobody" || u.UID == 0 || u.GID == 0 || len(u.Groups) == 0 || u.Shell == "" {
		t.Errorf("%+v, %v", u, err)
	}
	if a := u.Attributes(); os.Geteuid() == 0 && (a.Credential == nil || a.Credential.Uid != u.UID) {
		t.Errorf("attributes: %+v", a)
	}
	me, err := LookupUser("")
	if err != nil || me.Attributes().Credential != nil {
		t.Errorf("%+v, %v", me, err)
	}
	t.Setenv("HOME", "/somewhere")
	if me, err := LookupUser(""); err != nil || me.Home != "/somewhere" {
		t.Errorf("the caller's home is %q, %v", me.Home, err)
	}
	if other, err := LookupUser("nobody"); err != nil || other.Home == "/somewhere" {
		t.Errorf("another's home is %q, %v", other.Home, err)
	}
	if _, err := LookupUser("no-such-user"); err == nil {
		t.Error("found a user that is not")
	}
	if u.dir() != "/" { // nobody has no home
		t.Errorf("starts in %s", u.dir())
	}
}

func TestTail(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"(EE) Fatal\n(EE) \n":          "Fatal",
		"a\nb\n\n":                     "b",
		"x\x1b[1mbold\xff\n":           "x[1mbold?",
		strings.Repeat("a", 2*maxTail): strings.Repeat("a", maxTail),
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		o := &output{read: r, ended: make(chan struct{})}
		var log bytes.Buffer
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		o.copy(&log)
		if got := o.tail(); got != want || log.String() != text {
			t.Errorf("tail of %q: %q, want %q", text, got, want)
		}
		r.Close()
	}
}
