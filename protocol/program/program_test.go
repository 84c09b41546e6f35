package program

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

type settings struct {
	port  int
	local bool
	name  string
}

func demo(s *settings, run func(context.Context, []string) error) *Command {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.IntVar(&s.port, "port", 7009, "UDP `PORT` of the group")
	fs.BoolVar(&s.local, "local", false, "loopback | only")
	fs.StringVar(&s.name, "name", "", "`NAME` of this host")
	return &Command{Name: "demo", Purpose: "shows flags", Usage: "[flags]\nctl ARG", Flags: fs, Run: run}
}

func TestMainFlagsAndFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.conf")
	if err := os.WriteFile(file, []byte("# demo\n\n port = 1 \nlocal = true\nname = a = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "none")
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, MaxConfig+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args   []string
		code   int
		want   settings
		rest   string
		stderr string
	}{
		"defaults":          {want: settings{port: 7009}},
		"flags":             {args: []string{"-port", "8", "-local", "x", "y"}, want: settings{port: 8, local: true}, rest: "x y"},
		"file":              {args: []string{"-config", file}, want: settings{1, true, "a = b"}},
		"command line wins": {args: []string{"-port", "2", "-config", file, "-local=false"}, want: settings{2, false, "a = b"}},
		"unknown flag":      {args: []string{"-prot", "2"}, code: ExitUsage, stderr: "demo: flag provided but not defined: -prot\ndemo: 'demo -h' lists the flags\n"},
		"bad value":         {args: []string{"-port", "x"}, code: ExitUsage, stderr: `invalid value "x" for flag -port`},
		"no file":           {args: []string{"-config", missing}, code: ExitUsage, stderr: "no such file"},
		"large file":        {args: []string{"-config", large}, code: ExitUsage, stderr: "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			var got settings
			var rest string
			ran := false
			c := demo(&got, func(_ context.Context, args []string) error {
				ran, rest = true, strings.Join(args, " ")
				return nil
			})
			var stdout, stderr bytes.Buffer
			if code := Main(c, tc.args, &stdout, &stderr); code != tc.code || ran != (code == ExitOK) {
				t.Fatalf("exit %d, ran %v: %s", code, ran, stderr.String())
			}
			if tc.code == ExitOK && (got != tc.want || rest != tc.rest || stderr.Len() > 0) {
				t.Fatalf("got %+v %q, want %+v %q", got, rest, tc.want, tc.rest)
			}
			if !strings.Contains(stderr.String(), tc.stderr) {
				t.Fatalf("said %q, want %q", stderr.String(), tc.stderr)
			}
		})
	}
}

func TestMainResults(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		code   int
		stderr string
	}{
		"failure": {errors.New("demo: disk full"), ExitError, "demo: disk full\n"},
		"usage":   {Usagef("-port %d: too small", 0), ExitUsage, "demo: -port 0: too small\ndemo: 'demo -h' lists the flags\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			c := demo(&settings{}, func(context.Context, []string) error { return tc.err })
			if code := Main(c, nil, &stdout, &stderr); code != tc.code || stderr.String() != tc.stderr {
				t.Fatalf("exit %d, said %q", code, stderr.String())
			}
		})
	}
}

func TestHelpAndReferenceNameEveryFlag(t *testing.T) {
	var stdout, stderr bytes.Buffer
	c := demo(&settings{}, nil)
	if code := Main(c, []string{"-h"}, &stdout, &stderr); code != ExitOK || stderr.Len() > 0 {
		t.Fatal(code, stderr.String())
	}
	for _, want := range []string{"demo: shows flags\n\nusage:\n  demo [flags]\n  demo ctl ARG\n", "  -port PORT\n        UDP PORT of the group (default 7009)\n", "  -local\n        loopback | only\n", "  -config FILE\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, stdout.String())
		}
	}
	for _, want := range []string{"# demo\n", "demo ctl ARG\n```", "| `-port PORT` | UDP PORT of the group | `7009` |\n", `| loopback \| only |`} {
		if page := c.Reference(); !strings.Contains(page, want) {
			t.Errorf("reference lacks %q:\n%s", want, page)
		}
	}
}

// The signals go to this process itself: Main has taken them over.
func TestTwoStepStop(t *testing.T) {
	var stdout, stderr bytes.Buffer
	c := demo(&settings{}, func(ctx context.Context, _ []string) error {
		for _, step := range []<-chan struct{}{ctx.Done(), Abort(ctx)} {
			select {
			case <-step:
				return errors.New("stopped before the signal")
			default:
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				return err
			}
			<-step
		}
		return nil
	})
	if code := Main(c, nil, &stdout, &stderr); code != ExitOK {
		t.Fatal(code, stderr.String())
	}
	if Abort(t.Context()) != nil {
		t.Fatal("outside Main nothing aborts")
	}
}

func TestReadConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		"port 3":           `demo.conf:1: not 'flag = value': "port 3"`,
		"\n# x\nprot = 3":  `demo.conf:3: unknown key "prot"`,
		"port=3\nport=4":   `demo.conf:2: "port" stands already in line 1`,
		"port = many":      "demo.conf:1: port: parse error",
		"config = b.conf":  `demo.conf:1: unknown key "config"`,
		"port = 3\n= four": `demo.conf:2: unknown key ""`,
	} {
		c := demo(&settings{}, nil)
		c.Flags.String("config", "", "")
		err := ReadConfig(c.Flags, "demo.conf", text, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
		if _, ok := errors.AsType[UsageError](err); !ok {
			t.Errorf("%q: %T is not the caller's error", text, err)
		}
	}
}

func FuzzReadConfig(f *testing.F) {
	for _, s := range []string{"# groupmgr\nport = 7009\nlocal = true\n", "name = a = b", "port=\n\n", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got settings
		c := demo(&got, nil)
		if ReadConfig(c.Flags, "f", text, nil) != nil {
			return
		}
		// What was accepted is accepted again and means the same.
		var again settings
		d := demo(&again, nil)
		if err := ReadConfig(d.Flags, "f", text, nil); err != nil || got != again {
			t.Fatalf("%+v, then %+v, %v", got, again, err)
		}
	})
}

func TestDirs(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/r")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "/h")
	if RuntimeDir(false) != "/run/hotdesk" || StateDir(false) != "/var/lib/hotdesk" || RuntimeDir(true) != "/r/hotdesk" || StateDir(true) != "/h/.local/state/hotdesk" {
		t.Fatal(RuntimeDir(true), StateDir(true))
	}
	t.Setenv("XDG_STATE_HOME", "/s")
	t.Setenv("XDG_RUNTIME_DIR", "")
	if StateDir(true) != "/s/hotdesk" || !strings.HasPrefix(RuntimeDir(true), "/tmp/hotdesk-") {
		t.Fatal(RuntimeDir(true), StateDir(true))
	}
}
