package parent

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// A login is refused before anything is started where there can be none, or
// where it is none.
func TestLoginRefused(t *testing.T) {
	good := Start{Session: "00000000000000a1", Token: "pseudo.080020c0ffee", User: "ann", Login: true, Terminal: "080020c0ffee", Addr: netip.MustParseAddr("10.0.0.7")}
	for name, c := range map[string]struct {
		conf Config
		user string
		want string
	}{
		"local":       {Config{Local: true, Service: "hotdesk"}, "ann", "without -local"},
		"no service":  {Config{}, "ann", "no logins"},
		"no name":     {Config{Service: "hotdesk"}, "", "names no user"},
		"two lines":   {Config{Service: "hotdesk"}, "ann\nbob", "a name that is none"},
		"a path":      {Config{Service: "hotdesk"}, "../ann", "a name that is none"},
		"a long name": {Config{Service: "hotdesk"}, strings.Repeat("a", 65), "a name that is none"},
		"bad service": {Config{Service: "../../tmp/x"}, "ann", "names no user, service"},
	} {
		p := &parent{Config: c.conf}
		p.Log = slog.New(slog.DiscardHandler)
		s := good
		s.User = c.user
		if conn, err := p.start(t.Context(), s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, conn, err)
		}
	}
}

// Where users log in, a gateway that was taken over gets no session of anybody
// by its word alone.
func TestOnly(t *testing.T) {
	const person = "nobody" // of every system, with a uid that people have
	for only, want := range map[string]bool{"": true, person: true, "-": false, "ann": false} {
		p := &parent{Config: Config{Only: only}}
		if _, err := p.allowed(person); (err == nil) != want {
			t.Errorf("%q: %v", only, err)
		}
	}
}

// Without the service's file nobody could log in: that is said at the start.
func TestNoService(t *testing.T) {
	p := &parent{Config: Config{Service: "nosuchservice", SessionProgram: "/bin/sh", Runtime: t.TempDir()}}
	if err := p.check(); err == nil || os.Geteuid() == 0 && !strings.Contains(err.Error(), "/etc/pam.d/nosuchservice") {
		t.Error(err)
	}
}
