package sweep

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Socket is one at which a program listens, to be known again when that is
// dead: in a shared directory another program may have its name by then.
type Socket struct {
	Path  string
	Inode uint64 // 0: there is none
}

// SocketAt is the one that is at path now.
func SocketAt(path string) Socket {
	s := Socket{Path: path}
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		s.Inode = st.Ino
	}
	return s
}

// Remove removes the socket if it is still that one, and nobody listens.
func (s Socket) Remove() error {
	if s.Inode == 0 || SocketAt(s.Path) != s {
		return nil
	}
	conn, err := net.Dial("unix", s.Path)
	if err == nil {
		conn.Close()
		return nil
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return nil // it has just gone
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// String is the text that ParseSocket reads.
func (s Socket) String() string { return strconv.FormatUint(s.Inode, 10) + " " + s.Path }

// ParseSocket reads what String wrote.
func ParseSocket(text string) (Socket, error) {
	number, path, ok := strings.Cut(text, " ")
	inode, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || path == "" {
		return Socket{}, fmt.Errorf("sweep: %.40q is no socket", text)
	}
	return Socket{path, inode}, nil
}
