package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hotdesk/protocol/alp"
	"hotdesk/server/auth"
	"hotdesk/testdata"
	"hotdesk/tools/internal/lab"
)

// patience bounds every wait: only a defect reaches it.
const patience = 30 * time.Second

// serial keeps testscript from running the scripts at the same time: a lab
// counts the processes that are left below this one.
type serial struct{ *testing.T }

func (serial) Parallel() {}

func (serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

func TestScripts(t *testing.T) {
	testscript.RunT(serial{t}, testscript.Params{
		Dir:                 "testdata",
		WorkdirRoot:         t.TempDir(), // its own stays behind where only some of the scripts run
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host":     cmdHost,     // host NAME [server flags]: a session server's programs
			"terminal": cmdTerminal, // terminal NAME HOST|- [dtu flags]: a terminal, of a small screen, whose token without a card is then $NAME_token; - finds its server itself
			"ctl":      cmdCtl,      // ctl TERMINAL WORDS: what hands do (dtu ctl)
			"desk":     cmdDesk,     // desk TERMINAL: waits for the session's picture with an xterm that takes what is typed
			"line":     cmdLine,     // line TERMINAL TEXT: types the text and Return
			"keep":     cmdKeep,     // keep TERMINAL AS: remember its picture once it rests
			"gen":      cmdGen,      // gen TERMINAL: $TERMINAL_next is the least generation after the one on its screen
			"same":     cmdSame,     // same TERMINAL AS: its picture becomes (with !: is not) the remembered one
			"colour":   cmdColour,   // colour TERMINAL X Y RRGGBB: that pixel gets that colour
			"crash":    cmdCrash,    // crash WHAT NAME [TERMINAL]: SIGKILL gateway, parent, groupmgr of a host, or host: all its processes at once; keeper, media, x of its session, or front: media and the gateway; dtu of a terminal
			"stall":    cmdStall,    // stall HOST [gateway|resume]: SIGSTOP to all its processes, as if its link were cut; crash host ends that. Or to the gateway, until resume
			"start":    cmdStart,    // start server|groupmgr|host HOST: again; a host at its old addresses
			"logged":   cmdLogged,   // logged NAME COUNT TEXT: so many log lines have the text
			"stranger": cmdStranger, // stranger DIR: another group's authority
			"sessions": cmdSessions, // sessions HOST|* COUNT: of that host, or of all
			"issuer":   cmdIssuer,   // issuer NAME: an authority for cards, $WORK/NAME.pem, with an empty list NAME.crl
			"issue":    cmdIssue,    // issue ISSUER CARD PIN [expired|unbound|copy=CARD|rsa2048|rsa3072|p384]: a PIV card for all terminals
			"revoke":   cmdRevoke,   // revoke ISSUER CARD...: its list has the cards' certificates; none: it has expired
			"clone":    cmdClone,    // clone CARD AS: a simple card with its id and another secret
			"secrets":  cmdSecrets,  // secrets FILE CARD...: what a host knows of simple cards
			"file":     cmdFile,     // file PATH TEXT: the file comes to hold this text
			"etcd":     cmdEtcd,     // etcd DIR: an etcd of others, whose address is then $ETCD
			"hold":     cmdHold,     // hold TIME: lets that much time pass, where HOTDESK_LONG=1 is set
			"until":    cmdUntil,    // until PROGRAM ARGS: again and again, until it succeeds
			"pivcard":  cmdPIVCard,  // pivcard NAME PIN: a new PIV card of that name beside every terminal
			"waits":    cmdWaits,    // waits PATH TEXT COUNT: so many lines of the file come to have the text
		},
	})
}

// world is what one script has running.
type world struct {
	lab       *lab.Lab
	ctx       context.Context
	hosts     map[string]*lab.Host
	terminals map[string]*lab.Terminal
	kept      map[string]string
	issuers   issuers
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func setupScript(env *testscript.Env) error {
	w, err := newWorld(env.T().(serial).T, env.Defer)
	if err != nil {
		return err
	}
	env.Values[worldKey{}] = w
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("LAB", w.lab.Dir)
	env.Setenv("BIN", bin)
	env.Setenv("AUTHORITY", w.lab.Authority())
	return nil
}

// openWorld is newWorld for a test that is no script.
func openWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorld(t, t.Cleanup)
	must(t, err)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits till f says that nothing is lacking any more.
func until(t *testing.T, what string, f func() (lacks string)) {
	t.Helper()
	for end := time.Now().Add(patience); ; pause() {
		lacks := f()
		if lacks == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, lacks)
		}
	}
}

// newWorld makes a lab with the cards of testdata, and ends and checks it when
// the test does.
func newWorld(t *testing.T, cleanup func(func())) (*world, error) {
	dir, err := os.MkdirTemp("", "hd") // short: sockets lie in it
	if err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Config{Bin: bin, Dir: dir})
	if err != nil {
		return nil, err
	}
	cards, err := fs.Sub(testdata.Cards, "cards")
	if err == nil {
		err = os.CopyFS(l.Path("cards"), cards)
	}
	if err != nil {
		return nil, err
	}
	within := 6 * time.Minute
	if long() {
		within = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	w := &world{lab: l, ctx: ctx, hosts: map[string]*lab.Host{}, terminals: map[string]*lab.Terminal{}, kept: map[string]string{}}
	cleanup(func() {
		var hosts []*lab.Host
		for _, h := range w.hosts {
			hosts = append(hosts, h)
		}
		if err := l.Close(hosts...); err != nil {
			t.Error(err)
		}
		cancel()
		w.checkLogs(t)
		_ = os.RemoveAll(dir)
	})
	return w, nil
}

// checkLogs fails on data races and panics; of a failed test it shows all.
func (w *world) checkLogs(t *testing.T) {
	logs, _ := filepath.Glob(w.lab.Path("log", "*.log"))
	for _, file := range logs {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.Contains(string(b), "DATA RACE") || strings.Contains(string(b), "panic:") {
			t.Errorf("%s:\n%s", filepath.Base(file), b)
		} else if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(file), b)
		}
	}
}

// shoot writes what every terminal shows to $HOTDESK_SHOTS, when that is set,
// for the person who looks for a failure's cause.
func (w *world) shoot() {
	dir := os.Getenv("HOTDESK_SHOTS")
	if dir == "" {
		return
	}
	for name, t := range w.terminals {
		_, _ = t.Ctl(w.ctx, "screenshot", filepath.Join(dir, name+".png"))
	}
}

func check(ts *testscript.TestScript, err error) {
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

func need(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "host NAME [flags]")
	w := worldOf(ts)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	h, err := w.lab.Host(ctx, args[0], args[1:]...)
	if h != nil {
		w.hosts[args[0]] = h
		ts.Setenv(args[0], h.Runtime)
		ts.Setenv(args[0]+"_addr", h.Addr)
	}
	check(ts, err)
}

func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "terminal NAME HOST|- [flags]")
	w := worldOf(ts)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	flags := append([]string{"-size", small}, args[2:]...)
	if args[1] != "-" {
		flags = append(flags, "-server", w.host(ts, args[1]).Addr)
	}
	t, err := w.lab.Terminal(ctx, args[0], flags...)
	check(ts, err)
	w.terminals[args[0]] = t
	ts.Setenv(args[0]+"_token", "pseudo."+t.Ready["terminal"])
}

func (w *world) host(ts *testscript.TestScript, name string) *lab.Host {
	h := w.hosts[name]
	if h == nil {
		ts.Fatalf("no host %q", name)
	}
	return h
}

func (w *world) terminal(ts *testscript.TestScript, name string) *lab.Terminal {
	t := w.terminals[name]
	if t == nil {
		ts.Fatalf("no terminal %q", name)
	}
	return t
}

func cmdCtl(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: ctl TERMINAL WORDS")
	}
	t := worldOf(ts).terminal(ts, args[0])
	err := ts.Exec("dtu", append([]string{"ctl", "-socket", t.Socket()}, args[1:]...)...)
	if neg != (err != nil) {
		ts.Fatalf("dtu ctl %v: error %v, wanted one: %v", args[1:], err, neg)
	}
}

// cmdDesk waits for the xterm of the default session script, which lies at the
// same place on every screen, and until it is drawn: then it has the focus.
func cmdDesk(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "desk TERMINAL")
	w := worldOf(ts)
	t := w.terminal(ts, args[0])
	_, err := t.Ctl(w.ctx, "wait", "-timeout", patience.String(), "picture", "pixel=400,300,"+xtermColour)
	check(ts, err)
	_, err = t.Rest(w.ctx, patience)
	check(ts, err)
}

// xtermColour is the background of the default session's xterm.
const xtermColour = "fbfaf7"

func cmdLine(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "line TERMINAL TEXT")
	cmdCtl(ts, false, []string{args[0], "type", strings.Join(args[1:], " ") + "\n"})
}

func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "keep TERMINAL AS")
	w := worldOf(ts)
	hash, err := w.terminal(ts, args[0]).Rest(w.ctx, patience)
	check(ts, err)
	w.kept[args[1]] = hash
}

var genShown = regexp.MustCompile(`(?m)^session .* gen (\d+)$`)

// cmdGen has a script wait for the attachment after this one, however many there
// have been: on a busy machine a connection is lost and made again.
func cmdGen(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "gen TERMINAL")
	w := worldOf(ts)
	out, err := w.terminal(ts, args[0]).Ctl(w.ctx, "status")
	check(ts, err)
	m := genShown.FindStringSubmatch(out)
	if m == nil {
		ts.Fatalf("%s shows no session: %s", args[0], out)
	}
	gen, err := strconv.ParseUint(m[1], 10, 63)
	check(ts, err)
	ts.Setenv(args[0]+"_next", strconv.FormatUint(gen+1, 10))
}

func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same TERMINAL AS")
	}
	w := worldOf(ts)
	t, want := w.terminal(ts, args[0]), w.kept[args[1]]
	if want == "" {
		ts.Fatalf("no picture was kept as %q", args[1])
	}
	if neg {
		hash, err := t.Rest(w.ctx, patience)
		check(ts, err)
		if hash == want {
			ts.Fatalf("%s shows %q", args[0], args[1])
		}
		return
	}
	if err := t.Shows(w.ctx, want, patience); err != nil {
		shot := w.lab.Path("log", args[0]+".png")
		_, _ = t.Ctl(w.ctx, "screenshot", shot)
		ts.Fatalf("%v", err)
	}
}

func cmdColour(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4, "colour TERMINAL X Y RRGGBB")
	w := worldOf(ts)
	_, err := w.terminal(ts, args[0]).Ctl(w.ctx, "wait", "-timeout", patience.String(),
		fmt.Sprintf("pixel=%s,%s,%s", args[1], args[2], args[3]))
	check(ts, err)
}

func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "crash WHAT NAME")
	w := worldOf(ts)
	if args[0] == "dtu" {
		p := w.terminal(ts, args[1]).Proc
		p.Signal(syscall.SIGKILL)
		<-p.Done()
		return
	}
	h := w.host(ts, args[1])
	switch args[0] {
	case "host":
		check(ts, h.Crash(w.ctx))
	case "front":
		st, _, err := h.Keeper(w.ctx, w.session(ts, h, args[2:]))
		check(ts, err)
		gateway, err := h.Gateway()
		check(ts, err)
		lab.Signal([]int{st.Media, gateway}, syscall.SIGKILL)
	case "groupmgr":
		h.GroupMgr.Signal(syscall.SIGKILL)
		<-h.GroupMgr.Done()
	case "parent":
		h.Server.Signal(syscall.SIGKILL)
		<-h.Server.Done()
	case "gateway":
		pid, err := h.Gateway()
		check(ts, err)
		check(ts, lab.Kill(w.ctx, pid))
	default:
		st, keeper, err := h.Keeper(w.ctx, w.session(ts, h, args[2:]))
		check(ts, err)
		pid := map[string]int{"keeper": keeper, "media": st.Media, "x": st.X}[args[0]]
		if pid == 0 {
			ts.Fatalf("crash what?")
		}
		check(ts, lab.Kill(w.ctx, pid))
	}
}

// session is the one that the named terminal shows, or else the host's only
// one.
func (w *world) session(ts *testscript.TestScript, h *lab.Host, terminal []string) alp.SessionID {
	if len(terminal) > 0 {
		id, err := w.terminal(ts, terminal[0]).Status(w.ctx, "session")
		check(ts, err)
		return alp.SessionID(id)
	}
	ids, err := h.Sessions()
	check(ts, err)
	if len(ids) != 1 {
		ts.Fatalf("%s has the sessions %v: say which terminal's", h.Name, ids)
	}
	return ids[0]
}

func cmdStall(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "stall HOST [gateway|resume]")
	w := worldOf(ts)
	h := w.host(ts, args[0])
	if len(args) == 1 {
		check(ts, h.Stall(w.ctx))
		return
	}
	pid, err := h.Gateway()
	check(ts, err)
	sig := syscall.SIGSTOP
	if args[1] == "resume" {
		sig = syscall.SIGCONT
	}
	ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // stopped it would not end
	check(ts, syscall.Kill(pid, sig))
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "start server|groupmgr|host HOST")
	w := worldOf(ts)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	h := w.host(ts, args[1])
	switch args[0] {
	case "host":
		check(ts, h.Boot(ctx))
	case "server":
		check(ts, h.StartServer(ctx))
	case "groupmgr":
		check(ts, h.StartGroupMgr(ctx))
	default:
		ts.Fatalf("start what?")
	}
}

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "logged NAME COUNT TEXT")
	w := worldOf(ts)
	want, err := strconv.Atoi(args[1])
	check(ts, err)
	files, err := filepath.Glob(w.lab.Path("log", "*-"+args[0]+".log"))
	check(ts, err)
	sessions, _ := filepath.Glob(w.lab.Path(args[0], "sessions", "*", "*.log"))
	text := strings.Join(args[2:], " ")
	have := 0
	until := time.Now().Add(patience)
	for {
		have = 0
		for _, f := range append(files, sessions...) {
			b, err := os.ReadFile(f)
			check(ts, err)
			have += strings.Count(string(b), text)
		}
		if have >= want || time.Now().After(until) {
			break
		}
		pause()
	}
	if have != want {
		ts.Fatalf("%d log lines of %s have %q, want %d", have, args[0], text, want)
	}
}

func cmdSessions(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "sessions HOST|* COUNT")
	w := worldOf(ts)
	hosts := w.hosts
	if args[0] != "*" {
		hosts = map[string]*lab.Host{args[0]: w.host(ts, args[0])}
	}
	want, err := strconv.Atoi(args[1])
	check(ts, err)
	for until := time.Now().Add(patience); ; pause() {
		var ids []alp.SessionID
		for _, h := range hosts {
			of, err := h.Sessions()
			check(ts, err)
			ids = append(ids, of...)
		}
		if len(ids) == want {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("sessions on %s: %v, want %d", args[0], ids, want)
		}
	}
}

func cmdStranger(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "stranger DIR")
	check(ts, os.MkdirAll(args[0], 0o700))
	_, err := auth.Create(args[0])
	check(ts, err)
}

func cmdFile(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "file PATH TEXT")
	want := strings.Join(args[1:], " ")
	var have []byte
	for until := time.Now().Add(patience); ; pause() {
		have, _ = os.ReadFile(args[0])
		if strings.TrimSpace(string(have)) == want {
			return
		}
		if time.Now().After(until) {
			worldOf(ts).shoot()
			ts.Fatalf("%s holds %q, want %q", args[0], have, want)
		}
	}
}

// long reports whether tests may take minutes.
func long() bool { return os.Getenv("HOTDESK_LONG") == "1" }

func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "hold TIME")
	d, err := time.ParseDuration(args[0])
	check(ts, err)
	if !long() {
		return
	}
	select {
	case <-time.After(d):
	case <-worldOf(ts).ctx.Done():
		ts.Fatalf("it takes too long")
	}
}

// pause is the step of polling what no event tells of: files of other
// programs.
func pause() { <-time.After(20 * time.Millisecond) }
