package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/services"
	"hotdesk/tools/internal/lab"
)

// shared is a session script that tells in the home, which is one directory for
// both hosts, what is its own.
const shared = `xsetroot -solid '#2a7f62'
dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId >"$HOME/$HOTDESK_SESSION.bus" 2>&1
printf '%s\n' "$XAUTHORITY" "$XDG_RUNTIME_DIR" "$DBUS_SESSION_BUS_ADDRESS" "$PCSCLITE_CSOCK_NAME" >"$HOME/$HOTDESK_SESSION.new"
mv "$HOME/$HOTDESK_SESSION.new" "$HOME/$HOTDESK_SESSION.own"
exec sleep 1000
`

// Two hosts have a user's home on one shared directory: the same script runs on
// both, nothing that a session locks or listens on lies in the home, and the
// end of one session is not the other's. Their services are started, told of
// terminals, started again, and reported. Frames that are late, as all are here,
// leave a trace.
func TestSharedHome(t *testing.T) {
	w := openWorld(t)
	home := w.lab.Path("home")
	must(t, os.Mkdir(home, 0o700))
	t.Setenv("HOME", home)
	script, dir := w.lab.Path("desk.sh"), w.lab.Path("services")
	must(t, os.WriteFile(script, []byte(shared), 0o644))
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "ear.service"), []byte(`# writes down what it hears
command = while read -r line; do echo "$line" >>"$HOME/$HOTDESK_SESSION.heard"; done
required = true
connect = echo "hook $HOTDESK_EVENT $HOTDESK_TERMINAL" >>"$HOME/$HOTDESK_SESSION.hook"
disconnect = echo "hook $HOTDESK_EVENT $HOTDESK_TERMINAL" >>"$HOME/$HOTDESK_SESSION.hook"
`), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "once.service"), []byte("command = exit 3\n"), 0o644))

	own := map[string][]string{}
	ids := map[string]alp.SessionID{}
	terminals := map[string]*lab.Terminal{}
	for host, card := range map[string]string{"north": "card1", "south": "card2"} {
		h, err := w.lab.Host(w.ctx, host, "-session-script", script, "-session-services", dir, "-frame-budget", "1ns")
		must(t, err)
		w.hosts[host] = h
		x, err := w.lab.Terminal(w.ctx, "at-"+host, "-server", h.Addr, "-size", small)
		must(t, err)
		terminals[host] = x
		_, err = x.Ctl(w.ctx, "insert", card)
		must(t, err)
		_, err = x.Ctl(w.ctx, "wait", "-timeout", patience.String(), "picture", "pixel=400,300,2a7f62")
		must(t, err)
		until(t, "a session on "+host, func() string {
			all, err := h.Sessions()
			if err != nil || len(all) != 1 {
				return "there is none of its own"
			}
			ids[host] = all[0]
			text, err := os.ReadFile(filepath.Join(home, string(all[0])+".own"))
			if err != nil {
				return err.Error()
			}
			own[host] = strings.Fields(string(text))
			return ""
		})
		for _, path := range own[host] {
			if strings.Contains(path, home) {
				t.Errorf("in the home: %s", path)
			}
		}
	}
	for host := range own {
		until(t, "a trace of a late frame on "+host, func() string {
			b, err := os.ReadFile(filepath.Join(own[host][1], "frame-0.trace"))
			if err != nil {
				return err.Error()
			}
			if !strings.HasPrefix(string(b), "go 1.") {
				return "it is no trace"
			}
			return ""
		})
	}
	for _, path := range own["north"] {
		if slices.Contains(own["south"], path) || len(own["north"]) != 4 {
			t.Errorf("both have %s", path)
		}
	}
	read := func(host, what string) string {
		text, _ := os.ReadFile(filepath.Join(home, string(ids[host])+what))
		return string(text)
	}
	for host := range ids {
		if bus := read(host, ".bus"); !strings.Contains(bus, "method return") && !strings.Contains(bus, "not found") {
			t.Errorf("%s: the bus says %q", host, bus)
		}
	}
	entries, err := os.ReadDir(home)
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".X") || strings.HasPrefix(e.Name(), ".dbus") || strings.HasPrefix(e.Name(), ".ICE") || e.Type()&os.ModeSocket != 0 {
			t.Errorf("in the home: %s", e.Name())
		}
	}

	// Services.
	h, a := w.hosts["north"], terminals["north"]
	report := func(name string) (found services.Report) {
		st, _, err := h.Keeper(w.ctx, ids["north"])
		must(t, err)
		for _, s := range st.Services {
			if s.Name == name {
				found = s
			}
		}
		return found
	}
	if s := report("once"); s.State != services.Over || s.Error != "exit status 3" || s.Required {
		t.Errorf("%+v", s)
	}
	_, err = a.Ctl(w.ctx, "remove")
	must(t, err)
	id := a.Ready["terminal"]
	until(t, "what was heard", func() string {
		if got, want := read("north", ".heard"), "connect "+id+"\ndisconnect "+id+"\n"; got != want {
			return got
		}
		if got, want := read("north", ".hook"), "hook connect "+id+"\nhook disconnect "+id+"\n"; got != want {
			return got
		}
		return ""
	})
	before := report("ear")
	must(t, syscall.Kill(before.PID, syscall.SIGKILL))
	until(t, "a new one", func() string {
		if s := report("ear"); s.State != services.Running || s.PID == before.PID || s.Restarts != 1 || s.Error != "signal: killed" {
			return string(s.State)
		}
		return ""
	})

	// The end of the one is not the other's.
	must(t, h.StopSessions(w.ctx))
	st, _, err := w.hosts["south"].Keeper(w.ctx, ids["south"])
	if err != nil || st.Terminal == "" || len(members(string(ids["south"]))) == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := terminals["south"].Ctl(w.ctx, "wait", "-timeout", patience.String(), "picture", "pixel=400,300,2a7f62"); err != nil {
		t.Error(err)
	}
}
