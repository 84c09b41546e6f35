package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hotdesk/server/session/client"
	"hotdesk/tools/internal/lab"
)

// litter is a session's script that leaves all it can: daemons that left their
// parents and hear nothing, shared memory of both kinds, semaphores, queues. It
// ends when the file $LITTER.end is there.
const litter = `trap 'exit 0' TERM
xsetroot -solid '#2a7f62'
(setsid sh -c 'trap "" TERM HUP INT; (setsid sh -c "trap \"\" TERM HUP INT; while :; do sleep 1000; done" &); while :; do sleep 1000; done' &)
ipcmk -M 70000 >"LITTER.ipc"; ipcmk -S 3 >>"LITTER.ipc"; ipcmk -Q >>"LITTER.ipc"
echo left >/dev/shm/HDLITTER
echo "$DBUS_SESSION_BUS_ADDRESS" >LITTER.new
mv LITTER.new LITTER
while ! [ -e LITTER.end ]; do sleep 0.05; done
`

// members are the living processes of a session, by what they were started with.
func members(session string) (all []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && strings.Contains(string(env), "HOTDESK_SESSION="+session) {
			name, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
			all = append(all, strings.TrimSpace(string(name))+"("+e.Name()+")")
		}
	}
	return all
}

// ipc are the ids of the host's System V objects.
func ipc(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, kind := range []string{"shm", "sem", "msg"} {
		text, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 {
				all[kind+" "+f[0]+" "+f[1]] = true
			}
		}
	}
	return all
}

// TestRemains ends sessions that leave what they can, in every way that a
// session ends, and looks for what is left.
func TestRemains(t *testing.T) {
	for name, end := range map[string]func(*world, *lab.Host, client.Status, int, string) error{
		"log out": func(w *world, _ *lab.Host, _ client.Status, _ int, mark string) error {
			return os.WriteFile(mark+".end", nil, 0o600)
		},
		"X server killed": func(w *world, _ *lab.Host, st client.Status, _ int, _ string) error { return lab.Kill(w.ctx, st.X) },
		"keeper killed": func(w *world, _ *lab.Host, _ client.Status, keeper int, _ string) error {
			return lab.Kill(w.ctx, keeper)
		},
		"stopped": func(w *world, h *lab.Host, _ client.Status, _ int, _ string) error { return h.StopSessions(w.ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t)
			mark, shm := w.lab.Path("left"), "hd"+strconv.Itoa(os.Getpid())
			script := w.lab.Path("desk.sh")
			must(t, os.WriteFile(script, []byte(strings.NewReplacer("HDLITTER", shm, "LITTER", mark).Replace(litter)), 0o644))
			before := ipc(t)
			h, err := w.lab.Host(w.ctx, "north", "-session-script", script)
			must(t, err)
			w.hosts["north"] = h
			a, err := w.lab.Terminal(w.ctx, "a", "-server", h.Addr, "-size", small)
			must(t, err)
			_, err = a.Ctl(w.ctx, "insert", "card1")
			must(t, err)
			until(t, "the session", func() string {
				if _, err := os.Stat(mark); err != nil {
					return err.Error()
				}
				return ""
			})
			ids, err := h.Sessions()
			must(t, err)
			var st client.Status
			var keeper int
			until(t, "its keeper", func() string { // the script runs before the keeper listens
				if st, keeper, err = h.Keeper(w.ctx, ids[0]); err != nil {
					return err.Error()
				}
				return ""
			})
			bus, err := os.ReadFile(mark)
			must(t, err)
			if len(st.Services) != 1 || st.Services[0].Name != "dbus" || st.Services[0].State != "running" || len(strings.TrimSpace(string(bus))) == 0 {
				t.Errorf("services: %+v, bus at %q", st.Services, bus)
			}
			if made, err := os.ReadFile(mark + ".ipc"); err != nil || strings.Count(string(made), ": ") != 3 {
				t.Errorf("made %q, %v", made, err)
			}
			for id := range ipc(t) {
				if !before[id] {
					t.Logf("new on the host, of this session or another program: %s", id)
				}
			}
			groups, err := os.ReadFile(filepath.Join(h.Runtime, "sessions", string(ids[0]), "cgroup"))
			if err != nil {
				t.Logf("no control group: %v", err)
			}
			if len(members(string(ids[0]))) < 5 {
				t.Errorf("too few to mean something: %v", members(string(ids[0])))
			}
			must(t, end(w, h, st, keeper, mark))
			until(t, "processes", func() string { return strings.Join(members(string(ids[0])), ", ") })
			number := strings.TrimPrefix(st.Display, ":")
			files := []string{
				"/dev/shm/" + shm,
				filepath.Join(h.FrameBuffers(), string(ids[0])),
				filepath.Join(h.Runtime, "sessions", string(ids[0])),
				filepath.Join(h.Runtime, "sessions", string(ids[0])+".lock"),
			}
			files = append(files, strings.Fields(string(groups))...)
			until(t, "files", func() string {
				for _, f := range files {
					if _, err := os.Lstat(f); err == nil {
						return f
					}
				}
				// Where somebody answers, another server has the number by now.
				x11 := "/tmp/.X11-unix/X" + number
				if c, err := net.Dial("unix", x11); err == nil {
					c.Close()
				} else if !errors.Is(err, fs.ErrNotExist) {
					return fmt.Sprintf("the X server's socket: %v", err)
				}
				return ""
			})
		})
	}
}
