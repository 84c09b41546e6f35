package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotdesk/server/session/client"
	"hotdesk/server/session/keeper/pam/pamtest"
	"hotdesk/server/session/keeperapi"
)

// A visit is a login at a keeper that has not begun.
type visit struct {
	t       *testing.T
	users   *pamtest.Users
	lobby   *client.Lobby
	asked   chan string // the prompts
	answers chan string // "" hangs up
	came    chan *lobby
	err     chan error
}

// person is a user of every Debian system who is not root and has a uid that
// people have.
const person = "nobody"

func visitOf(t *testing.T, users *pamtest.Users, start keeperapi.Start, tries net.Conn) *visit {
	t.Helper()
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	v := &visit{t: t, users: users, asked: make(chan string, 16), answers: make(chan string, 16), came: make(chan *lobby, 1), err: make(chan error, 1)}
	go func() {
		b, _, err := wait(context.Background(), l, start, users.Open, tries, slog.New(slog.DiscardHandler))
		v.came <- b
		v.err <- err
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	v.lobby = client.NewLobby(conn, func(ctx context.Context, p client.Prompt) (client.Reply, error) {
		v.asked <- string(p.Kind) + " " + p.Text
		if p.Kind == client.PromptInfo || p.Kind == client.PromptProblem {
			return client.Reply{}, nil
		}
		select {
		case a := <-v.answers:
			return client.Reply{Answer: []byte(a)}, nil
		case <-ctx.Done():
			return client.Reply{}, ctx.Err()
		}
	})
	served := make(chan struct{})
	go func() { defer close(served); _ = v.lobby.Serve(context.Background()) }()
	t.Cleanup(func() { v.lobby.Close(); <-served })
	return v
}

func loginStart(user string) keeperapi.Start {
	return keeperapi.Start{Session: "00000000000000a1", Token: "pseudo.080020c0ffee", User: user, Service: "hotdesk", Terminal: "080020c0ffee", Addr: "10.0.0.7", LeastUID: 1000}
}

// groupOf is the name of a user's own group.
func groupOf(t *testing.T, name string) string {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return g.Name
}

func (v *visit) answer(all ...string) {
	for _, a := range all {
		v.answers <- a
	}
}

func TestLogin(t *testing.T) {
	users := pamtest.New(map[string]pamtest.User{person: {Password: "right", Code: "123456", Expired: true}})
	v := visitOf(t, users, loginStart(person), nil)
	if err := v.lobby.Begin(t.Context(), client.Begin{Token: "user.nobody"}); err == nil {
		t.Fatal("a session began before its user had logged in")
	}
	v.answer("right", "123456", "better", "better")
	in, err := v.lobby.Login(t.Context())
	if err != nil || in != (client.LoggedIn{User: person}) {
		t.Fatalf("%+v, %v", in, err)
	}
	if _, err := v.lobby.Login(t.Context()); err == nil {
		t.Error("a second login of one keeper")
	}
	for _, bad := range []client.Begin{
		{Token: "user.nobody", Lang: "/tmp/x"}, {Token: "user.nobody", Lang: "../../tmp/x"}, {Token: "user.nobody", Lang: "C\x00"}, {Token: "user.nobody", Lang: strings.Repeat("C", 65)},
		{Token: "user.nobody", Layout: "../de"}, {Token: "no token", Layout: "de"}, {Token: "user.nobody", Desktop: "../x"}, {Token: "user.nobody", Width: 1 << 40},
	} {
		if err := v.lobby.Begin(t.Context(), bad); err == nil {
			t.Errorf("begun: %+v", bad)
		}
	}
	begun := make(chan error, 1)
	go func() {
		begun <- v.lobby.Begin(context.Background(), client.Begin{Token: "user.nobody", Layout: "de", Lang: "de_DE.UTF-8@euro"})
	}()
	b, err := <-v.came, <-v.err
	if err != nil || b.user.Name != person {
		t.Fatalf("%+v, %v", b, err)
	}
	if env, err := b.login.Open(); err != nil || env["FROM_PAM"] != person {
		t.Errorf("%v, %v", env, err)
	}
	b.begun(nil)
	if err := <-begun; err != nil {
		t.Error(err)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
	want := "Start Authenticate Account ChangeExpired Account User Establish OpenSession Env CloseSession DeleteCredentials End"
	for range 2 { // the family's end may close it, and the keeper's
		if got := strings.Join(users.Calls(), " "); got != want {
			t.Errorf("calls %s\n want %s", got, want)
		}
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}
}

// Any step that fails means no session.
func TestNoLogin(t *testing.T) {
	for name, c := range map[string]struct {
		user    string
		u       pamtest.User
		start   func(*keeperapi.Start)
		answers []string
		guess   bool
		text    string
	}{
		"wrong password":  {person, pamtest.User{Password: "right"}, nil, []string{"wrong"}, true, "not right"},
		"no such user":    {"nosuchuser", pamtest.User{}, nil, []string{""}, false, "may not have a session"},
		"wrong code":      {person, pamtest.User{Password: "right", Code: "1"}, nil, []string{"right", "2"}, true, "not right"},
		"locked":          {person, pamtest.User{Password: "right", Locked: true}, nil, []string{"right"}, false, "may not log in here"},
		"change mistyped": {person, pamtest.User{Password: "right", Expired: true}, nil, []string{"right", "a", "b"}, false, "not changed"},
		"system user":     {"daemon", pamtest.User{Password: "right"}, nil, []string{"right"}, false, "may not have a session"},
		"root":            {"root", pamtest.User{Password: "right"}, nil, []string{"right"}, false, "may not have a session"},
		"not of the group": {person, pamtest.User{Password: "right"}, func(s *keeperapi.Start) { s.Group = "daemon" },
			[]string{"right"}, false, "may not have a session"},
		"an account of kiosks": {person, pamtest.User{Password: "right"}, func(s *keeperapi.Start) { s.Kiosks = groupOf(t, person) },
			[]string{"right"}, false, "may not have a session"},
		"no group of kiosks": {person, pamtest.User{Password: "right"}, func(s *keeperapi.Start) { s.Kiosks = "nosuchgroup" },
			[]string{"right"}, false, "may not have a session"},
		"no such group": {person, pamtest.User{Password: "right"}, func(s *keeperapi.Start) { s.Group = "nosuchgroup" },
			[]string{"right"}, false, "may not have a session"},
	} {
		t.Run(name, func(t *testing.T) {
			users := pamtest.New(map[string]pamtest.User{c.user: c.u})
			start := loginStart(c.user)
			if c.start != nil {
				c.start(&start)
			}
			v := visitOf(t, users, start, nil)
			v.answer(c.answers...)
			in, err := v.lobby.Login(t.Context())
			if err != nil || in.User != "" || in.Guess != c.guess || !strings.Contains(in.Error, c.text) {
				t.Errorf("%+v, %v", in, err)
			}
			if err := v.lobby.Begin(t.Context(), client.Begin{Token: "user.nobody"}); err == nil {
				t.Error("a session began")
			}
			v.lobby.Close()
			if b, err := <-v.came, <-v.err; b != nil || err == nil {
				t.Errorf("%v, %v", b, err)
			}
			if calls := users.Calls(); slices.Contains(calls, "OpenSession") || calls[len(calls)-1] != "End" {
				t.Errorf("calls %v", calls)
			}
		})
	}
}

// A gateway that goes away in the middle of a question ends the login.
func TestLoginGivenUp(t *testing.T) {
	users := pamtest.New(map[string]pamtest.User{person: {Password: "right"}})
	v := visitOf(t, users, loginStart(person), nil)
	go func() { _, _ = v.lobby.Login(context.Background()) }()
	if got := <-v.asked; got != "hidden Password:" {
		t.Errorf("asked %q", got)
	}
	v.lobby.Close()
	if b, err := <-v.came, <-v.err; b != nil || err == nil {
		t.Errorf("%v, %v", b, err)
	}
	if got := strings.Join(users.Calls(), " "); got != "Start Authenticate End" {
		t.Errorf("calls %s", got)
	}
}

// A user whose session the modules do not open has none, and is told why.
func TestSessionFails(t *testing.T) {
	for call, calls := range map[string]string{
		"Establish":   "Start Authenticate Account User Establish End",
		"OpenSession": "Start Authenticate Account User Establish OpenSession DeleteCredentials End",
	} {
		users := pamtest.New(map[string]pamtest.User{person: {Password: "right"}})
		users.Fail = map[string]error{call: errors.New("the home is away")}
		dir, err := os.MkdirTemp("", "hd")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		start := loginStart(person)
		if err := os.MkdirAll(keeperapi.Dir(dir, start.Session), 0o700); err != nil {
			t.Fatal(err)
		}
		ready, said, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer ready.Close()
		k := &keeper{Config: Config{Start: start, Runtime: dir, Ready: said, Login: users.Open}, log: slog.New(slog.DiscardHandler)}
		ended := make(chan error, 1)
		go func() {
			l, err := k.logIn(context.Background())
			if err == nil {
				l.Close()
			}
			ended <- err
		}()
		if y, err := keeperapi.ReadReady(ready); err != nil || y.Error != "" {
			t.Fatalf("%+v, %v", y, err)
		}
		conn, err := net.Dial("unix", keeperapi.Socket(dir, start.Session))
		if err != nil {
			t.Fatal(err)
		}
		lobby := client.NewLobby(conn, func(context.Context, client.Prompt) (client.Reply, error) {
			return client.Reply{Answer: []byte("right")}, nil
		})
		served := make(chan struct{})
		go func() { defer close(served); _ = lobby.Serve(context.Background()) }()
		if in, err := lobby.Login(t.Context()); err != nil || in.User != person {
			t.Fatalf("%+v, %v", in, err)
		}
		patient, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := lobby.Begin(patient, client.Begin{Token: "user.nobody"}); err == nil || !strings.Contains(err.Error(), "the home is away") {
			t.Errorf("%s: told %v", call, err)
		}
		lobby.Close()
		<-served
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "the home is away") {
			t.Errorf("%s: the session goes on: %v", call, err)
		}
		if got := strings.Join(users.Calls(), " "); got != calls {
			t.Errorf("%s: calls %s", call, got)
		}
	}
}

// Root counts the tries of passwords: before the first answer goes to the
// modules it is asked, and told where they were satisfied.
func TestTries(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string
		parent  func(net.Conn) bool // whether it heard what it should
		text    string              // of the error
		calls   string
	}{
		{"right", []string{"right", "1"}, func(c net.Conn) bool {
			return keeperapi.Hear(c, keeperapi.MayTry) && keeperapi.Say(c, keeperapi.DoTry) == nil && keeperapi.Hear(c, keeperapi.WasRight)
		}, "", "Start Authenticate Account User"},
		{"wrong", []string{"right", "2"}, func(c net.Conn) bool {
			return keeperapi.Hear(c, keeperapi.MayTry) && keeperapi.Say(c, keeperapi.DoTry) == nil && !keeperapi.Hear(c, keeperapi.WasRight)
		}, "not right", "Start Authenticate End"},
		{"no answer", []string{"", ""}, func(c net.Conn) bool { return !keeperapi.Hear(c, keeperapi.MayTry) }, "not right", "Start Authenticate End"},
		{"too many", []string{"right", "1"}, func(c net.Conn) bool { return keeperapi.Hear(c, keeperapi.MayTry) && c.Close() == nil }, "Too many", "Start Authenticate End"},
		{"no parent", []string{"right", "1"}, func(c net.Conn) bool { return c.Close() == nil }, "Too many", "Start Authenticate End"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			heard := make(chan bool, 1)
			go func() { heard <- c.parent(ours) }()
			users := pamtest.New(map[string]pamtest.User{person: {Password: "right", Code: "1"}})
			v := visitOf(t, users, loginStart(person), theirs)
			v.answer(c.answers...)
			in, err := v.lobby.Login(t.Context())
			if err != nil || (in.User == person) != (c.text == "") || !strings.Contains(in.Error, c.text) || in.Guess != (c.text == "not right") {
				t.Errorf("%+v, %v", in, err)
			}
			theirs.Close()
			if !<-heard {
				t.Error("the parent heard something else")
			}
			v.lobby.Close()
			<-v.came
			<-v.err
			if got := strings.TrimSuffix(strings.Join(users.Calls(), " "), " End"); got != strings.TrimSuffix(c.calls, " End") {
				t.Errorf("calls %s", got)
			}
		})
	}
}
