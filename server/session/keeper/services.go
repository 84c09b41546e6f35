package keeper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/keeper/family"
	"hotdesk/server/session/services"

	"golang.org/x/sys/unix"
)

const (
	// maxEvents bounds what services were not told of yet, and the commands that
	// wait because of that: the first is forgotten, as the last one is how it is.
	maxEvents = 64
	// maxHooks bounds the commands that are run at the same time because of
	// connects and disconnects.
	maxHooks = 16
	// busTime bounds the wait for the session's message bus at the start.
	busTime = 5 * time.Second
)

// bus is the service that is the session's D-Bus. One of that name in the
// host's directory of services takes its place.
const bus = "dbus"

// busAddress is where programs reach it, and what its command is to listen on.
func busAddress(runtime string) string { return "unix:path=" + runtime + "/bus" }

// sessionServices are the services of a session: the host's, and the bus.
func sessionServices(dir string, log *slog.Logger) ([]services.Spec, error) {
	specs, err := services.Read(dir)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(specs, func(s services.Spec) bool { return s.Name == bus }) {
		return specs, nil
	}
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		log.Warn("sessions have no message bus: install dbus-daemon (on Debian: apt install dbus-daemon)", "error", err)
		return specs, nil
	}
	return slices.Insert(specs, 0, services.Spec{Name: bus, Required: true, Command: `exec dbus-daemon --session --nofork --nopidfile --nosyslog --address="$DBUS_SESSION_BUS_ADDRESS" --print-address=3`}), nil
}

// A minder runs a session's services. Its fields are run's own, but for those
// that follow mu.
type minder struct {
	log     *slog.Logger
	session alp.SessionID
	spawn   func(*exec.Cmd) (*family.Child, error) // as the user, in the session
	machine *services.Machine
	inputs  map[string]*os.File // of the services that run
	hooks   int
	later   []services.Action // hooks that wait for one of those to end

	wake  chan struct{} // capacity 1: there are events
	ended chan exit
	ready chan struct{} // closed when the bus answers, or does not run
	going sync.WaitGroup

	mu     sync.Mutex
	events []alp.TerminalID // connections that services were not told of yet
	report []services.Report
}

type exit struct {
	name string // "" of a hook
	err  error
}

func newMinder(specs []services.Spec, session alp.SessionID, log *slog.Logger, spawn func(*exec.Cmd) (*family.Child, error)) *minder {
	return &minder{
		log: log, session: session, spawn: spawn, machine: services.New(specs), inputs: map[string]*os.File{},
		wake: make(chan struct{}, 1), ended: make(chan exit), ready: make(chan struct{}),
	}
}

// connection tells which terminal shows the session now, "" if none. It does
// not wait.
func (d *minder) connection(terminal alp.TerminalID) {
	d.mu.Lock()
	if len(d.events) == maxEvents {
		d.log.Error("services are not told of a connection: too many wait", "session", d.session)
		d.events = slices.Delete(d.events, 0, 1)
	}
	d.events = append(d.events, terminal)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// untold are the connections that services have not heard of.
func (d *minder) untold() []alp.TerminalID {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.events
	d.events = nil
	return all
}

// reports tells how the services are.
func (d *minder) reports() []services.Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.report
}

// run starts the services and keeps them running until ctx ends; they are ended
// by whoever ends all processes.
func (d *minder) run(ctx context.Context) {
	defer d.going.Wait()
	defer func() {
		for _, f := range d.inputs {
			f.Close()
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.do(ctx, d.machine.Begin(time.Now()))
	if d.inputs[bus] == nil {
		close(d.ready)
	}
	for {
		d.mu.Lock()
		d.report = d.machine.Reports()
		d.mu.Unlock()
		var due <-chan time.Time
		if at := d.machine.Next(); !at.IsZero() {
			due = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-due:
			d.do(ctx, d.machine.Tick(time.Now()))
		case <-d.wake:
			for _, terminal := range d.untold() {
				d.do(ctx, d.machine.Connection(time.Now(), terminal))
			}
		case e := <-d.ended:
			d.over(ctx, e)
		}
	}
}

func (d *minder) over(ctx context.Context, e exit) {
	if e.name == "" {
		d.hooks--
		for d.hooks < maxHooks && len(d.later) > 0 {
			next := d.later[0]
			d.later = slices.Delete(d.later, 0, 1)
			d.hook(ctx, next)
		}
		return
	}
	if f := d.inputs[e.name]; f != nil {
		f.Close()
		delete(d.inputs, e.name)
	}
	why := ""
	if e.err != nil {
		why = e.err.Error()
	}
	d.log.Warn("service ended", "session", d.session, "service", e.name, "error", why)
	d.machine.Ended(time.Now(), e.name, why)
}

// do performs what the machine asks for, and what comes of that.
func (d *minder) do(ctx context.Context, todo []services.Action) {
	for len(todo) > 0 {
		a := todo[0]
		todo = todo[1:]
		switch a.Kind {
		case services.Start:
			pid, err := d.start(ctx, a)
			if err != nil {
				d.log.Error("service does not start", "session", d.session, "service", a.Name, "error", err)
				d.machine.Ended(time.Now(), a.Name, err.Error())
				continue
			}
			todo = append(d.machine.Started(a.Name, pid), todo...)
		case services.Tell:
			d.tell(a)
		case services.Hook:
			d.hook(ctx, a)
		}
	}
}

func (d *minder) start(ctx context.Context, a services.Action) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", a.Text)
	cmd.Stdin = r
	ready := func() {}
	if a.Name == bus {
		said, say, err := os.Pipe()
		if err != nil {
			w.Close()
			return 0, err
		}
		defer say.Close()
		cmd.ExtraFiles = []*os.File{say}
		ready = func() { d.awaitBus(ctx, said) }
	}
	child, err := d.spawn(cmd)
	if err != nil {
		w.Close()
		ready = nil
		return 0, err
	}
	ready()
	d.inputs[a.Name] = w
	d.wait(ctx, a.Name, child)
	return child.PID(), nil
}

// awaitBus lets the session wait until the bus has said its address.
func (d *minder) awaitBus(ctx context.Context, said *os.File) {
	d.going.Go(func() {
		stop := context.AfterFunc(ctx, func() { said.Close() })
		defer stop()
		_, _ = io.ReadAtLeast(said, make([]byte, 1), 1) // its end says the same: go on
		said.Close()
		select {
		case <-d.ready: // of its first start
		default:
			close(d.ready)
		}
	})
}

func (d *minder) wait(ctx context.Context, name string, child *family.Child) {
	d.going.Go(func() {
		select {
		case <-child.Done():
			select {
			case d.ended <- exit{name, child.Err()}:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	})
}

// tell writes a line to a service. One that does not read loses it.
func (d *minder) tell(a services.Action) {
	f := d.inputs[a.Name]
	if f == nil {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	var wrote error
	err = raw.Write(func(fd uintptr) bool {
		_, wrote = unix.Write(int(fd), []byte(a.Text)) // at most PIPE_BUF: all or nothing
		return true
	})
	if err = errors.Join(err, wrote); err != nil && !errors.Is(err, unix.EPIPE) {
		d.log.Warn("service does not hear", "session", d.session, "service", a.Name, "error", err)
	}
}

func (d *minder) hook(ctx context.Context, a services.Action) {
	if d.hooks == maxHooks {
		if len(d.later) == maxEvents {
			d.log.Error("a command of a service is not run: too many wait", "session", d.session, "service", d.later[0].Name)
			d.later = slices.Delete(d.later, 0, 1)
		}
		d.later = append(d.later, a)
		return
	}
	cmd := exec.Command("/bin/sh", "-c", a.Text)
	cmd.Env = []string{"HOTDESK_EVENT=" + string(a.Event), "HOTDESK_TERMINAL=" + string(a.Terminal)}
	child, err := d.spawn(cmd)
	if err != nil {
		d.log.Error("command of a service does not start", "session", d.session, "service", a.Name, "error", err)
		return
	}
	d.hooks++
	d.wait(ctx, "", child)
}
