package media

import (
	"runtime"
	"sync"
	"time"

	"hotdesk/server/session/encode"
)

const (
	// muchDamage is the damage of a View, in pixels, that more than one core is
	// worth: a page of photos, or a whole new screen.
	muchDamage = 1 << 20
	// calmAfter is how long no View must have had so much before one core does.
	calmAfter = time.Second
)

// cores gives the process one core while there is little to do, and all of them
// while there is much. Small frames are a chain of short steps: with several
// cores each step wakes another thread, which costs more than the step. So does
// each sign of life of a session at rest.
type cores struct {
	encode.Source
	all int

	mu   sync.Mutex
	many bool
	last time.Time // when there was much to do
}

func newCores(s encode.Source) *cores {
	c := &cores{Source: s, all: runtime.GOMAXPROCS(0)}
	runtime.GOMAXPROCS(1)
	return c
}

// View looks at the damage before it is encoded.
func (c *cores) View(f func(encode.View)) {
	c.Source.View(func(v encode.View) {
		pixels := 0
		for _, r := range v.Damage {
			pixels += r.Dx() * r.Dy()
		}
		if pixels >= muchDamage {
			c.expect()
		}
		f(v)
	})
}

// expect is that there will be much to do.
func (c *cores) expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if !c.many {
		c.many = true
		runtime.GOMAXPROCS(c.all)
		time.AfterFunc(calmAfter, c.calm)
	}
}

// calm makes it one core where there was not much for long enough: after the
// last View there may be none for hours.
func (c *cores) calm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := calmAfter - time.Since(c.last); left > 0 {
		time.AfterFunc(left, c.calm)
		return
	}
	c.many = false
	runtime.GOMAXPROCS(1)
}
