package xsession

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A User is whom a session's processes run as.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32
	Home   string
	Shell  string
}

// LookupUser finds a user by name; "" is the caller, whose home is what HOME
// says.
func LookupUser(name string) (User, error) {
	if name == "" {
		u, err := user.Current()
		if err != nil {
			return User{}, fmt.Errorf("xsession: who am I: %w", err)
		}
		if home := os.Getenv("HOME"); filepath.IsAbs(home) {
			u.HomeDir = home
		}
		return newUser(u)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, fmt.Errorf("xsession: %w", err)
	}
	return newUser(u)
}

func newUser(u *user.User) (User, error) {
	out := User{Name: u.Username, Home: u.HomeDir, Shell: shell(u.Username)}
	ids, err := u.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("xsession: groups of %s: %w", u.Username, err)
	}
	for i, text := range append([]string{u.Uid, u.Gid}, ids...) {
		id, err := strconv.ParseUint(text, 10, 32)
		switch {
		case err != nil:
			return User{}, fmt.Errorf("xsession: %s has id %q", u.Username, text)
		case i == 0:
			out.UID = uint32(id)
		case i == 1:
			out.GID = uint32(id)
		default:
			out.Groups = append(out.Groups, uint32(id))
		}
	}
	return out, nil
}

// maxPasswd bounds what is read of /etc/passwd, in bytes.
const maxPasswd = 1 << 20

// shell is the login shell of a user of /etc/passwd; others get /bin/sh,
// since the os/user package does not tell.
func shell(name string) string {
	f, err := os.Open("/etc/passwd")
	if err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(io.LimitReader(f, maxPasswd)); sc.Scan(); {
			fields := strings.Split(sc.Text(), ":")
			if len(fields) == 7 && fields[0] == name && fields[6] != "" {
				return fields[6]
			}
		}
	}
	return "/bin/sh"
}

// Attributes are how a process of the user is started: as that user where the
// caller is another, and ended when the caller dies.
func (u User) Attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if int(u.UID) != os.Geteuid() {
		a.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	return a
}

// own gives a file to the user.
func (u User) own(path string) error {
	if int(u.UID) == os.Geteuid() {
		return nil
	}
	return os.Lchown(path, int(u.UID), int(u.GID))
}

// dir is where the user's programs start: home, or / where there is none.
func (u User) dir() string {
	if st, err := os.Stat(u.Home); err == nil && st.IsDir() {
		return u.Home
	}
	return "/"
}
