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
// cores each step wakes another thread, which costs more than the step.
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
		c.expect(time.Now(), pixels >= muchDamage)
		f(v)
	})
}

// expect changes the number of cores where that is due.
func (c *cores) expect(now time.Time, much bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if much {
		c.last = now
	}
	many := much || now.Sub(c.last) < calmAfter
	switch {
	case many == c.many:
	case many:
		runtime.GOMAXPROCS(c.all)
	default:
		runtime.GOMAXPROCS(1)
	}
	c.many = many
}
