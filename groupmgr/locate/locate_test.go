package locate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
)

var now = time.Unix(1700000000, 0)

const down = 60 * time.Second

// tableA is seed 004's Table A: name, then interfaces "name ip mask lastpkt".
const tableA = `host05 ge0 c0a88001 ffffff00 4, hme0 8190a705 ffffff00 4
host22 le0 8190a716 ffffff00 16, qfe0 c0a88101 ffff0000 -1, qfe1 c0a88201 ffff0000 -1
host21 hme0 8190a715 ffffff00 15, hme1 c0a88001 ffff0000 -1
mud hme0 81907f05 ffffff00 -1, ge0 c0a88003 ffffff00 1
host45 hme0 8190a72d ffffff00 18, hme1 c0a88001 ffffff00 -1
host41 hme0 8190a729 ffffff00 18, le0 c0a88001 ffffff00 -1`

func addr(t *testing.T, hex string) netip.Addr {
	var b [4]byte
	if _, err := fmt.Sscanf(hex, "%02x%02x%02x%02x", &b[0], &b[1], &b[2], &b[3]); err != nil {
		t.Fatal(err)
	}
	return netip.AddrFrom4(b)
}

func rows(t *testing.T, text string) []member.Row {
	var list []member.Row
	for i, line := range strings.Split(text, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		r := member.Row{Self: i == 0, Trusted: true, Host: group.Host{Name: name}}
		for f := range strings.SplitSeq(rest, ", ") {
			w := strings.Fields(f)
			r.Host.Interfaces = append(r.Host.Interfaces, group.Interface{Name: w[0], IP: addr(t, w[1]), Mask: addr(t, w[2])})
			var pkt time.Time
			if s, err := time.ParseDuration(w[3] + "s"); err == nil && s >= 0 {
				pkt = now.Add(-s)
			}
			r.LastPkt = append(r.LastPkt, pkt)
		}
		r.Host.Addr = r.Host.Interfaces[0].IP
		list = append(list, r)
	}
	return list
}

func TestReach(t *testing.T) {
	all := rows(t, tableA)
	edit := func(change func(map[string]*member.Row)) []member.Row {
		list, byName := rows(t, tableA), map[string]*member.Row{}
		for i := range list {
			byName[list[i].Host.Name] = &list[i]
		}
		change(byName)
		return list
	}
	for name, tc := range map[string]struct {
		rows     []member.Row
		terminal string
		want     string
	}{
		"the shared subnet":     {all, "129.144.167.77", "host05 129.144.167.5, host21 129.144.167.21, host22 129.144.167.22, host41 129.144.167.41, host45 129.144.167.45"},
		"mud's own subnet":      {all, "129.144.127.9", "mud 129.144.127.5"},
		"a network of several":  {all, "192.168.128.9", "host05 192.168.128.1, host21 192.168.128.1, host22 192.168.129.1, host41 192.168.128.1, host45 192.168.128.1, mud 192.168.128.3"},
		"only the wide masks":   {all, "192.168.7.7", "host21 192.168.128.1, host22 192.168.129.1"},
		"behind a router":       {all, "10.1.1.1", "host05 192.168.128.1, host21 129.144.167.21, host22 129.144.167.22, host41 129.144.167.41, host45 129.144.167.45, mud 129.144.127.5"},
		"its host is down":      {edit(func(m map[string]*member.Row) { m["mud"].Down = true }), "129.144.127.9", ""},
		"its host not trusted":  {edit(func(m map[string]*member.Row) { m["mud"].Trusted = false }), "192.168.128.9", "host05 192.168.128.1, host21 192.168.128.1, host22 192.168.129.1, host41 192.168.128.1, host45 192.168.128.1"},
		"its interface is down": {edit(func(m map[string]*member.Row) { m["host21"].LastPkt[0] = now.Add(-down) }), "129.144.167.77", "host05 129.144.167.5, host22 129.144.167.22, host41 129.144.167.41, host45 129.144.167.45"},
		"this host hears nothing of itself": {edit(func(m map[string]*member.Row) { m["host05"].LastPkt[1] = now.Add(-down) }), "129.144.167.77",
			"host05 129.144.167.5, host21 129.144.167.21, host22 129.144.167.22, host41 129.144.167.41, host45 129.144.167.45"},
		"a mask with holes": {edit(func(m map[string]*member.Row) { m["mud"].Host.Interfaces[0].Mask = addr(t, "ff00ff00") }), "129.144.127.9",
			"host05 192.168.128.1, host21 129.144.167.21, host22 129.144.167.22, host41 129.144.167.41, host45 129.144.167.45, mud 129.144.127.5"},
	} {
		t.Run(name, func(t *testing.T) {
			ways := Reach(now, tc.rows, netip.MustParseAddr(tc.terminal), down)
			var got []string
			for _, n := range []string{"host05", "host21", "host22", "host41", "host45", "mud"} {
				if a, ok := ways[n]; ok {
					got = append(got, n+" "+a.String())
				}
			}
			if s := strings.Join(got, ", "); s != tc.want {
				t.Errorf("got  %s\nwant %s", s, tc.want)
			}
		})
	}
}

// Networks joined by routers, in the form of Table A: what is heard through a
// router can be reached through it, from the network that the router is on.
func TestReachRouted(t *testing.T) {
	const table = `self le0 0a5a010a ffffff00 4, priv c0a80001 ffffff00 4
near le0 0a5a010b ffffff00 4
far le0 0a5a020a ffffff00 4, priv ac100001 ffffff00 -1
unheard le0 0a5a030a ffffff00 -1
alike le0 0a5a040a ffffff00 4, priv c0a80002 ffffff00 -1`
	for terminal, want := range map[string]string{
		"10.90.1.77":  "self 10.90.1.10, near 10.90.1.11, far 10.90.2.10",
		"192.168.0.7": "self 192.168.0.1, alike 192.168.0.2", // a net of terminals, with no router
		"10.90.2.77":  "far 10.90.2.10",                      // far knows better
		"172.16.0.7":  "far 172.16.0.1",
	} {
		list := rows(t, table)
		ways := Reach(now, list, netip.MustParseAddr(terminal), down)
		var got []string
		for _, r := range list {
			if a, ok := ways[r.Host.Name]; ok {
				got = append(got, r.Host.Name+" "+a.String())
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: got  %s\nwant %s", terminal, s, want)
		}
	}
	list := rows(t, table)
	list[2].Down = true
	if ways := Reach(now, list, netip.MustParseAddr("10.90.1.77"), down); ways["far"].IsValid() {
		t.Error("a host that is down is reached")
	}
}
