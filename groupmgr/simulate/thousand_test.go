package simulate

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
)

// TestThousandHosts is a day at a big place: the hosts start together, the
// terminals are switched on within a minute, users come, move, and lose some
// hosts. In CI it is a smaller place.
func TestThousandHosts(t *testing.T) {
	hosts, units, users := 30, 2000, 200
	if testing.Short() {
		hosts, units, users = 20, 500, 50
	} else if long {
		hosts, units, users = 1000, 100000, 5000
	}
	w := New(1)
	w.faults = false
	core := w.Net("core")
	var lans []*Net
	for i := range max(hosts/20, 1) {
		lans = append(lans, w.Net(fmt.Sprintf("lan%d", i+1)))
	}
	for i := range hosts {
		w.Host(fmt.Sprintf("h%d", i), group.Ring{Key(1)}, core, lans[i%len(lans)])
	}
	for i := range units {
		w.Unit(fmt.Sprintf("t%d", i), lans[i%len(lans)])
	}
	done := func(what string) {
		t.Helper()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%v: %s; %d datagrams, %d steps, %d MiB", w.Now().Round(time.Second), what, w.Packets, w.Steps, m.HeapAlloc>>20)
		if len(w.Broken) > 0 {
			t.Fatal(w.Broken)
		}
	}
	for _, h := range w.hosts {
		w.after(time.Duration(w.rnd.Int64N(int64(time.Second))), h.On)
	}
	w.Run(3 * time.Second)
	w.Agree()
	done("all hosts know each other")

	minute := func() time.Duration { return time.Duration(w.rnd.Int64N(int64(time.Minute))) }
	for _, u := range w.units {
		w.after(minute(), u.On)
	}
	w.Run(70 * time.Second)
	done("all terminals are on")

	at := w.rnd.Perm(units)
	for i := range users {
		u := w.units[at[i]]
		w.after(minute(), func() { u.Insert(alp.Token(fmt.Sprintf("card.%d", i))) })
	}
	w.Run(90 * time.Second)
	if w.made != users {
		t.Errorf("%d sessions of %d users", w.made, users)
	}
	done("all users are at work")

	// Some go to another terminal of their net, where another host may serve.
	for i := range users / 10 {
		from := at[i]
		to := w.units[(from+len(lans)*(users+i))%units]
		w.after(minute(), w.units[from].Remove)
		w.after(minute()+time.Minute, func() {
			if to.card == 0 {
				to.Insert(alp.Token(fmt.Sprintf("card.%d", i)))
			}
		})
	}
	w.Run(3 * time.Minute)
	if w.made != users {
		t.Errorf("%d sessions of %d users: some have two", w.made, users)
	}
	done("some have moved")

	most, least := 0, users
	for _, h := range w.hosts {
		most, least = max(most, len(h.run)), min(least, len(h.run))
	}
	t.Logf("sessions of a host: %d to %d, mean %d", least, most, users/hosts)

	for i := range hosts / 20 {
		h := w.hosts[i*17%hosts]
		w.after(minute()/6, h.Crash)
	}
	w.Run(Down + Period + 30*time.Second)
	w.Agree()
	w.Rest()
	done("one host in twenty is dead, its terminals are served elsewhere")
}
