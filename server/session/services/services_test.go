package services

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hotdesk/protocol/alp"
)

func TestParse(t *testing.T) {
	s, err := Parse("sound", "# the sound\n\ncommand = exec pulse --x=1\nrequired=true\n connect = pactl resume \ndisconnect = pactl suspend\n")
	if want := (Spec{"sound", "exec pulse --x=1", true, "pactl resume", "pactl suspend"}); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"":                            "no command",
		"required = true":             "no command",
		"command":                     "line 1",
		"command =":                   "line 1",
		"\ncommand = a\x00b":          "line 2",
		"command = a\nrequired = yes": "line 2",
		"command = a\ncomand = b":     "unknown key",
		"command = " + strings.Repeat("x", MaxFile): "more than",
	} {
		if s, err := Parse("a", text); err == nil || !strings.Contains(err.Error(), want) || s != (Spec{}) {
			t.Errorf("%.20q: %+v, %v", text, s, err)
		}
	}
	for _, name := range []string{"", "-a", "a b", "a/b", "..", strings.Repeat("a", MaxName+1)} {
		if _, err := Parse(name, "command = a"); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("sound", "# the sound\ncommand = exec pulse\nrequired=true\nconnect = a\ndisconnect = b\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		s, err := Parse(name, text)
		if err != nil {
			return
		}
		var again strings.Builder
		again.WriteString(fmt.Sprintf("required = %v\n", s.Required))
		for key, v := range map[string]string{"command": s.Command, "connect": s.Connect, "disconnect": s.Disconnect} {
			if v != "" {
				again.WriteString(key + " = " + v + "\n")
			}
		}
		if len(again.String()) > MaxFile {
			return
		}
		if got, err := Parse(name, again.String()); err != nil || got != s {
			t.Errorf("%+v, %v, was %+v", got, err, s)
		}
	})
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("b.service", "command = b")
	put("a.service", "command = a")
	put("README", "nothing")
	all, err := Read(dir)
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Errorf("%+v, %v", all, err)
	}
	put("c.service", "nonsense")
	if _, err := Read(dir); err == nil {
		t.Error("nonsense is read")
	}
	if all, err := Read(""); all != nil || err != nil {
		t.Error("none is none")
	}
	if _, err := Read(dir + "/no"); err == nil {
		t.Error("no directory is read")
	}
}

func show(todo []Action) string {
	var words []string
	for _, a := range todo {
		switch a.Kind {
		case Start:
			words = append(words, "start "+a.Name)
		case Tell:
			words = append(words, a.Name+"<"+strings.TrimSpace(a.Text))
		case Hook:
			words = append(words, fmt.Sprintf("run %s (%s %s)", a.Text, a.Event, a.Terminal))
		}
	}
	return strings.Join(words, ", ")
}

// A day of a session's services.
func TestDay(t *testing.T) {
	now := time.Unix(1e9, 0)
	m := New([]Spec{{Name: "bus", Command: "b", Required: true}, {Name: "once", Command: "o", Connect: "hello", Disconnect: "bye"}, {Name: "hooks", Connect: "h"}})
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	is("begin", show(m.Begin(now)), "start bus, start once")
	is("started", show(m.Started("bus", 7)), "")
	m.Started("once", 8)
	is("connect", show(m.Connection(now, "080020c0ffee")), "bus<connect 080020c0ffee, once<connect 080020c0ffee, run hello (connect 080020c0ffee), run h (connect 080020c0ffee)")
	is("the same", show(m.Connection(now, "080020c0ffee")), "")
	m.Ended(now, "once", "exit status 3")
	m.Ended(now, "bus", "signal: killed")
	is("reports", fmt.Sprint(m.Reports()), "[{bus waiting true 0 0 signal: killed} {once ended false 0 0 exit status 3}]")
	is("too early", show(m.Tick(now)), "")
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 150, 150} {
		if got := m.Next().Sub(now); got != want*FirstPause {
			t.Errorf("pause %v, want %v", got, want*FirstPause)
		}
		now = m.Next()
		is("restart", show(m.Tick(now)), "start bus")
		m.Ended(now, "bus", "no such file")
	}
	is("disconnect", show(m.Connection(now, "")), "run bye (disconnect 080020c0ffee)")
	is("connect", show(m.Connection(now, "080020c0ffef")), "start bus, run hello (connect 080020c0ffef), run h (connect 080020c0ffef)")
	is("told", show(m.Started("bus", 9)), "bus<connect 080020c0ffef")
	now = now.Add(Healthy)
	m.Ended(now, "bus", "")
	if got := m.Next().Sub(now); got != FirstPause {
		t.Errorf("pause %v", got)
	}
	is("nobody", show(m.Started("who", 1))+show(m.Started("once", 1)), "")
}

// Invariants 1 and 2, whatever happens in which order.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New([]Spec{{Name: "r", Command: "r", Required: true}, {Name: "o", Command: "o"}})
		now := time.Unix(1e9, 0)
		up := map[string]bool{}
		starts := 0
		do := func(todo []Action) {
			for _, a := range todo {
				if a.Kind == Start {
					if up[a.Name] {
						t.Fatalf("%s is started twice", a.Name)
					}
					up[a.Name] = true
					starts++
					if a.Name == "o" && starts > 2 {
						t.Fatal("o is started again")
					}
				}
			}
		}
		do(m.Begin(now))
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			name := rapid.SampledFrom([]string{"r", "o"}).Draw(t, "name")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				do(m.Started(name, 1))
			case 1:
				if up[name] {
					m.Ended(now, name, "x")
					up[name] = false
				}
			case 2:
				do(m.Connection(now, rapid.SampledFrom([]alp.TerminalID{"", "080020c0ffee", "080020c0ffef"}).Draw(t, "terminal")))
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, int(MostPause)).Draw(t, "pass")))
				do(m.Tick(now))
			case 4:
				if at := m.Next(); !at.IsZero() && at.After(now) {
					now = at
				}
				do(m.Tick(now))
			}
			if !up["r"] && (m.Next().IsZero() || m.Next().Sub(now) > MostPause) {
				t.Fatal("r is never started again")
			}
			if n := slices.IndexFunc(m.Reports(), func(r Report) bool { return r.Name == "r" }); n < 0 {
				t.Fatal("r is not reported")
			}
		}
	})
}
