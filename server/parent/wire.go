package parent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/cgroup"

	"golang.org/x/sys/unix"
)

const (
	// MaxMessage bounds one message on the socketpair, in bytes.
	MaxMessage = 64 << 10
	// MaxSessions bounds the sessions of a host: a list of them fits into one
	// message.
	MaxSessions = 2048
	// maxFiles is how many descriptors a message may bring; one is meant.
	maxFiles = 4
)

// Requests to the parent. Only ever appended to.
const (
	opStart = "start" // Start -> nothing, with the control connection of the new keeper
	opOpen  = "open"  // session -> nothing, with a control connection
	opList  = "list"  // nothing -> the sessions that have a keeper
	opSign  = "sign"  // Name, Public -> Chain: a further certificate of a host, where the authority's key is here
)

// message is one datagram: a request, or the reply with the same id.
type message struct {
	ID      uint64          `json:"id"`
	Op      string          `json:"op,omitempty"` // empty in a reply
	Start   *Start          `json:"start,omitempty"`
	Session alp.SessionID   `json:"session,omitempty"`
	List    []alp.SessionID `json:"list,omitempty"`
	Name    string          `json:"name,omitempty"`
	Public  []byte          `json:"public,omitempty"`
	Chain   []byte          `json:"chain,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// Start describes a session to start.
type Start struct {
	Session alp.SessionID `json:"session"`
	Token   alp.Token     `json:"token"`
	User    string        `json:"user"` // ignored in local mode: the caller
	Width   int           `json:"width,omitempty"`
	Height  int           `json:"height,omitempty"`
	Layout  string        `json:"layout,omitempty"`
	Lang    string        `json:"lang,omitempty"`
	Desktop string        `json:"desktop,omitempty"`
	Limits  cgroup.Limits `json:"limits,omitzero"` // of the session's programs

	// Kiosk, if not "", is the command of a session without a login, in a home
	// of its own. User is then one of the accounts for that.
	Kiosk string `json:"kiosk,omitempty"`
	// Login has the keeper ask for the password, and all else that the login
	// modules want, before it starts anything. User is then what was typed.
	Login    bool           `json:"login,omitempty"`
	Terminal alp.TerminalID `json:"terminal,omitempty"`
	Addr     netip.Addr     `json:"addr,omitzero"` // the terminal's
}

// parse reads a message. What it says is checked by whoever acts on it.
func parse(b []byte) (message, error) {
	var m message
	if len(b) > MaxMessage {
		return message{}, fmt.Errorf("parent: a message of more than %d bytes", MaxMessage)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("parent: not a message: %w", err)
	}
	if m.ID == 0 || len(m.List) > MaxSessions {
		return message{}, errors.New("parent: a message without number, or with too long a list")
	}
	return m, nil
}

// link is one end of the socketpair.
type link struct{ conn *net.UnixConn }

func newLink(f *os.File) (link, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return link{}, fmt.Errorf("parent: descriptor %q: %w", f.Name(), err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return link{}, fmt.Errorf("parent: descriptor %q is not the parent's socket", f.Name())
	}
	return link{u}, nil
}

// send is safe for concurrent use: a message is one datagram.
func (l link) send(m message, file *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("parent: a message of %d bytes", len(b))
	}
	if file == nil {
		_, _, err = l.conn.WriteMsgUnix(b, nil, nil)
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) {
		_, _, sent = l.conn.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return err
	}
	return sent
}

// receive returns the next message and the descriptors that came with it,
// which are the caller's.
func (l link) receive() (message, []*os.File, error) {
	b := make([]byte, MaxMessage+1)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := l.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return message{}, nil, err
	}
	files := received(oob[:oobn])
	if n == 0 {
		closeAll(files)
		return message{}, nil, io.EOF // SOCK_SEQPACKET: the peer is gone
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return message{}, nil, fmt.Errorf("parent: a message of more than %d bytes or %d descriptors", MaxMessage, maxFiles)
	}
	m, err := parse(b[:n])
	if err != nil {
		closeAll(files)
		return message{}, nil, err
	}
	return m, files, nil
}

// received takes the descriptors out of a control message.
func received(oob []byte) []*os.File {
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "keeper"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
