package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"hotdesk/tools/internal/lab"
)

// The colours of the default session's desktop and of its xterm, and where
// they are seen: both there means that the script of a new session has drawn.
const (
	deskPixel  = "pixel=1270,1014,2f4858"
	xtermPixel = "pixel=400,300,fbfaf7"
)

// settles is the pause before a death: hosts die in quiet times, not within the
// first second of the group managers and of the terminal's connection.
const settles = 1200 * time.Millisecond

// A death is a way for a host to die. ready is what takes time before the
// moment, the function that it returns is the moment, and bury kills what is
// left and makes the host as it was before its programs were started.
type death struct {
	name      string
	aim, most time.Duration // median and worst; most 0: none is set
	ready     func(context.Context, *lab.Host) (die func() error, err error)
	bury      func(context.Context, *lab.Host) error
}

// deaths of hosts on loopback addresses.
func deaths() []death {
	var all []int
	by := func(s syscall.Signal) func(context.Context, *lab.Host) (func() error, error) {
		return func(ctx context.Context, h *lab.Host) (_ func() error, err error) {
			all, err = h.All(ctx)
			return func() error { lab.Signal(all, s); return nil }, err
		}
	}
	bury := func(ctx context.Context, h *lab.Host) error {
		lab.Signal(all, syscall.SIGKILL)
		return h.Gone(ctx, all)
	}
	return []death{
		{"processes killed", 300 * time.Millisecond, 0, by(syscall.SIGKILL), bury},
		{"host silent (stopped)", 1500 * time.Millisecond, 2500 * time.Millisecond, by(syscall.SIGSTOP), bury},
	}
}

// Failover lets the host that a terminal shows its session from die n times of
// each death, and prints how long it took from then to the first correct
// pixels from the other host. The token is without proof; the session, a window
// manager and an xterm, is begun anew there.
func Failover(ctx context.Context, l *lab.Lab, n int, out io.Writer) (err error) {
	if err := cards(l); err != nil {
		return err
	}
	f := &failover{}
	defer func() {
		if left := l.Close(f.hosts...); left != nil && err == nil {
			err = left
		}
	}()
	for _, name := range []string{"north", "south"} {
		h, err := l.Host(ctx, name)
		if h != nil {
			f.hosts = append(f.hosts, h)
		}
		if err != nil {
			return err
		}
	}
	if f.terminal, err = l.Terminal(ctx, "a", "-server", f.hosts[0].Addr); err != nil {
		return err
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	return f.measure(ctx, n, deaths(), out)
}

// failover is two hosts and a terminal.
type failover struct {
	hosts    []*lab.Host
	terminal *lab.Terminal
}

// begin shows the terminal a session, once it knows both hosts.
func (f *failover) begin(ctx context.Context) error {
	for _, words := range [][]string{{"wait", "-timeout", patience.String(), "picture", "known=2"}, {"insert", "card1"},
		{"wait", "-timeout", patience.String(), "picture", deskPixel, xtermPixel}} {
		if _, err := f.terminal.Ctl(ctx, words...); err != nil {
			return err
		}
	}
	_, err := f.terminal.Rest(ctx, patience)
	return err
}

// measure lets hosts die and prints the table.
func (f *failover) measure(ctx context.Context, n int, deaths []death, out io.Writer) error {
	var table strings.Builder
	fmt.Fprintf(&table, "%-22s %7s  %-30s %9s %9s %9s  %s\n", "death of the host", "deaths", "to first correct pixels", "median", "p90", "worst", "aim (median, worst)")
	for _, d := range deaths {
		var times []time.Duration
		for i := range n {
			took, err := f.die(ctx, d)
			if err != nil {
				return fmt.Errorf("%s, %d: %w", d.name, i+1, err)
			}
			times = append(times, took)
		}
		slices.Sort(times)
		aim := fmt.Sprint(d.aim)
		if d.most > 0 {
			aim += fmt.Sprint(", ", d.most)
		}
		ms := func(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d.Microseconds())/1000) }
		fmt.Fprintf(&table, "%-22s %7d  %-30s %9s %9s %9s  %s\n", d.name, n, "desktop and xterm of the other",
			ms(times[n/2]), ms(times[n*9/10]), ms(times[n-1]), aim)
	}
	_, err := io.WriteString(out, table.String())
	return err
}

// die lets the host of the session die and returns how long the terminal was
// without correct pixels. The host is up again afterwards.
func (f *failover) die(ctx context.Context, d death) (took time.Duration, err error) {
	server, err := f.terminal.Status(ctx, "server")
	if err != nil {
		return 0, err
	}
	dies, lives := f.hosts[0], f.hosts[1]
	if server == lives.Addr {
		dies, lives = lives, dies
	}
	select {
	case <-time.After(settles):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	die, err := d.ready(ctx, dies)
	if err != nil {
		return 0, err
	}
	seen := make(chan error, 1)
	go func() {
		_, err := f.terminal.Ctl(ctx, "wait", "-timeout", patience.String(), "server="+lives.Addr, "picture", deskPixel, xtermPixel)
		seen <- err
	}()
	if _, err := f.terminal.Status(ctx, "server"); err != nil { // meanwhile the wait has begun
		return 0, err
	}
	at := time.Now()
	if err = die(); err == nil {
		err = <-seen
	}
	took = time.Since(at)
	if buried := d.bury(ctx, dies); err == nil {
		err = buried
	}
	if err == nil {
		_, err = f.terminal.Rest(ctx, patience)
	}
	if err == nil {
		err = dies.Boot(ctx)
	}
	return took, err
}
