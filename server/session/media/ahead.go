package media

import (
	"log/slog"
	"time"

	"hotdesk/server/session/encode"
)

const (
	// aheadAfter is how long after a terminal the picture for the next is made: a
	// card that is there already is not held up by it.
	aheadAfter = 100 * time.Millisecond
	// aheadAgain is how long after a change it is looked at again, for the first
	// time; each time after that is twice as long, up to aheadSeldom: a film that
	// nobody sees costs next to nothing.
	aheadAgain  = 2 * time.Second
	aheadSeldom = 5 * time.Minute
)

// An ahead makes the first picture of the next terminal while there is none,
// for coding it takes longer than all else that a card waits for. What changes
// later is found when the terminal is there; only what has changed by too much,
// or at the wrong moment, is coded then.
//
// gone and take are called in turns, gone first. While it works it is the only
// one to look at the source.
type ahead struct {
	source encode.Source
	made   func() // is called after each picture: it has left memory to tidy
	log    *slog.Logger

	enc  *encode.Encoder // with the picture; nil: none. For others when run has ended
	stop chan struct{}   // nil: it does not work
	done chan struct{}
}

// gone begins, when a terminal has gone.
func (a *ahead) gone() {
	a.stop, a.done = make(chan struct{}), make(chan struct{})
	go a.run(a.stop)
}

// take ends it, when a terminal has come, and gives what was made; nil: nothing.
func (a *ahead) take() *encode.Encoder {
	if a.stop == nil {
		return nil
	}
	close(a.stop)
	<-a.done
	enc := a.enc
	a.stop, a.enc = nil, nil
	return enc
}

func (a *ahead) run(stop <-chan struct{}) {
	defer close(a.done)
	timer := time.NewTimer(aheadAfter)
	defer timer.Stop()
	rest := time.NewTimer(encode.CompactEvery)
	defer rest.Stop()
	for pause := aheadAgain; ; pause = min(2*pause, aheadSeldom) {
		select {
		case <-timer.C:
		case <-stop:
			return
		}
		if !a.make() {
			return
		}
		rest.Reset(encode.CompactEvery)
		for still := true; still; {
			select {
			case <-rest.C:
				if again := a.enc.Compact(); again > 0 {
					rest.Reset(again)
				}
			case <-a.source.Changed():
				timer.Reset(pause)
				still = false
			case <-stop:
				return
			}
		}
	}
}

// make makes the picture, or brings it up to what is shown, and reports whether
// there is one.
func (a *ahead) make() (ok bool) {
	if a.enc == nil {
		var err error
		if a.enc, err = encode.NewEncoder(); err != nil {
			a.log.Warn("no picture is made in advance", "err", err)
			return false
		}
	}
	a.source.View(func(v encode.View) { ok = a.enc.Prepare(v) })
	if !ok { // it is too large, or the screen is gone
		a.enc.Close()
		a.enc = nil
	}
	a.made()
	return ok
}
