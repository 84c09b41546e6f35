package local

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// tableA is Table A of seed 004.
const tableA = `
Host host05 lastseen 4 timeoff 0 addr 8190a705 numifs 2 TRUSTED
  interface ge0 ip c0a88001 mask ffffff00 bcast c0a880ff lastpkt 4
  interface hme0 ip 8190a705 mask ffffff00 bcast 8190a7ff lastpkt 4
Host host22 lastseen 16 timeoff 25 addr 8190a716 numifs 3 TRUSTED
  interface le0 ip 8190a716 mask ffffff00 bcast 8190a7ff lastpkt 16
  interface qfe0 ip c0a88101 mask ffff0000 bcast c0a8ffff lastpkt -1
  interface qfe1 ip c0a88201 mask ffff0000 bcast c0a8ffff lastpkt -1
Host host21 lastseen 15 timeoff 43 addr 8190a715 numifs 2 TRUSTED
  interface hme0 ip 8190a715 mask ffffff00 bcast 8190a7ff lastpkt 15
  interface hme1 ip c0a88001 mask ffff0000 bcast c0a8ffff lastpkt -1
Host mud lastseen 1 timeoff 39 addr 81907f05 numifs 2 TRUSTED
  interface hme0 ip 81907f05 mask ffffff00 bcast 81907fff lastpkt -1
  interface ge0 ip c0a88003 mask ffffff00 bcast c0a880ff lastpkt 1
Host host45 lastseen 18 timeoff 26 addr 8190a72d numifs 2 TRUSTED
  interface hme0 ip 8190a72d mask ffffff00 bcast 8190a7ff lastpkt 18
  interface hme1 ip c0a88001 mask ffffff00 bcast c0a880ff lastpkt -1
Host host41 lastseen 18 timeoff -81 addr 8190a729 numifs 2 TRUSTED
  interface hme0 ip 8190a729 mask ffffff00 bcast 8190a7ff lastpkt 18
  interface le0 ip c0a88001 mask ffffff00 bcast c0a880ff lastpkt -1
`

func TestTableA(t *testing.T) {
	var table Table
	for line := range strings.Lines(strings.TrimPrefix(tableA, "\n")) {
		var h TableHost
		var i TableInterface
		var n int
		if _, err := fmt.Sscanf(line, "Host %s lastseen %d timeoff %d addr %s numifs %d TRUSTED", &h.Host, &h.LastSeen, &h.TimeOff, &h.Addr, &n); err == nil {
			h.Trusted, h.State = true, Online
			table.Hosts = append(table.Hosts, h)
		} else if _, err := fmt.Sscanf(line, "  interface %s ip %s mask %s bcast %s lastpkt %d", &i.Name, &i.IP, &i.Mask, &i.Bcast, &i.LastPkt); err == nil {
			last := &table.Hosts[len(table.Hosts)-1]
			last.Interfaces = append(last.Interfaces, i)
		} else {
			t.Fatalf("%q: %v", line, err)
		}
	}
	if got := table.String(); "\n"+got != tableA {
		t.Errorf("got\n%swant%s", got, tableA)
	}
}

func TestTableNotes(t *testing.T) {
	table := Table{Hosts: []TableHost{
		{Host: "host41", LastSeen: 90, TimeOff: -81, Addr: "8190a729", Trusted: true, Down: true, Suspect: true, State: "offline"},
		{Host: "host42", Addr: "8190a729", Trusted: true, Down: true, Stopped: true, State: "gone"},
		{Host: "host43", Addr: "8190a729", Trusted: true, Down: true, State: "down", Duplicate: "two hosts say this name"},
		{Host: "rogue", Addr: "8190a729", Why: "group: not signed", Interfaces: []TableInterface{{"le0", "8190a716", "ffffff00", "8190a7ff", 16}}},
	}}
	const want = `Host host41 lastseen 90 timeoff -81 addr 8190a729 numifs 0 TRUSTED
  note down, suspect, offline
Host host42 lastseen 0 timeoff 0 addr 8190a729 numifs 0 TRUSTED
  note stopped
Host host43 lastseen 0 timeoff 0 addr 8190a729 numifs 0 TRUSTED
  note down, two hosts say this name
Host rogue lastseen 0 timeoff 0 addr 8190a729 numifs 1
  interface le0 ip 8190a716 mask ffffff00 bcast 8190a7ff lastpkt 16
  note group: not signed
`
	if got := table.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestState(t *testing.T) {
	for name, tc := range map[string]struct {
		r    StateRequest
		want string
	}{
		"online":            {StateRequest{State: Online}, ""},
		"offline":           {StateRequest{State: Offline}, ""},
		"with a deadline":   {StateRequest{State: Offline, Within: 1800}, ""},
		"down":              {StateRequest{State: Down}, ""},
		"none":              {StateRequest{}, "online, offline or down"},
		"gone is not asked": {StateRequest{State: "gone"}, "online, offline or down"},
		"past":              {StateRequest{State: Offline, Within: -1}, "at most 31536000"},
		"far":               {StateRequest{State: Offline, Within: 31536001}, "at most 31536000"},
		"deadline of down":  {StateRequest{State: Down, Within: 1}, "for offline only"},
	} {
		if err := tc.r.Check(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := (State{Offline, 1700000000, 3}).String(); got != "offline, 3 sessions here, down at 2023-11-14T22:13:20Z" {
		t.Error(got)
	}
	if got := (State{State: Online}).String(); got != "online, 0 sessions here" {
		t.Error(got)
	}
}

func TestStatus(t *testing.T) {
	s := Status{
		Host: "mud", Addr: "10.0.0.5", Port: 7009, State: State{Online, 0, 2}, Gateway: 7443, Alg: "hmac-sha1",
		Keys: []Key{{"11223344", true}, {"55667788", false}}, Broadcast: true, Multicast: "239.255.70.9",
		Peers: []Peer{{"10.9.0.1:7009", "far", 3, true}, {"10.8.0.1:7009", "", -1, true}, {"10.7.0.1:7009", "shy", 1, false}}, Trusted: 4, Down: 1,
		Untrusted:  []Other{{"rogue", "10.0.0.66", 5, "group: not signed"}},
		Duplicates: []Other{{"a", "10.0.0.7", 2, "address 10.0.0.7 is also that of b"}},
		Counters:   Counters{Hosts: 9, Sent: 4, SentBytes: 2000},
	}
	const want = `host       mud addr 10.0.0.5 port 7009
state      online, 2 sessions here
gateway    control port 7443
key        11223344 signs with hmac-sha1
key        55667788 verifies
broadcast  on
multicast  239.255.70.9
peer       10.9.0.1:7009 configured host far lastseen 3
peer       10.8.0.1:7009 configured, nothing heard from there
peer       10.7.0.1:7009 learned host shy lastseen 1
hosts      4 trusted, 1 of them down, 0 suspect
untrusted  rogue from 10.0.0.66 lastseen 5: group: not signed
duplicate  a from 10.0.0.7 lastseen 2: address 10.0.0.7 is also that of b
received   9 host messages (0 not trusted), 0 tokenQ, 0 tokenR, 0 serverQ (0 over the rate), 0 refused, 0 not readable
sent       4 messages, 2000 bytes
lookups    0
`
	if got := s.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := (Status{}).String(); !strings.Contains(got, "none: start server") || !strings.Contains(got, "broadcast  off") {
		t.Error(got)
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
	good := Lookup{Token: "card.1", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1")}
	hosts := func(names ...string) Lookup { l := good; l.Hosts = names; return l }
	access := func(names ...string) Lookup {
		l := good
		for _, n := range names {
			l.Access = append(l.Access, Access{Host: n, Deny: true})
		}
		return l
	}
	for _, good := range []Lookup{good, access("north", "*"), hosts("north", "so*"), {Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantPlace},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Proven: "piv-card"},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantPlace, Another: true},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantSession, Session: "0123456789abcdef", Host: "south"}} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Lookup{{}, {Token: "card", Terminal: good.Terminal, Addr: good.Addr}, {Token: good.Token, Terminal: "x", Addr: good.Addr}, {Token: good.Token, Terminal: good.Terminal, Addr: netip.MustParseAddr("::1")}, {Token: good.Token, Terminal: good.Terminal},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: "all"}, {Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantSession},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantSession, Session: "0123456789abcdef"},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Want: WantSession, Session: "x", Host: "south"},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Session: "0123456789abcdef", Host: "south"},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Proven: strings.Repeat("x", maxProven+1)},
		{Token: good.Token, Terminal: good.Terminal, Addr: good.Addr, Another: true},
		access(""), access(strings.Repeat("x", maxPattern+1)), access(make([]string, MaxHosts+1)...),
		hosts(""), hosts(strings.Repeat("x", maxPattern+1)), hosts(make([]string, MaxHosts+1)...)} {
		if err := bad.Check(); err == nil || !strings.HasPrefix(err.Error(), "local: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What one side writes the other reads.
func TestBodiesKeepTheirForm(t *testing.T) {
	for want, v := range map[string]any{
		`{"controlPort":7443}`:                                                                                             Hello{7443},
		`{"host":"mud","addr":"127.0.0.2"}`:                                                                                Welcome{Host: "mud", Addr: netip.MustParseAddr("127.0.0.2")},
		`{"state":"offline","within":1800}`:                                                                                StateRequest{Offline, 1800},
		`{"state":"offline","deadline":1700000000,"sessions":3}`:                                                           State{Offline, 1700000000, 3},
		`{"where":"new","host":"mud"}`:                                                                                     Answer{Where: New, Host: "mud"},
		`{"where":"here","others":[{"host":"south","session":"0123456789abcdef","last":1}]}`:                               Answer{Where: Here, Others: []Elsewhere{{Host: "south", Session: "0123456789abcdef", Last: 1}}},
		`{"where":"there","target":"127.0.0.2:7443"}`:                                                                      Answer{Where: There, Target: netip.MustParseAddrPort("127.0.0.2:7443")},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1"}`:                                                     Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1")},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1","want":"new"}`:                                        Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Want: WantNew},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1","hosts":["so*"]}`:                                     Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Hosts: []string{"so*"}},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1","proven":"pin"}`:                                      Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Proven: "pin"},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1","want":"place","another":true}`:                       Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Want: WantPlace, Another: true},
		`{"token":"a.b","terminal":"0003ba0a0b0c","addr":"127.0.0.1","access":[{"host":"lab1"},{"host":"*","deny":true}]}`: Lookup{Token: "a.b", Terminal: "0003ba0a0b0c", Addr: netip.MustParseAddr("127.0.0.1"), Access: []Access{{"lab1", false}, {"*", true}}},
		`{"ok":true}`:                Verified{OK: true},
		`{"ok":true,"another":true}`: Verified{OK: true, Another: true},
		`{"ok":true,"proven":"piv"}`: Verified{OK: true, Proven: "piv"},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"sessions":[{"id":"0123456789abcdef","token":"card.1","connected":true,"last":1}]}`))
	f.Add([]byte(`{"token":"card.1","terminal":"0003ba0a0b0c","addr":"127.0.0.1"}`))
	f.Add([]byte(`{"token":"card.1","terminal":"0003ba0a0b0c","addr":"127.0.0.1","user":"ann","proven":"pin"}`))
	f.Add([]byte(`{"state":"offline","within":1800}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Report
		if json.Unmarshal(data, &r) == nil && r.Check() == nil {
			for _, s := range r.Sessions {
				if !s.Token.Valid() || !s.ID.Valid() {
					t.Fatalf("accepted %+v", s)
				}
			}
		}
		var q StateRequest
		if json.Unmarshal(data, &q) == nil && q.Check() == nil && (q.Within < 0 || q.State == "") {
			t.Fatalf("accepted %+v", q)
		}
		var l Lookup
		if json.Unmarshal(data, &l) == nil && l.Check() == nil && (!l.Addr.Is4() || len(l.Hosts) > MaxHosts || len(l.Access) > MaxHosts || len(l.Proven) > maxProven) {
			t.Fatalf("accepted %+v", l)
		}
	})
}
