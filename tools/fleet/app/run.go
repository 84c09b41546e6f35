package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/tools/fleet/internal/crowd"
	"hotdesk/tools/fleet/internal/figures"
	"hotdesk/tools/fleet/internal/lan"
	"hotdesk/tools/fleet/internal/live"
	"hotdesk/tools/fleet/internal/oracle"
	"hotdesk/tools/fleet/internal/patchbay"
	"hotdesk/tools/fleet/internal/remains"
	"hotdesk/tools/fleet/internal/scenario"
	"hotdesk/tools/internal/debian"
	"hotdesk/tools/internal/lab"
)

// patience bounds every step before and after the run.
const patience = 60 * time.Second

// inVain is how long a card may wait for its session.
const inVain = 15 * time.Second

// A run is one.
type run struct {
	Config
	scene *scenario.Scenario
	sum   *figures.Sum
	lab   *lab.Lab
	hosts []*lab.Host
	crowd *crowd.Crowd
	judge *oracle.Judge
	book  *figures.Book

	view     *live.View
	wall     string // address of the page, "": none
	bay      *patchbay.Bay
	lan      *lan.LAN      // of terminals with DHCP; nil: none
	registry *lab.Host     // what the hosts' registry is, nil: each has its own
	small    string        // file system that can be filled; "": none
	over     chan struct{} // closed by end, when there were faults enough or somebody wants it to stop
	end      func()
	mended   chan struct{}   // closed when nothing is broken any longer; nil: no faults
	doubled  map[uint16]bool // cards that had reason for two sessions
	starved  int             // gateways that got no more memory
	places   remains.Places  // of sessions
}

// Run is one run of the fleet.
func Run(ctx context.Context, c Config) (*figures.Sum, error) {
	view := live.New(c.Out)
	c.Out = view
	r := &run{Config: c, view: view, judge: oracle.New(), book: figures.New(), over: make(chan struct{}), doubled: map[uint16]bool{}}
	r.end = sync.OnceFunc(func() { close(r.over) })
	if err := r.plan(); err != nil {
		return nil, err
	}
	var width, height int
	if n, err := fmt.Sscanf(c.Size, "%dx%d", &width, &height); n != 2 || err != nil || width < 640 || height < 480 || max(width, height) > alp.MaxSide {
		return nil, fmt.Errorf("-size %q is not WIDTHxHEIGHT of at least 640x480", c.Size)
	}
	if err := debian.Need(ctx, c.Out, debian.Session...); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hdfl")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := r.build(ctx, dir); err != nil {
		return nil, err
	}
	routines := runtime.NumGoroutine()
	kept, err := r.all(ctx, dir, width, height)
	if r.sum == nil { // nobody came
		return nil, errors.Join(err, kept)
	}
	if left := settle(routines); left > 0 {
		r.judge.Found(r.crowd.At(), oracle.Leaked, fmt.Sprintf("%d goroutines of the fleet", left))
	}
	return r.sum, errors.Join(err, r.report(), kept)
}

// plan reads the scenario and completes the configuration from it.
func (r *run) plan() (err error) {
	if r.scene, err = scenario.Load(r.Scenario); err != nil {
		return err
	}
	pick := func(v *int, scene int) {
		if *v < 0 {
			*v = scene
		}
	}
	pick(&r.People, r.scene.People)
	pick(&r.Resting, r.scene.Resting)
	if r.Hosts <= 0 {
		r.Hosts = r.scene.Hosts
	}
	if r.Soak > 0 {
		if r.Lasts > 0 {
			return errors.New("-soak says how long the run is: leave -duration out")
		}
		r.Lasts, r.Faults = r.Soak, true
	}
	if r.Lasts <= 0 {
		r.Lasts = r.scene.Lasts
	}
	if max(r.People, r.Resting) > scenario.MaxPeople || r.Hosts > 16 {
		return fmt.Errorf("at most %d people, as many terminals at rest, and 16 hosts", scenario.MaxPeople)
	}
	if r.People > 0 && len(r.scene.Groups) == 0 {
		return fmt.Errorf("nobody does anything in the scenario %q; leave -n out", r.Scenario)
	}
	return nil
}

func (r *run) build(ctx context.Context, dir string) error {
	if r.Bin != "" && r.Faults {
		return r.own(dir)
	}
	if r.Bin != "" {
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	r.Bin = filepath.Join(dir, "bin")
	if err := os.Mkdir(r.Bin, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(r.Out, "building the programs")
	return lab.Build(ctx, root, r.Bin)
}

// own has the run use programs of its own: an upgrade replaces them.
func (r *run) own(dir string) error {
	from := r.Bin
	r.Bin = filepath.Join(dir, "bin")
	if err := os.Mkdir(r.Bin, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"groupmgr", "server", "session", "fleet"} {
		to := filepath.Join(r.Bin, name)
		if os.Link(filepath.Join(from, name), to) == nil {
			continue
		}
		// They are on another file system; the fleet itself may be anywhere.
		err := copyFile(filepath.Join(from, name), to)
		if name == "fleet" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, os.Chmod(to, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the repository: go run ./tools/fleet; or name built programs with -bin")
		}
		dir = filepath.Dir(dir)
	}
}

// all is the run from the first host to the last process.
// kept is what hindered the copies of logs.
func (r *run) all(ctx context.Context, dir string, width, height int) (kept, err error) {
	undo, err := r.tmpfs(filepath.Join(dir, filepath.Base(dir)))
	if err != nil {
		return kept, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	// Frame buffers are named by the last part of the folder: that of another run
	// is another one.
	if r.lab, err = lab.New(lab.Config{Bin: r.Bin, Dir: filepath.Join(dir, filepath.Base(dir))}); err != nil {
		return kept, err
	}
	at := time.Duration(0)
	defer func() {
		left := r.lab.Close(r.hosts...)
		if left != nil && err == nil {
			r.judge.Found(at, oracle.Leaked, left.Error())
		}
		if err == nil {
			for _, path := range r.places.Left() {
				r.judge.Found(at, oracle.Leaked, path)
			}
		}
		kept = r.logs(r.Keep)
	}()
	script, err := r.provide(dir)
	if err != nil {
		return kept, err
	}
	if err := r.start(ctx, script); err != nil {
		return kept, err
	}
	var servers []netip.AddrPort
	for _, h := range r.hosts {
		a, err := netip.ParseAddrPort(h.Addr)
		if err != nil {
			return kept, err
		}
		servers = append(servers, a)
	}
	undoLAN, err := r.dhcp(ctx, dir, servers[0])
	if err != nil {
		return kept, err
	}
	defer func() { err = errors.Join(err, undoLAN()) }()
	cfg := crowd.Config{
		Scenario: r.scene, People: r.People, Resting: r.Resting, Lasts: r.Lasts, Own: r.Soak > 0, Seed: r.Seed,
		Servers: servers, Authority: r.lab.Authority(), GroupPort: r.lab.GroupPort, Cards: r.lab.Path("cards"),
		Width: width, Height: height, Judge: r.judge, Book: r.book, Over: r.over, Evening: r.evening,
	}
	if r.Faults || !r.scene.Weather.Calm() || slices.ContainsFunc(r.scene.Events, func(e scenario.Event) bool { return e.Power == 0 }) {
		r.bay = patchbay.New(r.Seed)
		r.bay.Weather(r.scene.Weather)
		cfg.Wire = r.bay
	}
	if r.Verbose {
		f, err := os.Create(filepath.Join(dir, "fleet.log"))
		if err != nil {
			return kept, err
		}
		defer f.Close()
		cfg.Log = slog.New(slog.NewTextHandler(f, nil))
	}
	if r.lan != nil {
		for _, p := range r.lan.Ports() {
			cfg.Nets = append(cfg.Nets, p)
		}
	}
	r.crowd = crowd.New(cfg)
	undoWall, err := r.hang()
	if err != nil {
		return kept, err
	}
	defer undoWall()
	fmt.Fprintf(r.Out, "%s: %s\n%d people, %d terminals, %d hosts, %v, seed %d\n", r.Scenario, r.scene.Purpose, r.People, r.crowd.Terminals(), r.Hosts, r.Lasts, r.Seed)
	r.sum = &figures.Sum{Scenario: r.Scenario, People: r.People, Terminals: r.crowd.Terminals(), Hosts: r.Hosts, Seed: r.Seed}
	broken := r.during(ctx)
	at = r.crowd.At()
	r.sum.Seconds, r.sum.Stopped = math.Round(min(at, r.Lasts).Seconds()), broken != nil || ctx.Err() != nil
	if broken == nil {
		broken = r.invariants(context.WithoutCancel(ctx), at)
	}
	return kept, broken
}

// provide writes the cards and the sessions' script.
func (r *run) provide(dir string) (script string, err error) {
	for n := range r.People {
		text := fmt.Sprintf("atr = 3b08484f544445534b31\ntype = simple\nid = %016x\nsecret = %032x\nname = Person %d\n", 0xf1ee7000+n+1, r.Seed+uint64(n), n+1)
		if err := os.WriteFile(r.lab.Path("cards", crowd.Card(uint16(n+1))+".card"), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	self := filepath.Join(r.Bin, "fleet")
	if _, err := os.Stat(self); err != nil {
		if self, err = os.Executable(); err != nil {
			return "", err
		}
	}
	script = filepath.Join(dir, "session.sh")
	text := fmt.Sprintf("#!/bin/sh\nexport GOMAXPROCS=1 GOGC=30\nexec '%s' desk 2>>'%s'\n", self, r.lab.Path("log", "desks.log"))
	return script, os.WriteFile(script, []byte(text), 0o755)
}

// start starts the hosts.
func (r *run) start(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := []string{"-session-script", script}
	if r.Faults {
		h, at, err := r.lab.Registry(ctx, "registry")
		if err != nil {
			return err
		}
		r.registry = h
		args = append(args, "-registry", at)
	}
	if r.scene.Login {
		args = append(args, "-login", "bare")
	}
	for n := range r.Hosts {
		h, err := r.lab.Host(ctx, fmt.Sprintf("host%d", n+1), args...)
		if h != nil {
			r.hosts = append(r.hosts, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// during is the time that people are there. At the end of ctx it is over before
// its time, once what is broken is mended; at Abort at once.
func (r *run) during(ctx context.Context) error {
	all, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, r.end)()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-program.Abort(ctx):
			cancel()
		case <-all.Done():
		}
	})
	wg.Go(func() { r.watch(all) })
	var broken error
	if r.Faults {
		r.mended = make(chan struct{})
		wg.Go(func() {
			defer close(r.mended)
			if broken = r.breaks(all); broken != nil {
				r.end()
			}
		})
	}
	r.crowd.Run(all)
	cancel()
	wg.Wait()
	return broken
}

// weigh measures the programs when people have stopped working and everything
// is still there: reading the memory of a thousand processes holds them up, and
// would be in what is measured of keys.
func (r *run) weigh() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	memory := map[string]figures.Memory{}
	for _, h := range r.hosts {
		all, err := h.All(ctx)
		if err != nil {
			continue // it is down just now
		}
		for _, p := range all {
			name, cpu, err := lab.Usage(p)
			if err != nil {
				continue // it has ended
			}
			kb, err := lab.PSS(p)
			if err != nil {
				continue
			}
			m := memory[name]
			m.Processes++
			m.MB += float64(kb) / 1000
			m.CPU += cpu.Seconds()
			memory[name] = m
		}
	}
	r.sum.Memory = memory
}

// evening looks at what the day has left when all is mended: weights, and cards
// that have waited in vain.
func (r *run) evening() {
	if r.mended != nil {
		<-r.mended
	}
	for _, s := range r.crowd.Waiting(inVain) {
		r.book.Count("no picture of the card at the end", r.crowd.At())
		fmt.Fprintf(r.Out, "terminal %s: card %d is in for %.0f s, and its session is not shown: code %d %s, session %q of %v\n",
			s.Terminal, s.Card, s.In.Seconds(), s.Code, s.Title, s.Session, s.Server)
	}
	r.weigh()
}

// tokens are the people's.
func (r *run) tokens() map[alp.Token]uint16 {
	cards := map[alp.Token]uint16{}
	for n := range r.People {
		cards[alp.Token(fmt.Sprintf("simple.%016x", 0xf1ee7000+n+1))] = uint16(n + 1)
	}
	return cards
}

// invariants looks at what is left when the terminals are gone: sessions, what the
// programs have told, and what they still have.
func (r *run) invariants(ctx context.Context, at time.Duration) error {
	sessions, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.sessions(sessions, at); err != nil {
		return err
	}
	if err := r.logged(at); err != nil {
		return err
	}
	r.remains(ctx, at)
	return nil
}

func (r *run) sessions(ctx context.Context, at time.Duration) error {
	cards := r.tokens()
	living := map[uint16][]string{}
	for _, h := range r.hosts {
		ids, err := h.Sessions()
		if err != nil {
			return err
		}
		for _, id := range ids {
			st, _, err := h.Keeper(ctx, id)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				r.judge.Found(at, oracle.Leaked, fmt.Sprintf("session %s of %s has no keeper: %v", id, h.Name, err))
				continue
			}
			r.met(h, id, st)
			card := cards[st.Token]
			if card == 0 {
				r.judge.Found(at, oracle.Leaked, fmt.Sprintf("session %s of a token that nobody has: %s", id, st.Token))
			}
			living[card] = append(living[card], string(id))
		}
	}
	r.judge.Ends(at, living, r.doubled)
	return nil
}

// settle waits till no more goroutines run than before, and returns how many
// do.
func settle(before int) (more int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		if more = runtime.NumGoroutine() - before; more <= 0 {
			return 0
		}
		<-tick.C
	}
	return more
}

// report completes the sum, prints it and writes the files.
func (r *run) report() error {
	v := r.judge.Verdict()
	r.sum.Looks, r.sum.Sessions, r.sum.Violations, r.sum.Kinds, r.sum.Machine = v.Looks, v.Sessions, v.Violations, v.Kinds, machine()
	var b bytes.Buffer
	if err := r.book.Write(&b, r.sum, v.Kept); err != nil {
		return err
	}
	for i, k := range v.Kept {
		if i == 20 {
			fmt.Fprintf(r.Out, "and %d more\n", v.Violations-i)
			break
		}
		fmt.Fprintf(r.Out, "VIOLATION at %.1f s, terminal %s: %s: %s\n", k.At.Seconds(), k.Terminal, k.Kind, k.Text)
	}
	if r.JSON != "" {
		if err := os.WriteFile(r.JSON, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	one, err := figures.Read(&b)
	if err != nil {
		return err
	}
	one.Name = r.Scenario
	figures.Table(r.Out, []*figures.Run{one})
	return writePage(r.HTML, []*figures.Run{one})
}

// machine says what a run had for itself: figures of time depend on it.
func machine() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return fmt.Sprintf("%d cores", runtime.NumCPU())
	}
	load, _, _ := strings.Cut(string(text), " ")
	return fmt.Sprintf("%d cores, load %s at the end", runtime.NumCPU(), load)
}
