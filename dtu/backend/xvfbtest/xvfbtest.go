// Package xvfbtest runs an X server without a screen for tests.
//
// Source: Xvfb(1) of Debian's package xvfb.
//
// The server picks its display number itself, has no cookie and no TCP, keeps
// its state when the last client leaves, and ends with the test.
package xvfbtest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A Server is one running X server.
type Server struct {
	Display string // such as ":7"
	cmd     *exec.Cmd
}

// Start starts a server with a screen of this geometry, such as "1024x768x24",
// and waits until it answers.
func Start(t *testing.T, geometry string, more ...string) *Server {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("Xvfb", append([]string{"-displayfd", "3", "-noreset", "-nolisten", "tcp", "-screen", "0", geometry}, more...)...)
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatalf("xvfbtest: %v; is the package xvfb installed?", err)
	}
	w.Close()
	s := &Server{cmd: cmd}
	t.Cleanup(s.Kill)
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal("xvfbtest: Xvfb ended: ", err)
	}
	s.Display = ":" + strings.TrimSpace(number)
	return s
}

// Kill ends the server at once.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}
