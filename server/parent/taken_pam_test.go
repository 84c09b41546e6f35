//go:build pam

package parent

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
)

// TestLoginTakenOver is a gateway that tries passwords with the real modules as
// fast as it can, each time from another terminal: it has as many tries as root
// gives it, and no more.
func TestLoginTakenOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("keepers of logins are root's; CI is root")
	}
	r := newRig(t)
	r.asRoot()
	r.cfg.Service = fmt.Sprintf("hotdesk-test-%d", os.Getpid())
	stack := filepath.Join("/etc/pam.d", r.cfg.Service)
	if err := os.WriteFile(stack, []byte("auth required pam_unix.so nodelay\naccount required pam_unix.so\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(stack) })
	g := r.serve()
	guess := func(n int) (client.LoggedIn, error) {
		conn, err := g.Start(t.Context(), Start{
			Session: alp.SessionID(fmt.Sprintf("%016x", n)), Token: "pseudo.080020c0ffee", User: "nobody", Login: true,
			Terminal: alp.TerminalID(fmt.Sprintf("%012x", n)), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
		})
		if err != nil {
			return client.LoggedIn{}, err
		}
		l := client.NewLobby(conn, func(context.Context, client.Prompt) (client.Reply, error) {
			return client.Reply{Answer: fmt.Appendf(nil, "guess %d", n)}, nil
		})
		var serving sync.WaitGroup
		serving.Go(func() { _ = l.Serve(context.Background()) })
		defer serving.Wait()
		defer l.Close()
		return l.Login(t.Context())
	}
	const most = 8 * strangeFree // in case that time passes, and gives some back
	var all sync.WaitGroup
	var mu sync.Mutex
	tried, refused := 0, 0
	for first := range 4 {
		all.Go(func() {
			for n := 1 + first; n <= most; n += 4 {
				in, err := guess(n)
				mu.Lock()
				enough := refused > 0
				switch {
				case err != nil || in.User != "":
					t.Errorf("%d: %+v, %v", n, in, err)
				case in.Guess:
					tried++
				case strings.Contains(in.Error, "Too many wrong passwords"):
					refused++
				default:
					t.Errorf("%d: %+v", n, in)
				}
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	all.Wait()
	if tried < strangeFree || refused == 0 {
		t.Errorf("%d tries, %d refused", tried, refused)
	}
}
