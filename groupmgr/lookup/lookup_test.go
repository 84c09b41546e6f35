package lookup

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
)

var start = time.Unix(1700000000, 0)

const ms = time.Millisecond

func at(d time.Duration) time.Time { return start.Add(d) }

func session(id byte, ago time.Duration) group.Found {
	b := slices.Repeat([]byte{id}, 16)
	return group.Found{ID: alp.SessionID(b), State: group.Disconnected, Ago: ago}
}

var abc = []Ask{{"a", false}, {"b", false}, {"c", false}}

// asks runs l by its own times until it settles, and lists who is asked when.
func asks(l *Lookup, until time.Duration) map[time.Duration][]string {
	sent := map[time.Duration][]string{}
	now := start
	for {
		if hosts := l.Tick(now); hosts != nil {
			sent[now.Sub(start)] = hosts
		}
		if l.Settled() || l.Next().After(at(until)) {
			return sent
		}
		now = l.Next()
	}
}

func TestSilence(t *testing.T) {
	l := New(start, "self", nil, abc)
	got := asks(l, time.Second)
	want := map[time.Duration][]string{0: {"a", "b", "c"}, 20 * ms: {"a", "b", "c"}, 60 * ms: {"a", "b", "c"}}
	if !reflect.DeepEqual(got, want) || !l.Settled() || !l.Next().IsZero() {
		t.Fatalf("got %v", got)
	}
	if m := l.Missing(); !slices.Equal(m, []string{"a", "b", "c"}) {
		t.Fatalf("missing %v", m)
	}
	if _, ok := l.Best(); ok {
		t.Fatal("found something")
	}
}

func TestOnlyThoseWhoDidNotAnswerAreAskedAgain(t *testing.T) {
	l := New(start, "self", nil, abc)
	l.Tick(start)
	l.Answer(at(1*ms), "b", nil, false, "")
	got := asks(l, 30*ms)
	if !reflect.DeepEqual(got, map[time.Duration][]string{20 * ms: {"a", "c"}}) && !reflect.DeepEqual(got[20*ms], []string{"a", "c"}) {
		t.Fatalf("got %v", got)
	}
	l.Answer(at(31*ms), "a", nil, false, "")
	l.Answer(at(32*ms), "a", []group.Found{session('9', 0)}, false, "") // once only
	l.Answer(at(33*ms), "nobody", []group.Found{session('9', 0)}, false, "")
	if l.Settled() {
		t.Fatal("settled without c")
	}
	l.Answer(at(34*ms), "c", []group.Found{session('1', time.Hour)}, false, "")
	if !l.Settled() || l.Missing() != nil {
		t.Fatal("all have answered")
	}
	l.Answer(at(35*ms), "c", []group.Found{session('9', 0)}, false, "")
	if best, _ := l.Best(); best.Host != "c" || best.Session.ID != "1111111111111111" || best.Last != at(34*ms-time.Hour) {
		t.Fatalf("got %+v", best)
	}
}

func TestSuspectsAreAskedAndNotWaitedFor(t *testing.T) {
	l := New(start, "self", nil, []Ask{{"a", true}, {"b", false}})
	if hosts := l.Tick(start); !slices.Equal(hosts, []string{"a", "b"}) {
		t.Fatalf("asked %v", hosts)
	}
	l.Answer(at(ms), "b", nil, false, "")
	if !l.Settled() || l.Missing() != nil {
		t.Fatal("waits for a suspect")
	}
	// With nobody else it is settled from the start; it is asked all the same,
	// so that its answer tells that it lives.
	l = New(start, "self", nil, []Ask{{"a", true}})
	if hosts := l.Tick(start); !l.Settled() || !slices.Equal(hosts, []string{"a"}) {
		t.Fatalf("asked %v", hosts)
	}
	if hosts := l.Tick(at(20 * ms)); hosts != nil {
		t.Fatalf("asked %v again", hosts)
	}
}

func TestAlone(t *testing.T) {
	l := New(start, "self", []group.Found{session('1', 0)}, nil)
	if best, ok := l.Best(); !l.Settled() || !ok || best.Host != "self" || l.Tick(start) != nil {
		t.Fatalf("got %+v", best)
	}
}

func TestBest(t *testing.T) {
	promise := group.Found{State: group.Starting}
	for name, tc := range map[string]struct {
		own, a, b []group.Found
		host      string
		id        alp.SessionID
	}{
		"latest is ours":          {own: []group.Found{session('1', time.Second)}, a: []group.Found{session('2', time.Minute)}, host: "self", id: "1111111111111111"},
		"latest is theirs":        {own: []group.Found{session('1', time.Hour)}, a: []group.Found{session('2', time.Minute)}, host: "a", id: "2222222222222222"},
		"several of one host":     {a: []group.Found{session('1', time.Hour), session('2', time.Minute)}, b: []group.Found{session('3', time.Second)}, host: "b", id: "3333333333333333"},
		"a promise":               {a: []group.Found{promise}, host: "a"},
		"a promise yields":        {a: []group.Found{promise}, b: []group.Found{session('3', time.Hour)}, host: "b", id: "3333333333333333"},
		"a tie is told by names":  {a: []group.Found{session('4', 0)}, b: []group.Found{session('3', 0)}, host: "b", id: "3333333333333333"},
		"a tie of one host's own": {a: []group.Found{session('4', 0), session('3', 0)}, host: "a", id: "4444444444444444"},
	} {
		l := New(start, "self", tc.own, abc[:2])
		l.Tick(start)
		l.Answer(at(ms), "a", tc.a, false, "")
		l.Answer(at(ms), "b", tc.b, false, "")
		if best, ok := l.Best(); !ok || !l.Settled() || best.Host != tc.host || best.Session.ID != tc.id {
			t.Errorf("%s: got %+v", name, best)
		}
	}
}

// A host that asks too and goes first is asked until it has decided, not for ever.
func TestOneThatGoesFirst(t *testing.T) {
	l := New(start, "self", nil, abc)
	l.Tick(start)
	l.Answer(at(ms), "a", nil, true, "")
	l.Answer(at(ms), "b", nil, false, "")
	l.Answer(at(ms), "c", nil, false, "")
	if got := asks(l, 100*ms); l.Settled() || !reflect.DeepEqual(got[60*ms], []string{"a"}) || !reflect.DeepEqual(got[85*ms], []string{"a"}) {
		t.Fatalf("got %v", got)
	}
	l.Answer(at(101*ms), "a", nil, false, "c")
	if !l.Settled() || l.Placed() != "c" || l.Missing() != nil {
		t.Fatalf("placed %q", l.Placed())
	}
	// Also past Settle, where a silent one is missed, and it itself is not.
	l = New(start, "self", nil, abc)
	l.Tick(start)
	l.Answer(at(ms), "a", nil, true, "")
	l.Answer(at(ms), "b", nil, false, "")
	asks(l, 200*ms)
	if l.Settled() {
		t.Fatal("did not wait")
	}
	asks(l, time.Second)
	if l.ticked != at(Patience) || !l.Settled() || !slices.Equal(l.Missing(), []string{"c"}) {
		t.Fatalf("settled at %v, missing %v", l.ticked.Sub(start), l.Missing())
	}
	// What it has counts at once.
	l = New(start, "self", nil, abc[:1])
	l.Tick(start)
	l.Answer(at(ms), "a", []group.Found{session('1', 0)}, true, "")
	if best, ok := l.Best(); !ok || !l.Settled() || best.Host != "a" {
		t.Fatalf("got %+v", best)
	}
}

// Of two who wait for a host that is starting, the one that goes first decides
// before the other gives up waiting for it.
func TestStartingHost(t *testing.T) {
	first := New(start, "a", nil, []Ask{{Host: "b"}, {Host: "c"}})
	second := New(start, "b", nil, []Ask{{Host: "a"}, {Host: "c"}})
	first.Answer(start, "b", nil, false, "")
	second.Answer(start, "a", nil, true, "")
	for _, l := range []*Lookup{first, second} {
		l.Starts(start, "c")
	}
	if at := start.Add(StartPatience - time.Millisecond); len(first.Tick(at)) == 0 || first.Settled() {
		t.Fatal("it does not wait for the host that is starting, or does not ask it")
	}
	at := start.Add(StartPatience)
	first.Tick(at)
	second.Tick(at)
	if !first.Settled() || second.Settled() {
		t.Fatalf("first settled %v, second %v", first.Settled(), second.Settled())
	}
	second.Answer(at, "a", nil, false, "a")
	if second.Tick(at); !second.Settled() || second.Placed() != "a" {
		t.Fatal("the second does not follow")
	}
}

// Where a host is silent, those that had nothing are asked once more: meanwhile
// a session may have come to them.
func TestAskedOnceMore(t *testing.T) {
	begin := func() *Lookup {
		l := New(start, "self", nil, abc)
		l.Tick(start)
		l.Answer(at(ms), "a", nil, false, "")
		l.Answer(at(2*ms), "b", nil, false, "")
		if got := asks(l, 160*ms); l.Settled() || !reflect.DeepEqual(got[Settle], []string{"a", "b"}) {
			t.Fatalf("got %v", got)
		}
		return l
	}
	l := begin()
	l.Answer(at(151*ms), "a", nil, false, "")
	l.Answer(at(152*ms), "b", []group.Found{session('1', 0)}, false, "")
	if best, ok := l.Best(); !ok || best.Host != "b" || !l.Settled() || !slices.Equal(l.Missing(), []string{"c"}) {
		t.Errorf("found %+v, missing %v", best, l.Missing())
	}
	l = begin()
	l.Answer(at(151*ms), "a", nil, false, "")
	asks(l, time.Second)
	if !l.Settled() || l.ticked != at(Settle+Confirm) || !slices.Equal(l.Missing(), []string{"c"}) || !slices.Equal(l.Undecided(), []string{"b"}) {
		t.Errorf("settled at %v, missing %v, undecided %v", l.ticked.Sub(start), l.Missing(), l.Undecided())
	}
	// Who all have answered, or who are given up early, are not asked again.
	l = New(start, "self", nil, abc)
	l.Tick(start)
	l.Answer(at(ms), "a", nil, false, "")
	l.Answer(at(ms), "b", nil, false, "")
	l.GiveUp(at(30*ms), "c")
	if !l.Settled() {
		t.Error("waits for one that was given up")
	}
}
