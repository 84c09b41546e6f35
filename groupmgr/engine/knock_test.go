package engine

import (
	"fmt"
	"testing"
	"time"

	"hotdesk/protocol/group/local"
)

// TestDeafHost: the programs of a host were killed. It does not answer, and its
// kernel refuses connections: a lookup is over when it was asked twice.
func TestDeafHost(t *testing.T) {
	w, a, _ := two(t)
	w.run(time.Second)
	w.cut["b"] = true
	var knocks []Knock
	w.knock = func(from *host, k Knock) {
		knocks = append(knocks, k)
		w.step(from, Deaf{Host: k.Host})
	}
	got, took := w.lookup(a, "card.1", "10.0.0.50")
	if got.Where != local.New || took < 20*time.Millisecond || took > 22*time.Millisecond {
		t.Errorf("got %+v after %v", got, took)
	}
	if table := a.Table(w.now, local.TableRequest{}); !table.Hosts[1].Suspect {
		t.Errorf("it is not suspect:\n%s", table)
	}
	if len(knocks) != 1 || knocks[0].Host != "b" || len(knocks[0].At) == 0 {
		t.Errorf("knocked at %v", knocks)
	}
}

// TestKnockFindsSomebody: while anything listens, a host is waited for.
func TestKnockFindsSomebody(t *testing.T) {
	w, a, _ := two(t)
	w.run(time.Second)
	w.cut["b"] = true
	knocks := 0
	w.knock = func(*host, Knock) { knocks++ }
	got, took := w.lookup(a, "card.1", "10.0.0.50")
	if got.Where != local.New || took < 149*time.Millisecond || knocks != 1 {
		t.Errorf("got %+v after %v and %d knocks", got, took, knocks)
	}
}

// TestKnockIsSeldom: a host that answers is not knocked at, and a word about a
// host that nobody asked for changes nothing.
func TestKnockIsSeldom(t *testing.T) {
	w, a, b := two(t)
	w.step(b, Report{[]local.Session{w.session(b, s2, "card.1", 0)}})
	w.run(time.Second)
	w.knock = func(_ *host, k Knock) { t.Errorf("knocked at %v", k) }
	w.step(a, Deaf{Host: "b"})
	w.step(a, Deaf{Host: "nobody"})
	if got, _ := w.lookup(a, "card.1", "10.0.0.50"); got.Where != local.There || got.Session != s2 {
		t.Errorf("got %+v", got)
	}
	if table := fmt.Sprint(a.Table(w.now, local.TableRequest{}).Hosts[1].Suspect); table != "false" {
		t.Error("it is suspect")
	}
}
