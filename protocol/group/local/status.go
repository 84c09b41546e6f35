package local

import (
	"fmt"
	"strings"
)

// MaxListed bounds each list of a Status, so that it fits a line of package rpc.
const MaxListed = 64

// Status is how this group manager does, and what an admin should look at.
type Status struct {
	Host      string `json:"host"`
	Addr      string `json:"addr"`
	Port      int    `json:"port"`
	State     State  `json:"state"`
	Gateway   int    `json:"gateway"` // control port, 0: no gateway
	Alg       string `json:"alg"`
	Keys      []Key  `json:"keys"`
	Broadcast bool   `json:"broadcast"`
	Multicast string `json:"multicast,omitempty"`
	Peers     []Peer `json:"peers"`

	Trusted    int     `json:"trusted"` // hosts, this one not counted
	Down       int     `json:"down"`    // of them
	Suspect    int     `json:"suspect"` // of them
	Untrusted  []Other `json:"untrusted"`
	Duplicates []Other `json:"duplicates"`

	Counters Counters `json:"counters"`
}

// Key is a line of the key file. The first one signs.
type Key struct {
	ID    string `json:"id"`
	Signs bool   `json:"signs,omitempty"`
}

// Peer is a host that is told by unicast. Configured is false where it was
// learned from its own messages.
type Peer struct {
	Addr       string `json:"addr"`
	Host       string `json:"host,omitempty"` // empty: nothing came from there
	LastSeen   int64  `json:"lastseen"`       // seconds, -1: never
	Configured bool   `json:"configured,omitempty"`
}

// Other is a host that something is wrong with.
type Other struct {
	Host     string `json:"host"`
	From     string `json:"from"`
	LastSeen int64  `json:"lastseen"`
	Why      string `json:"why"`
}

// Counters count since the start.
type Counters struct {
	Hosts     uint64 `json:"hosts"`     // host messages that came, our own too
	Untrusted uint64 `json:"untrusted"` // of them not signed by a key of ours
	TokenQ    uint64 `json:"tokenQ"`    // questions of trusted hosts
	TokenR    uint64 `json:"tokenR"`    // answers of trusted hosts
	ServerQ   uint64 `json:"serverQ"`   // terminals that look for a server
	Limited   uint64 `json:"limited"`   // of them not answered, as too many came
	Refused   uint64 `json:"refused"`   // token traffic that was not admitted
	Bad       uint64 `json:"bad"`       // datagrams that could not be read
	Lookups   uint64 `json:"lookups"`   // of our gateway
	Sent      uint64 `json:"sent"`      // datagrams
	SentBytes uint64 `json:"sentBytes"`
}

// String is the status for people.
func (s Status) String() string {
	var b strings.Builder
	line := func(name, format string, a ...any) { fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, a...)) }
	line("host", "%s addr %s port %d", s.Host, s.Addr, s.Port)
	line("state", "%s", s.State)
	if s.Gateway == 0 {
		line("gateway", "none: start server")
	} else {
		line("gateway", "control port %d", s.Gateway)
	}
	for _, k := range s.Keys {
		if k.Signs {
			line("key", "%s signs with %s", k.ID, s.Alg)
		} else {
			line("key", "%s verifies", k.ID)
		}
	}
	how := "off"
	if s.Broadcast {
		how = "on"
	}
	line("broadcast", "%s", how)
	if s.Multicast != "" {
		line("multicast", "%s", s.Multicast)
	}
	for _, p := range s.Peers {
		what := "configured"
		if !p.Configured {
			what = "learned"
		}
		if p.Host == "" {
			line("peer", "%s %s, nothing heard from there", p.Addr, what)
		} else {
			line("peer", "%s %s host %s lastseen %d", p.Addr, what, p.Host, p.LastSeen)
		}
	}
	line("hosts", "%d trusted, %d of them down, %d suspect", s.Trusted, s.Down, s.Suspect)
	for _, o := range s.Untrusted {
		line("untrusted", "%s from %s lastseen %d: %s", o.Host, o.From, o.LastSeen, o.Why)
	}
	for _, o := range s.Duplicates {
		line("duplicate", "%s from %s lastseen %d: %s", o.Host, o.From, o.LastSeen, o.Why)
	}
	c := s.Counters
	line("received", "%d host messages (%d not trusted), %d tokenQ, %d tokenR, %d serverQ (%d over the rate), %d refused, %d not readable",
		c.Hosts, c.Untrusted, c.TokenQ, c.TokenR, c.ServerQ, c.Limited, c.Refused, c.Bad)
	line("sent", "%d messages, %d bytes", c.Sent, c.SentBytes)
	line("lookups", "%d", c.Lookups)
	return b.String()
}
