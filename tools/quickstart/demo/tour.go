package demo

import (
	"context"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/tools/internal/lab"
)

// patience bounds every step of the tour.
const patience = 30 * time.Second

// The colours that the typed commands give the desktop: a pixel of it proves
// that every key arrived and that the shell in the session ran the command.
const (
	green = "2a7f62"
	plum  = "6a3d7c"
)

// tour is one run: two hosts, two terminals, and the steps so far.
type tour struct {
	lab          *lab.Lab
	dir          string
	out          io.Writer
	north, south *lab.Host
	a, b         *lab.Terminal
	steps        []step
}

type step struct {
	name, checked string
	took          time.Duration
	shots         []string
}

// Tour moves a live desktop between two terminals of two hosts, unattended. It
// writes a screenshot of each step to dir and a table to out, and returns an
// error unless every step's pixels were right and nothing was left running.
// Then, if moves > 0, it moves the card so many times and prints the times.
func Tour(ctx context.Context, l *lab.Lab, dir string, moves int, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := cards(l); err != nil {
		return err
	}
	t := &tour{lab: l, dir: dir, out: out}
	err := t.run(ctx, moves)
	t.table()
	var hosts []*lab.Host
	for _, h := range []*lab.Host{t.north, t.south} {
		if h != nil {
			hosts = append(hosts, h)
		}
	}
	if left := l.Close(hosts...); left != nil {
		if err == nil {
			err = left
		} else {
			fmt.Fprintln(out, left)
		}
	} else {
		fmt.Fprintln(out, "none of the tour's processes, sessions or frame buffers remains")
	}
	return err
}

func (t *tour) run(ctx context.Context, moves int) error {
	var empty, desk, typed, onB string
	return sequence(
		t.step("start two hosts, two terminals", "both show the insert-card screen", func() (err error) {
			if t.north, err = t.lab.Host(ctx, "north"); err != nil {
				return err
			}
			if t.south, err = t.lab.Host(ctx, "south"); err != nil {
				return err
			}
			if t.a, err = t.lab.Terminal(ctx, "a", "-server", t.north.Addr); err != nil {
				return err
			}
			if t.b, err = t.lab.Terminal(ctx, "b", "-server", t.south.Addr); err != nil {
				return err
			}
			if empty, err = t.shown(ctx, t.a); err != nil {
				return err
			}
			_, err = t.shown(ctx, t.b)
			return err
		}),
		t.step("card in at A", "a desktop, not the insert-card screen", func() error {
			return t.ctl(ctx, t.a, "insert", "card1")
		}, func() error {
			// The xterm of the default session, drawn, has the keyboard.
			return t.ctl(ctx, t.a, "wait", "-timeout", patience.String(), "picture", "pixel=400,300,fbfaf7")
		}, func() (err error) {
			if desk, err = t.shown(ctx, t.a); err == nil && desk == empty {
				err = fmt.Errorf("terminal A still shows the insert-card screen")
			}
			return err
		}),
		t.step("type into the xterm at A", "the desktop has the colour the command gives", func() error {
			return t.ctl(ctx, t.a, "type", "xsetroot -solid '#"+green+"' # typed at terminal A\n")
		}, func() error { return t.colour(ctx, t.a, green) },
			func() (err error) { typed, err = t.a.Rest(ctx, patience); return err }),
		t.step("card out at A", "A shows its insert-card screen, no pixel of the desktop", func() error {
			return t.ctl(ctx, t.a, "remove")
		}, func() error { return t.a.Shows(ctx, empty, patience) }),
		t.step("card in at B, on the other host", "B is redirected and shows every pixel that A showed", func() error {
			return t.ctl(ctx, t.b, "insert", "card1")
		}, func() error { return t.b.Shows(ctx, typed, patience) }, func() error { return t.redirected(ctx) }),
		t.step("type at B; A stays dark", "new colour at B; A still shows its insert-card screen", func() error {
			return t.ctl(ctx, t.b, "type", "xsetroot -solid '#"+plum+"' # and this at terminal B\n")
		}, func() error { return t.colour(ctx, t.b, plum) }, func() error { return t.a.Shows(ctx, empty, time.Second) },
			func() (err error) { onB, err = t.b.Rest(ctx, patience); return err }),
		// B stays a terminal of the host that it was redirected to, whose screen A showed.
		t.step("card back to A", "A shows what B showed, B an insert-card screen", func() error {
			if err := t.ctl(ctx, t.b, "remove"); err != nil {
				return err
			}
			return t.ctl(ctx, t.a, "insert", "card1")
		}, func() error { return t.a.Shows(ctx, onB, patience) }, func() error { return t.b.Shows(ctx, empty, patience) }),
		func() error { return t.moves(ctx, moves, onB) },
	)
}

// sequence runs until the first error.
func sequence(steps ...func() error) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// step times its parts and takes screenshots of both terminals after them. The
// time is that of the first two parts: doing it, and seeing that it is done.
func (t *tour) step(name, checked string, parts ...func() error) func() error {
	return func() error {
		s := step{name: name, checked: checked}
		begin := time.Now()
		for i, part := range parts {
			if err := part(); err != nil {
				s.checked = "FAILED: " + err.Error()
				s.took = time.Since(begin)
				t.shoot(&s)
				t.steps = append(t.steps, s)
				return fmt.Errorf("step %q: %w", name, err)
			}
			if i < 2 {
				s.took = time.Since(begin)
			}
		}
		t.shoot(&s)
		t.steps = append(t.steps, s)
		return nil
	}
}

func (t *tour) shoot(s *step) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, terminal := range []*lab.Terminal{t.a, t.b} {
		if terminal == nil {
			continue
		}
		tmp := t.lab.Path("log", "shot.png") // the program may not be allowed to write to dir
		file := filepath.Join(t.dir, fmt.Sprintf("%d-%s.png", len(t.steps)+1, terminal.Name))
		if _, err := terminal.Ctl(ctx, "screenshot", tmp); err != nil {
			fmt.Fprintln(t.out, err)
			continue
		}
		if err := move(tmp, file); err != nil {
			fmt.Fprintln(t.out, err)
			continue
		}
		s.shots = append(s.shots, filepath.Base(file))
	}
}

// move copies a picture that decodes, and removes the original.
func move(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := png.DecodeConfig(f); err != nil {
		return fmt.Errorf("%s is no picture: %w", from, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, f); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Remove(from)
}

func (t *tour) table() {
	if len(t.steps) == 0 {
		return
	}
	fmt.Fprintf(t.out, "\n%-34s %9s  %-62s %s\n", "step", "ms", "checked", "screenshots")
	for _, s := range t.steps {
		fmt.Fprintf(t.out, "%-34s %9.1f  %-62s %s\n", s.name, float64(s.took.Microseconds())/1000, s.checked, strings.Join(s.shots, " "))
	}
	fmt.Fprintln(t.out)
}

func (t *tour) ctl(ctx context.Context, terminal *lab.Terminal, args ...string) error {
	_, err := terminal.Ctl(ctx, args...)
	return err
}

// shown waits for the picture of the terminal's present token and then until
// it rests.
func (t *tour) shown(ctx context.Context, terminal *lab.Terminal) (string, error) {
	if _, err := terminal.Ctl(ctx, "wait", "-timeout", patience.String(), "picture"); err != nil {
		return "", err
	}
	return terminal.Rest(ctx, patience)
}

// colour waits until the desktop's bottom right corner has the colour.
func (t *tour) colour(ctx context.Context, terminal *lab.Terminal, rrggbb string) error {
	_, err := terminal.Ctl(ctx, "wait", "-timeout", patience.String(), "pixel=1270,1014,"+rrggbb)
	return err
}

// redirected tells whether terminal B is now a terminal of the host north.
func (t *tour) redirected(ctx context.Context) error {
	server, err := t.b.Status(ctx, "server")
	if err == nil && server != t.north.Addr {
		err = fmt.Errorf("terminal B is at %s, the session at %s", server, t.north.Addr)
	}
	return err
}

// moves carries the card from terminal to terminal and prints how long it took
// from the card's event to the first whole picture, which must be exact.
func (t *tour) moves(ctx context.Context, n int, picture string) error {
	if n == 0 {
		return nil
	}
	var times []time.Duration
	from, to := t.a, t.b
	// Faster than any person, slower than what the gateway takes for a flood.
	pause := time.NewTicker(150 * time.Millisecond)
	defer pause.Stop()
	for range n {
		<-pause.C
		if err := t.ctl(ctx, from, "remove"); err != nil {
			return err
		}
		if err := t.ctl(ctx, to, "insert", "card1"); err != nil {
			return err
		}
		if _, err := to.Ctl(ctx, "wait", "-timeout", patience.String(), "picture"); err != nil {
			return err
		}
		if err := to.Shows(ctx, picture, patience); err != nil {
			return err
		}
		text, err := to.Status(ctx, "cardToPicture")
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		times = append(times, d)
		from, to = to, from
	}
	slices.Sort(times)
	fmt.Fprintf(t.out, "card in to first whole picture, %d moves at 1280x1024: median %v, p90 %v, worst %v\n",
		n, times[n/2], times[n*9/10], times[n-1])
	return t.memory(ctx, from)
}

// memory prints what the session that the terminal shows costs.
func (t *tour) memory(ctx context.Context, terminal *lab.Terminal) error {
	id, err := terminal.Status(ctx, "session")
	if err != nil {
		return err
	}
	st, keeper, err := t.north.Keeper(ctx, alp.SessionID(id))
	if err != nil {
		return err
	}
	fmt.Fprint(t.out, "session's processes, PSS:")
	for _, p := range []struct {
		name string
		pid  int
	}{{"X server", st.X}, {"keeper", keeper}, {"media", st.Media}} {
		kb, err := lab.PSS(p.pid)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "  %s %.1f MB", p.name, float64(kb)/1000)
	}
	fmt.Fprintln(t.out)
	return nil
}
