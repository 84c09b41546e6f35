package xsession

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// sockets is where X servers put theirs.
	sockets = "/tmp/.X11-unix"
	// firstNumber and numbers are the displays that sessions have. An X server
	// that looks for a free number itself takes away the socket of another that
	// does the same: seen with 40 starts at once, where one in four ended up
	// without a socket, or programs came to another session's server, which only
	// its cookie keeps shut. One that is told its number leaves alone what a
	// server that lives has.
	firstNumber = 1000
	numbers     = 50000
	// maxDraws bounds the attempts to find a number that nobody has.
	maxDraws = 32
)

// errTaken is what comes of a number that somebody else had first.
var errTaken = errors.New("xsession: the number of the X server is taken")

// drawNumber is a display, at random: two starts at once hardly ever try the
// same one, and neither has to wait for the other.
func drawNumber() int { return firstNumber + rand.IntN(numbers) }

func socketOf(number int) string { return filepath.Join(sockets, "X"+strconv.Itoa(number)) }

// taken says that there is an X server with that number, or what one left.
func taken(number int) bool {
	_, err := os.Lstat(socketOf(number))
	return !errors.Is(err, os.ErrNotExist)
}

// abandoned removes the socket of a server of that user which ended before it
// was ready: nobody knows that one by its inode. No socket had the number before
// that server's start, and it did not find the number taken; nobody listens to
// the socket of one that is dead.
func abandoned(number int, uid uint32) error {
	path := socketOf(number)
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Uid != uid || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return nil
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return os.Remove(path)
}
