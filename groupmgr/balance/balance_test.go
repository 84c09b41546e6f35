package balance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/group"
)

var start = time.Unix(1700000000, 0)

func newBalancer() *Balancer { return New(rand.New(rand.NewPCG(1, 2))) }

func idle(name string) Candidate {
	return Candidate{Name: name, Self: name == "self", CPUs: 4, Load: group.Load{Memory: 16000, Free: 12000}, State: group.Online, Heard: start}
}

func with(c Candidate, f func(*Candidate)) Candidate { f(&c); return c }

func TestShare(t *testing.T) {
	for _, tc := range []struct {
		c     Candidate
		extra int
		want  float64
	}{
		{Candidate{CPUs: 4}, 0, 1},
		{Candidate{CPUs: 4, Load: group.Load{Sessions: 10}}, 0, 0.75},
		{Candidate{CPUs: 4, Load: group.Load{Sessions: 10}}, 10, 0.5},
		{Candidate{CPUs: 4, Load: group.Load{Sessions: 100}}, 0, 0},
		{Candidate{CPUs: 4, Load: group.Load{Sessions: 1, Limit: 4}}, 1, 0.5},
		{Candidate{CPUs: 4, Load: group.Load{Sessions: 10, Limit: 100}}, 0, 0.75},
		{Candidate{CPUs: 4, Load: group.Load{Busy: 400}}, 0, 0.5},
		{Candidate{CPUs: 4, Load: group.Load{Busy: 99999}}, 0, 0},
		{Candidate{CPUs: 4, Load: group.Load{Memory: 1024, Free: 512}}, 0, 0.5},
		{Candidate{CPUs: 4, Load: group.Load{Memory: 1024, Free: 512}}, 1, 0.25},
		{Candidate{}, 0, 1},
	} {
		if got := Share(tc.c, tc.extra); got != tc.want {
			t.Errorf("%+v, %d more: got %v, want %v", tc.c, tc.extra, got, tc.want)
		}
	}
}

func TestPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts []Candidate
		want  string
	}{
		"alone":                    {[]Candidate{idle("self")}, "self"},
		"two empty hosts":          {[]Candidate{idle("a"), idle("self")}, "self"},
		"a little busier":          {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Busy = 100 })}, "self"},
		"much busier":              {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Busy = 500 })}, "a"},
		"all busy":                 {[]Candidate{with(idle("a"), func(c *Candidate) { c.Load.Busy = 9000 }), with(idle("self"), func(c *Candidate) { c.Load.Busy = 9900 })}, "self"},
		"little memory":            {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Free = 1000 })}, "a"},
		"two sessions more":        {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Sessions = 2 })}, "self"},
		"three sessions more":      {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Sessions = 3 })}, "a"},
		"offline":                  {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.State = group.Offline })}, "a"},
		"at its limit":             {[]Candidate{idle("a"), with(idle("self"), func(c *Candidate) { c.Load.Sessions, c.Load.Limit = 4, 4 })}, "a"},
		"barred":                   {[]Candidate{idle("a"), with(idle("b"), func(c *Candidate) { c.Barred = true }), with(idle("self"), func(c *Candidate) { c.Barred = true })}, "a"},
		"this host is not reached": {[]Candidate{idle("a")}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, why := newBalancer().Place(start, tc.hosts); got != tc.want || why != "" {
				t.Errorf("got %q, %q, want %q", got, why, tc.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	off := with(idle("a"), func(c *Candidate) { c.State = group.Offline })
	full := with(idle("b"), func(c *Candidate) { c.Load.Sessions, c.Load.Limit = 4, 4 })
	barred := with(idle("c"), func(c *Candidate) { c.Barred = true })
	for want, hosts := range map[string][]Candidate{
		"no server that you may use can be reached":         {barred},
		"can be reached and that you may use is offline":    {barred, off},
		"and that you may use are full (1 full, 1 offline)": {barred, off, full},
		"no server of the group can be reached":             nil,
		"every server that can be reached is offl":          {off},
		"are full (1 full, 0 offline)":                      {full},
		"are full (1 full, 1 offline)":                      {full, off},
	} {
		if got, why := newBalancer().Place(start, hosts); got != "" || !strings.Contains(why, want) {
			t.Errorf("got %q, %q, want %q", got, why, want)
		}
	}
}

// Placements count at once, until the host's own figures can show them.
func TestPlacementsCount(t *testing.T) {
	b := newBalancer()
	host := with(idle("a"), func(c *Candidate) { c.Load.Limit = 3 })
	place := func(now time.Time, want string) {
		t.Helper()
		if got, _ := b.Place(now, []Candidate{host}); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	for range 3 {
		place(start, "a")
	}
	place(start, "")
	host.Heard = start.Add(time.Second) // too soon to tell
	place(start.Add(time.Second), "")
	host.Heard = start.Add(2 * time.Second)
	place(start.Add(2*time.Second), "a") // its figures say that none came
	host.Load.Sessions = 3
	place(start.Add(20*time.Second), "")
	host.Load.Sessions = 2
	host.Heard = start.Add(3 * time.Second)
	place(start.Add(20*time.Second), "")
	place(start.Add(36*time.Second), "a") // a promise that nobody took up is over
	if len(b.placed) != 1 || len(b.placed["a"]) != 1 {
		t.Fatalf("%v", b.placed)
	}
	// This host's own figures are exact.
	host.Self, host.Heard = true, start.Add(40*time.Second)
	for range 3 {
		place(start.Add(40*time.Second), "a")
	}
}

// What is only asked for takes no room.
func TestPick(t *testing.T) {
	b := newBalancer()
	host := with(idle("a"), func(c *Candidate) { c.Load.Limit = 1 })
	for range 3 {
		if got, why := b.Pick(start, []Candidate{host}); got != "a" || why != "" {
			t.Errorf("got %q, %q", got, why)
		}
	}
	if len(b.placed) != 0 {
		t.Errorf("%v", b.placed)
	}
}

// With figures that never change all placements are still spread.
func TestNoHerd(t *testing.T) {
	b := newBalancer()
	var hosts []Candidate
	for i := range 10 {
		hosts = append(hosts, idle(fmt.Sprintf("h%d", i)))
	}
	got := map[string]int{}
	for range 100 {
		h, _ := b.Place(start, hosts)
		got[h]++
	}
	for h, n := range got {
		if n > 15 {
			t.Errorf("%s got %d of 100 sessions for 10 hosts", h, n)
		}
	}
}
