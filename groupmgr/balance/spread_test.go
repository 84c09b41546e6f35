package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// joins lets 100 users come within 30 s to 10 hosts that say their figures
// every 20 s and not once more in between, so that they are up to 20 s old.
// entry picks the host whose gateway a user comes to. It returns the sessions
// that the fullest host has in the end; took is how long a session takes to
// show in its own host's figures.
func joins(seed uint64, took time.Duration, entry func(*rand.Rand) int) int {
	const hosts, users, period = 10, 100, 20 * time.Second
	rnd := rand.New(rand.NewPCG(seed, 9))
	type session struct {
		host int
		at   time.Time
	}
	var all []session
	var balancers [hosts]*Balancer
	var said [hosts]Candidate
	var due [hosts]time.Time
	count := func(h int, now time.Time) (n int) {
		for _, s := range all {
			if s.host == h && !now.Before(s.at.Add(took)) {
				n++
			}
		}
		return n
	}
	exact := func(h int) (n int) { // with what is promised
		for _, s := range all {
			if s.host == h {
				n++
			}
		}
		return n
	}
	for h := range hosts {
		balancers[h] = New(rand.New(rand.NewPCG(seed, uint64(h))))
		said[h] = idle(fmt.Sprintf("h%d", h))
		due[h] = start.Add(time.Duration(rnd.Int64N(int64(period))))
	}
	for range users {
		at := start.Add(time.Duration(rnd.Int64N(int64(30 * time.Second))))
		all = append(all, session{-1, at})
	}
	for i := range all { // by time: the smallest of the rest next
		for j := i + 1; j < users; j++ {
			if all[j].at.Before(all[i].at) {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	for i := range all {
		now := all[i].at
		for h := range hosts {
			for !due[h].After(now) {
				said[h].Load.Sessions, said[h].Heard = count(h, due[h]), due[h]
				due[h] = due[h].Add(period)
			}
		}
		at := entry(rnd)
		candidates := append([]Candidate(nil), said[:]...)
		self := &candidates[at]
		self.Self, self.Heard, self.Load.Sessions = true, now, exact(at)
		name, _ := balancers[at].Place(now, candidates)
		fmt.Sscanf(name, "h%d", &all[i].host)
	}
	most := 0
	for h := range hosts {
		n := 0
		for _, s := range all {
			if s.host == h {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// Nobody herds on stale figures: where one gateway places 100 users and hears
// of the others every 20 s only, no host gets more than 1.5 times its share.
// That many gateways do not herd either is up to fresh figures: package engine.
func TestStaleFigures(t *testing.T) {
	const runs = 200
	for _, took := range []time.Duration{0, time.Second, 4 * time.Second} {
		worst, sum := 0, 0
		for seed := range uint64(runs) {
			n := joins(seed, took, func(*rand.Rand) int { return 0 })
			worst, sum = max(worst, n), sum+n
		}
		t.Logf("sessions show after %2v: the fullest of 10 hosts has of 100 sessions: mean %.1f, worst of %d runs %d", took, float64(sum)/runs, runs, worst)
		if worst > 15 {
			t.Errorf("%v: one host got %d of 100 sessions", took, worst)
		}
	}
}
