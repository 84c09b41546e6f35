package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hotdesk/smartcard/ccid"
	"hotdesk/smartcard/reader"
)

// Source is the readers of a Bus.
type Source struct {
	bus    Bus
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	events *reader.Queue
	done   chan struct{}

	readers map[string]*running // by key; of the goroutine run
}

// running is a reader that was started.
type running struct {
	name     string
	cancel   context.CancelFunc
	ended    chan struct{} // closed at its end; nil: it is not running
	failures int           // in a row
	began    time.Time
	next     time.Time // when it is tried again, after a failure
}

// Open watches bus until ctx ends or Close. nil logs nothing.
func Open(ctx context.Context, bus Bus, log *slog.Logger) *Source {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{bus: bus, log: log, done: make(chan struct{}), readers: map[string]*running{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.events = reader.NewQueue(s.ctx)
	go s.run()
	return s
}

// Events tells what happens at the readers.
func (s *Source) Events() <-chan reader.Event { return s.events.Events() }

// Close powers the cards off and lets the readers go. Events that nobody took
// are dropped; Events is closed when Close returns.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	s.events.Wait()
	return nil
}

// run follows the readers that are plugged in.
func (s *Source) run() {
	defer close(s.done)
	defer func() {
		for _, r := range s.readers {
			r.stop()
		}
		if err := s.bus.Close(); err != nil {
			s.log.Warn("card readers: closing", "err", err)
		}
	}()
	ended := make(chan struct{}, 1)
	for {
		var later <-chan time.Time
		if wait := s.scan(ended); wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.bus.Changes():
		case <-ended:
		case <-later:
		}
	}
}

// stop ends a reader and waits until it has told so.
func (r *running) stop() {
	r.cancel()
	if r.ended != nil {
		<-r.ended
	}
}

// pause is how long a reader that failed so often is left alone.
func pause(failures int) time.Duration {
	if failures < MaxFailures {
		return retry
	}
	return slowRetry
}

// scan starts and stops readers. It returns when to scan again, 0: when something
// changes.
func (s *Source) scan(ended chan<- struct{}) time.Duration {
	found, err := s.bus.Scan()
	if err != nil {
		s.log.Warn("card readers cannot be listed", "err", err)
		return slowRetry
	}
	there := map[string]bool{}
	for _, f := range found {
		there[f.Key] = true
	}
	for key, r := range s.readers {
		if !there[key] {
			r.stop()
			delete(s.readers, key)
		}
	}
	now, again := time.Now(), time.Duration(0)
	later := func(d time.Duration) {
		if again == 0 || d < again {
			again = d
		}
	}
	for _, f := range found {
		r := s.readers[f.Key]
		switch {
		case r == nil && len(s.readers) >= MaxReaders:
			s.log.Warn("too many card readers: this one is not used", "reader", f.Name, "most", MaxReaders)
			continue
		case r == nil:
			r = &running{name: f.Name, cancel: func() {}}
			s.readers[f.Key] = r
		case r.ended != nil:
			select {
			case <-r.ended: // by itself
				r.ended = nil
				if time.Since(r.began) > settled {
					r.failures = 0
				}
				r.failures++
				r.next = now.Add(pause(r.failures))
				later(pause(r.failures))
			default:
			}
			continue
		case now.Before(r.next):
			later(r.next.Sub(now))
			continue
		}
		if err := s.start(f, r, ended); err != nil {
			r.failures++
			r.next = now.Add(pause(r.failures))
			later(pause(r.failures))
			level := slog.LevelWarn
			if r.failures > MaxFailures || errors.Is(err, ErrGone) {
				level = slog.LevelDebug
			}
			s.log.Log(s.ctx, level, "card reader cannot be used; is another program using it, such as pcscd?", "reader", f.Name, "err", err)
		}
	}
	return again
}

// start opens a reader and follows it on goroutines of its own.
func (s *Source) start(f Found, r *running, ended chan<- struct{}) error {
	p, i, err := s.bus.Open(s.ctx, f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	l := newLink(ctx, p, i, s.log.With("reader", f.Name))
	slots, present, err := s.slots(l, f.Name)
	if err != nil {
		cancel()
		return errors.Join(err, p.Reset(), p.Close())
	}
	r.cancel, r.ended, r.began = cancel, make(chan struct{}), time.Now()
	s.log.Info("card reader", "reader", f.Name, "level", i.Class.Level().String(), "slots", len(slots), "interrupts", i.Notify.Address != 0)
	go func() {
		defer func() {
			cancel()
			close(r.ended)
			select {
			case ended <- struct{}{}:
			default:
			}
		}()
		s.follow(l, slots, present)
	}()
	return nil
}

// slots asks each slot once what is in it.
func (s *Source) slots(l *link, name string) (slots []*slot, present []bool, err error) {
	n := int(l.i.Class.MaxSlotIndex) + 1
	if n > MaxSlots {
		s.log.Warn("card reader has more slots than are used", "reader", name, "slots", n, "used", MaxSlots)
	}
	for i := range min(n, MaxSlots) {
		sl := &slot{l: l, tell: s.events.Tell, name: name, number: byte(i), changes: make(chan ccid.Change, 64)}
		if n > 1 {
			sl.name = fmt.Sprintf("%s slot %d", name, i+1)
		}
		in, err := l.present(sl.number)
		if err != nil {
			return nil, nil, err
		}
		slots, present = append(slots, sl), append(present, in)
	}
	return slots, present, nil
}

// present asks for a slot's state. Who calls has the turn, or the link alone.
func (l *link) present(slot byte) (bool, error) {
	a, err := l.command(l.ctx, ccid.Simple(ccid.GetSlotStatus, slot, 0), ccid.SlotStatus, patience)
	var refused *ccid.SlotError
	switch {
	case errors.As(err, &refused):
		return refused.Icc != ccid.IccAbsent, nil
	case err != nil:
		return false, err
	}
	return a.Icc() != ccid.IccAbsent, nil
}

// follow tells what happens at a reader until it is gone or closed.
func (s *Source) follow(l *link, slots []*slot, present []bool) {
	for _, sl := range slots {
		s.events.Tell(reader.Event{Kind: reader.ReaderAdded, Reader: sl.name})
	}
	var wg sync.WaitGroup
	for i, sl := range slots {
		wg.Go(func() { sl.run(present[i]) })
	}
	if l.i.Notify.Address != 0 {
		l.listen(slots)
	} else {
		l.poll(slots, slices.Clone(present))
	}
	wg.Wait()
	<-l.turn // an exchange that runs ends, as its context did
	l.close(slots)
	for _, sl := range slots {
		s.events.Tell(reader.Event{Kind: reader.ReaderRemoved, Reader: sl.name})
	}
}

// listen takes the messages of the interrupt pipe.
func (l *link) listen(slots []*slot) {
	// One packet: a larger transfer would not end with a message that fills it.
	b := make([]byte, l.i.Notify.Packet)
	for {
		n, err := l.p.Notify(l.ctx, b)
		switch {
		case l.ctx.Err() != nil:
			return
		case err != nil:
			_ = l.fail(err)
			return
		case n == 0:
			continue
		}
		i, err := ccid.ParseInterrupt(b[:n])
		if err != nil {
			l.log.Debug("card reader: interrupt", "err", err)
			continue
		}
		if i.Fault != nil {
			l.log.Warn("card reader has a hardware fault", "slot", i.Fault.Slot, "code", i.Fault.Code)
			continue
		}
		for n, c := range i.Slots[:min(len(i.Slots), len(slots))] {
			select {
			case slots[n].changes <- c:
			case <-l.ctx.Done():
				return
			}
		}
	}
}

// poll asks for the slots' states where there is no interrupt pipe.
func (l *link) poll(slots []*slot, present []bool) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		for i, sl := range slots {
			if l.begin(l.ctx) != nil {
				return
			}
			in, err := l.present(sl.number)
			l.done()
			if err != nil {
				return
			}
			if in == present[i] {
				continue
			}
			present[i] = in
			select {
			case sl.changes <- ccid.Change{Present: in}:
			case <-l.ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			return
		}
	}
}

// close powers the slots off, so that a PIN that was verified is none for who
// opens the reader next, or resets a reader that broke the protocol.
func (l *link) close(slots []*slot) {
	cause := context.Cause(l.ctx)
	switch {
	case errors.Is(cause, ErrGone):
		l.log.Info("card reader unplugged")
	case errors.Is(cause, context.Canceled):
		// On a context of its own, as the link's has ended.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, sl := range slots {
			c := ccid.Simple(ccid.IccPowerOff, sl.number, 0)
			c.Seq = l.seq
			l.seq++
			if _, err := l.ask(ctx, c, ccid.SlotStatus, time.Second); err != nil {
				break // it is unplugged, or in the middle of what was not answered
			}
		}
	default:
		l.log.Warn("card reader failed and is reset", "err", cause)
		if err := l.p.Reset(); err != nil {
			l.log.Info("card reader: reset", "err", err)
		}
	}
	if err := l.p.Close(); err != nil {
		l.log.Debug("card reader: closing", "err", err)
	}
}
