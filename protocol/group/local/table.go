package local

import (
	"fmt"
	"slices"
	"strings"
)

// TablePage is how many hosts one Table carries, so that it fits a line of
// package rpc.
const TablePage = 24

// TableRequest asks for the hosts from number After on.
type TableRequest struct {
	After int `json:"after"`
}

// Table is a page of the table of hosts: this one, the trusted, the others.
type Table struct {
	Hosts []TableHost `json:"hosts"`
	More  bool        `json:"more,omitempty"`
}

// TableHost is one host, with the words of seed 004's Table A. Addresses are
// eight hex digits.
type TableHost struct {
	Host       string           `json:"host"`
	LastSeen   int64            `json:"lastseen"` // seconds since its last message
	TimeOff    int64            `json:"timeoff"`  // its clock minus ours, seconds
	Addr       string           `json:"addr"`
	Trusted    bool             `json:"trusted"`
	Why        string           `json:"why,omitempty"` // why it is not trusted
	Down       bool             `json:"down,omitempty"`
	Stopped    bool             `json:"stopped,omitempty"`   // it said goodbye
	Suspect    bool             `json:"suspect,omitempty"`   // it missed a question
	Duplicate  string           `json:"duplicate,omitempty"` // who else has its name or address
	State      string           `json:"state"`
	Control    int              `json:"control"` // port of its gateway, 0: none
	CPUs       int              `json:"cpus"`
	Sessions   int              `json:"sessions"`
	Limit      int              `json:"limit"`
	Load       int              `json:"load"` // hundredths
	Memory     int              `json:"mem"`  // MiB
	Free       int              `json:"free"` // MiB
	Interfaces []TableInterface `json:"interfaces"`
}

// TableInterface is one interface of a host.
type TableInterface struct {
	Name    string `json:"interface"`
	IP      string `json:"ip"`
	Mask    string `json:"mask"`
	Bcast   string `json:"bcast"`
	LastPkt int64  `json:"lastpkt"` // seconds since a message from it, -1: never
}

// String is the table in the form of seed 004's Table A, with a line for each
// host and for each interface. What the seed does not know stands in a line of
// its own.
func (t Table) String() string {
	var b strings.Builder
	for _, h := range t.Hosts {
		fmt.Fprintf(&b, "Host %s lastseen %d timeoff %d addr %s numifs %d", h.Host, h.LastSeen, h.TimeOff, h.Addr, len(h.Interfaces))
		if h.Trusted {
			b.WriteString(" TRUSTED")
		}
		b.WriteByte('\n')
		for _, i := range h.Interfaces {
			fmt.Fprintf(&b, "  interface %s ip %s mask %s bcast %s lastpkt %d\n", i.Name, i.IP, i.Mask, i.Bcast, i.LastPkt)
		}
		var notes []string
		for _, n := range []struct {
			text string
			is   bool
		}{
			{"stopped", h.Stopped}, {"down", h.Down && !h.Stopped}, {"suspect", h.Suspect},
			{h.State, h.State != "" && h.State != Online && !h.Stopped},
			{h.Duplicate, h.Duplicate != ""}, {h.Why, h.Why != ""},
		} {
			if n.is && !slices.Contains(notes, n.text) {
				notes = append(notes, n.text)
			}
		}
		if notes != nil {
			fmt.Fprintf(&b, "  note %s\n", strings.Join(notes, ", "))
		}
	}
	return b.String()
}
