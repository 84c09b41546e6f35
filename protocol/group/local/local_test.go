package local

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// Table A of seed 004, its first two hosts.
func TestTableA(t *testing.T) {
	table := Table{Hosts: []TableHost{
		{Host: "host05", LastSeen: 4, Addr: "8190a705", Trusted: true, State: "online", Interfaces: []TableInterface{
			{"ge0", "c0a88001", "ffffff00", "c0a880ff", 4}, {"hme0", "8190a705", "ffffff00", "8190a7ff", 4}}},
		{Host: "host22", LastSeen: 16, TimeOff: 25, Addr: "8190a716", Trusted: true, Interfaces: []TableInterface{
			{"le0", "8190a716", "ffffff00", "8190a7ff", 16}, {"qfe0", "c0a88101", "ffff0000", "c0a8ffff", -1}, {"qfe1", "c0a88201", "ffff0000", "c0a8ffff", -1}}},
		{Host: "host41", LastSeen: 90, TimeOff: -81, Addr: "8190a729", Trusted: true, Down: true, Suspect: true, State: "offline"},
		{Host: "rogue", Addr: "8190a729", Why: "group: not signed"},
	}}
	const want = `Host host05 lastseen 4 timeoff 0 addr 8190a705 numifs 2 TRUSTED
  interface ge0 ip c0a88001 mask ffffff00 bcast c0a880ff lastpkt 4
  interface hme0 ip 8190a705 mask ffffff00 bcast 8190a7ff lastpkt 4
Host host22 lastseen 16 timeoff 25 addr 8190a716 numifs 3 TRUSTED
  interface le0 ip 8190a716 mask ffffff00 bcast 8190a7ff lastpkt 16
  interface qfe0 ip c0a88101 mask ffff0000 bcast c0a8ffff lastpkt -1
  interface qfe1 ip c0a88201 mask ffff0000 bcast c0a8ffff lastpkt -1
Host host41 lastseen 90 timeoff -81 addr 8190a729 numifs 0 TRUSTED down suspect offline
Host rogue lastseen 0 timeoff 0 addr 8190a729 numifs 0 (group: not signed)
`
	if got := table.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestReportCheck(t *testing.T) {
	good := Session{ID: "0123456789abcdef", Token: "card.1"}
	for name, tc := range map[string]struct {
		report Report
		ok     bool
	}{
		"empty":      {Report{}, true},
		"one":        {Report{[]Session{good}}, true},
		"most":       {Report{many(good, MaxSessions)}, true},
		"too many":   {Report{many(good, MaxSessions+1)}, false},
		"bad id":     {Report{[]Session{{ID: "x", Token: "card.1"}}}, false},
		"bad token":  {Report{[]Session{{ID: good.ID, Token: "card"}}}, false},
		"second bad": {Report{[]Session{good, {ID: good.ID}}}, false},
	} {
		if err := tc.report.Check(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(s Session, n int) []Session {
	list := make([]Session, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func TestLookupCheck(t *testing.T) {
	good := Lookup{"card.1", "0003ba0a0b0c", netip.MustParseAddr("127.0.0.1")}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Lookup{{}, {"card", good.Terminal, good.Addr}, {good.Token, "x", good.Addr}, {good.Token, good.Terminal, netip.MustParseAddr("::1")}, {good.Token, good.Terminal, netip.Addr{}}} {
		if err := bad.Check(); err == nil || !strings.HasPrefix(err.Error(), "local: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What one side writes the other reads.
func TestBodiesKeepTheirForm(t *testing.T) {
	for want, v := range map[string]any{
		`{"controlPort":7443}`:                                         Hello{7443},
		`{"host":"mud","addr":"127.0.0.2"}`:                            Welcome{"mud", netip.MustParseAddr("127.0.0.2")},
		`{"where":"new","host":"mud"}`:                                 Answer{Where: New, Host: "mud"},
		`{"where":"there","target":"127.0.0.2:7443"}`:                  Answer{Where: There, Target: netip.MustParseAddrPort("127.0.0.2:7443")},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1"}`: Lookup{"a.b", "0003ba0a0b0c", netip.MustParseAddr("127.0.0.1")},
		`{"ok":true}`: Verified{OK: true},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"sessions":[{"id":"0123456789abcdef","token":"card.1","connected":true,"last":1}]}`))
	f.Add([]byte(`{"token":"card.1","terminal":"0003ba0a0b0c","addr":"127.0.0.1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Report
		if json.Unmarshal(data, &r) == nil && r.Check() == nil {
			for _, s := range r.Sessions {
				if !s.Token.Valid() || !s.ID.Valid() {
					t.Fatalf("accepted %+v", s)
				}
			}
		}
		var l Lookup
		if json.Unmarshal(data, &l) == nil && l.Check() == nil && !l.Addr.Is4() {
			t.Fatalf("accepted %+v", l)
		}
	})
}
