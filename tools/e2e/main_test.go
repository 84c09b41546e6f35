package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	dtu "hotdesk/dtu/app"
	groupmgr "hotdesk/groupmgr/app"
	server "hotdesk/server/app"
	session "hotdesk/server/session/app"
	hotdesk "hotdesk/tools/admin/app"
	fleet "hotdesk/tools/fleet/app"
)

// bin holds the programs: hard links to this test binary, so that whatever it
// is built with (the race detector, above all) is in the programs too.
var bin string

func TestMain(m *testing.M) {
	mains := map[string]func() int{
		"groupmgr":    func() int { return groupmgr.Main(os.Args[1:], os.Stdout, os.Stderr) },
		"server":      func() int { return server.Main(os.Args[1:], os.Stdout, os.Stderr) },
		"session":     func() int { return session.Main(os.Args[1:], os.Stdout, os.Stderr) },
		"dtu":         func() int { return dtu.Main(os.Args[1:], os.Stdout, os.Stderr) },
		"cardping":    func() int { return cardPing(os.Args[1:], os.Stdout) },
		"cardprogram": func() int { return cardProgram(os.Args[1:], os.Stderr) },
		"hotdesk":     func() int { return hotdesk.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr) },
		"fleet":       func() int { return fleet.Main(os.Args[1:], os.Stdout, os.Stderr) },
		"etcd":        func() int { return runEtcd(os.Args[1:]) },
	}
	if main, ok := mains[filepath.Base(os.Args[0])]; ok {
		os.Exit(main())
	}
	os.Exit(setup(m, mains))
}

func setup(m *testing.M, mains map[string]func() int) int {
	// A race ends the program that has it; one without is not held up at its
	// end, as the race detector would for a second.
	os.Setenv("GORACE", "halt_on_error=1 atexit_sleep_ms=0")
	self, err := os.Executable()
	if err == nil {
		bin, err = os.MkdirTemp("", "hdbin") // where every account reaches it
	}
	if err == nil {
		err = os.Chmod(bin, 0o755)
	}
	// The sessions' shells must not depend on what the caller's do at their
	// start: some of that takes locks, and is killed with its session.
	home := filepath.Join(bin, "home")
	if err == nil {
		err = errors.Join(os.Mkdir(home, 0o700), os.Setenv("HOME", home))
	}
	for name := range mains {
		if err == nil {
			err = place(self, filepath.Join(bin, name))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(bin)
	return m.Run()
}

// place links a file, or copies it where that is another file system.
func place(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
