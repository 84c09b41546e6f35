// Package keeperapi is what the parent hands to a keeper that it starts: the
// descriptors, the description of the session, the files, and who may talk to
// a keeper's socket.
//
// Source: design sections 1 and 8.
//
// The parent makes the session's directory, holds its lock file and passes the
// lock on: whoever can take the lock knows that the keeper is dead, whenever
// its start was interrupted. The Start travels on standard input because the
// token of a card must not be seen in a list of processes.
//
// PeerUID makes a system call; the rest are plain values. Limits: MaxStart,
// MaxReady.
package keeperapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/cgroup"
	"hotdesk/server/session/desktops"

	"golang.org/x/sys/unix"
)

// Descriptors that a keeper inherits.
const (
	UDPFD   = 3 // media socket, bound
	ReadyFD = 4 // pipe: one Ready, then closed
	LockFD  = 5 // lock file of the session's directory, locked
	NetFD   = 6 // with HostNet: the network namespace of the programs
	TriesFD = 7 // with Service: a socket, on which each try of a password is asked for (Word)
)

const (
	// MaxStart bounds a Start, in bytes.
	MaxStart = 16 << 10
	// MaxReady bounds a Ready, in bytes.
	MaxReady = 8 << 10
	// MaxError bounds the error text of a Ready, in bytes.
	MaxError = 1 << 10
	// MaxCommand bounds the command line of a kiosk, in bytes.
	MaxCommand = 1 << 10
	// MaxPath bounds the path of a unix socket (unix(7): sun_path).
	MaxPath = 107
)

// Start describes the session to keep.
type Start struct {
	Session alp.SessionID `json:"session"`
	Token   alp.Token     `json:"token"`
	User    string        `json:"user"`             // "" in local mode: the caller
	Width   int           `json:"width"`            // screen of the terminal that asks, 0 if unknown
	Height  int           `json:"height"`           //
	Layout  string        `json:"layout,omitempty"` // its keyboard
	// Lang and Desktop are what the user chose at a host that a login was at; a
	// login here has its own (client.Begin).
	Lang    string `json:"lang,omitempty"`
	Desktop string `json:"desktop,omitempty"`

	Limits cgroup.Limits `json:"limits,omitzero"`
	// HostNet says that the keeper is in a network namespace of its own, and
	// that NetFD is there.
	HostNet bool `json:"host_net,omitempty"`

	// Service is the PAM service that the user logs in by; "": nobody is asked
	// for anything. User is then what the user typed, and nothing is believed
	// of it before the modules are satisfied.
	Service  string         `json:"service,omitempty"`
	Terminal alp.TerminalID `json:"terminal,omitempty"` // of a login
	Addr     string         `json:"addr,omitempty"`     // the terminal's
	Group    string         `json:"group,omitempty"`    // whose members may have a session; "": everybody from LeastUID on
	Kiosks   string         `json:"kiosks,omitempty"`   // group whose members, the kiosks' accounts, may have none; "": there are none
	LeastUID uint32         `json:"least_uid,omitempty"`

	Kiosk *Kiosk `json:"kiosk,omitempty"` // nil for a user's session
}

// A Kiosk is a session without a login: a command in place of a desktop, in a
// home that is made for it and goes with it. User is an account that nothing
// else runs as.
type Kiosk struct {
	Command  string `json:"command"`            // for /bin/sh
	Skeleton string `json:"skeleton,omitempty"` // directory whose copy the home is, "" for an empty one
}

func (k Kiosk) check() error {
	if k.Command == "" || len(k.Command) > MaxCommand || strings.ContainsFunc(k.Command, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("keeperapi: a kiosk's command of %d bytes: it is one line of at most %d", len(k.Command), MaxCommand)
	}
	return nil
}

// MaxUser bounds a user's name, in bytes.
const MaxUser = 64

// Check refuses what no parent may pass on.
func (s Start) Check() error {
	switch {
	case !s.Session.Valid():
		return fmt.Errorf("keeperapi: bad session id %.40q", string(s.Session))
	case !s.Token.Valid():
		return fmt.Errorf("keeperapi: bad token")
	case len(s.User) > MaxUser:
		return fmt.Errorf("keeperapi: user name of %d bytes", len(s.User))
	case s.Service != "" && (!UserName(s.User) || !serviceName(s.Service) || !s.Terminal.Valid() || len(s.Addr) > 64 || s.LeastUID == 0 || len(s.Group) > MaxUser || len(s.Kiosks) > MaxUser):
		return fmt.Errorf("keeperapi: a login that names no user, service or terminal")
	case s.Service != "" && s.Kiosk != nil:
		return fmt.Errorf("keeperapi: a kiosk has no login")
	case s.Width != 0 && (s.Width < alp.MinSide || s.Width > alp.MaxSide) || s.Height != 0 && (s.Height < alp.MinSide || s.Height > alp.MaxSide):
		return fmt.Errorf("keeperapi: screen of %dx%d", s.Width, s.Height)
	case !plainName(s.Layout):
		return fmt.Errorf("keeperapi: bad keyboard layout %.40q", s.Layout)
	case !LangName(s.Lang):
		return fmt.Errorf("keeperapi: bad language %.40q", s.Lang)
	case s.Desktop != "" && !desktops.Valid(s.Desktop):
		return fmt.Errorf("keeperapi: bad desktop %.40q", s.Desktop)
	}
	if s.Kiosk != nil {
		if err := s.Kiosk.check(); err != nil {
			return err
		}
	}
	return s.Limits.Check()
}

// UserName reports whether s can be the name of a user: no modules, logs or
// paths should see others.
func UserName(s string) bool {
	for i, r := range s {
		if r <= ' ' || r == 0x7f || r == utf8.RuneError || strings.ContainsRune(`:/\"'`, r) || i == 0 && (r == '-' || r == '.') {
			return false
		}
	}
	return s != "" && len(s) <= MaxUser
}

// maxLang bounds the name of a language, in bytes.
const maxLang = 64

// LangName reports whether s can be a value of LANG (locale(7)), or is empty: with
// a path in it, programs would load what is there.
func LangName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '@')) {
			return false
		}
	}
	return len(s) <= maxLang
}

// serviceName reports whether s is a file's name in /etc/pam.d.
func serviceName(s string) bool { return plainName(s) && s != "" }

func plainName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(s) <= 32
}

// Ready is what a keeper says when its session runs or could not start.
type Ready struct {
	Error   string `json:"error,omitempty"`
	Display string `json:"display,omitempty"`
}

// ReadStart reads a Start to its end and checks it.
func ReadStart(r io.Reader) (Start, error) {
	var s Start
	if err := read(r, MaxStart, &s); err != nil {
		return Start{}, fmt.Errorf("keeperapi: no start: %w", err)
	}
	return s, s.Check()
}

// ReadReady reads a Ready to its end. A keeper that died says nothing, which
// is io.ErrUnexpectedEOF.
func ReadReady(r io.Reader) (Ready, error) {
	var y Ready
	if err := read(r, MaxReady, &y); err != nil {
		return Ready{}, fmt.Errorf("keeperapi: the keeper said nothing: %w", err)
	}
	return y, nil
}

func read(r io.Reader, limit int, out any) error {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return err
	case len(b) == 0:
		return io.ErrUnexpectedEOF
	case len(b) > limit:
		return fmt.Errorf("more than %d bytes", limit)
	}
	return json.Unmarshal(b, out)
}

// Write writes a Start or a Ready.
func Write(w io.Writer, v any) error {
	if y, ok := v.(Ready); ok && len(y.Error) > MaxError {
		y.Error = y.Error[:MaxError]
		v = y
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// Sessions is the directory of all sessions' directories.
func Sessions(runtime string) string { return filepath.Join(runtime, "sessions") }

// Dir is a session's own directory, mode 0700, root's (the caller's in local
// mode).
func Dir(runtime string, id alp.SessionID) string {
	return filepath.Join(Sessions(runtime), string(id))
}

// Socket is a keeper's control socket.
func Socket(runtime string, id alp.SessionID) string {
	return filepath.Join(Dir(runtime, id), "keeper.sock")
}

// Lock is the file that is locked while the keeper lives; its content is the
// frame buffers' directory. It lies beside the session's directory, so that the
// directory can be removed first.
func Lock(runtime string, id alp.SessionID) string {
	return filepath.Join(Sessions(runtime), string(id)+".lock")
}

// Groups is the file that names the session's control groups, one a line.
func Groups(runtime string, id alp.SessionID) string {
	return filepath.Join(Dir(runtime, id), "cgroup")
}

// XSocket is the file that says which socket the session's X server has
// (sweep.Socket): a killed one leaves it.
func XSocket(runtime string, id alp.SessionID) string {
	return filepath.Join(Dir(runtime, id), "xsocket")
}

// PeerUID returns the user at the other end of a unix connection, as the
// kernel knows it: for the client who listened, for the server who connected.
func PeerUID(conn net.Conn) (uint32, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("keeperapi: a %T has no peer credentials", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, fmt.Errorf("keeperapi: no peer credentials: %w", inner)
	}
	return cred.Uid, nil
}

// CheckPeer refuses a peer that is neither root nor this process's own user.
func CheckPeer(conn net.Conn) error {
	uid, err := PeerUID(conn)
	if err != nil {
		return err
	}
	if uid != 0 && int(uid) != unix.Geteuid() {
		return fmt.Errorf("keeperapi: the peer is uid %d, neither root nor uid %d", uid, unix.Geteuid())
	}
	return nil
}
