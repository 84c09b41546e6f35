package group

import (
	"net/netip"
	"strconv"

	"hotdesk/protocol/alp"
)

// FlagsSent is the flags value of our host messages, the one of the seed's
// example; the seed gives its bits no meaning and neither do we.
const FlagsSent = 4

// State is what a host is willing to do.
type State string

// States of a host. A host that says nothing any more is down too: others
// conclude that.
const (
	Online  State = "online"
	Offline State = "offline" // drains: keeps its sessions, takes no new ones
	Down    State = "down"    // by an admin: its sessions are to end, it takes no new ones
	Gone    State = "gone"    // the last words of a group manager that stops
)

// Interface is one network interface of a host. Addresses are IPv4.
type Interface struct {
	Name            string
	IP, Mask, Bcast netip.Addr
}

// Prefix is the network that the interface is on. It is invalid where the mask
// has holes.
func (i Interface) Prefix() netip.Prefix {
	m := i.Mask.As4()
	v := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	ones := 0
	for ; ones < 32 && v&(1<<31) != 0; v <<= 1 {
		ones++
	}
	if v != 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(i.IP, ones).Masked()
}

// Load is what a host says of its work, for balancing (ours).
type Load struct {
	Sessions int // sessions that it has
	Limit    int // sessions that it takes, 0 where it does not say
	Busy     int // load: runnable processes, average of a minute, in hundredths
	Memory   int // mem: MiB
	Free     int // free: MiB of it that new programs could have
}

// Host is the host message. The seed's fields are the first ones.
type Host struct {
	Name       string     // host
	Addr       netip.Addr // primary address
	Time       int64      // its clock, Unix seconds
	Flags      int
	CPUs       int
	Clock      int // MHz
	Interfaces []Interface

	Control int   // control: TCP port of its gateway's control connection, 0: no gateway (ours)
	Load    Load  // (ours)
	State   State // (ours; a host that does not say is online)
	Boot    uint64
	Counter uint64
}

// Stamp is the message's stamp.
func (h Host) Stamp() Stamp { return Stamp{h.Name, h.Time, h.Boot, h.Counter} }

// Append writes the message, unsigned, its end included.
func (h Host) Append(b []byte) []byte {
	m := alp.Message{Command: CmdHost}
	m.Add("host", h.Name)
	m.Add("addr", Hex8(h.Addr))
	m.Add("time", strconv.FormatInt(h.Time, 10))
	m.AddInt("numifs", len(h.Interfaces))
	m.AddInt("flags", h.Flags)
	m.AddInt("cpus", h.CPUs)
	m.AddInt("clock", h.Clock)
	for _, i := range h.Interfaces {
		m.Add("interface", i.Name)
		m.Add("ip", Hex8(i.IP))
		m.Add("mask", Hex8(i.Mask))
		m.Add("bcast", Hex8(i.Bcast))
	}
	m.AddInt("control", h.Control)
	m.AddInt("sessions", h.Load.Sessions)
	m.AddInt("limit", h.Load.Limit)
	m.AddInt("load", h.Load.Busy)
	m.AddInt("mem", h.Load.Memory)
	m.AddInt("free", h.Load.Free)
	m.Add("state", string(h.State))
	h.Stamp().add(&m)
	line := m.Append(nil)
	return append(b, line[len(CmdHost)+1:]...)
}

// ParseHost reads a host message, signed or not, ours or one with the seed's
// fields alone.
func ParseHost(data []byte) (Host, error) {
	f := read(data, CmdHost)
	if f.err != nil {
		return Host{}, f.err
	}
	h := Host{
		Name:    f.name("host"),
		Addr:    f.addr("addr", f.m.Get("addr")),
		Time:    f.time("time"),
		Flags:   f.count("flags", MaxCount),
		CPUs:    f.count("cpus", MaxCount),
		Clock:   f.count("clock", MaxCount),
		Control: f.count("control", 65535),
		Load: Load{
			Sessions: f.count("sessions", MaxCount),
			Limit:    f.count("limit", MaxCount),
			Busy:     f.count("load", MaxCount),
			Memory:   f.count("mem", MaxCount),
			Free:     f.count("free", MaxCount),
		},
		State:   State(f.m.Get("state")),
		Boot:    f.hex64("boot"),
		Counter: f.counter(),
	}
	switch h.State {
	case "":
		h.State = Online
	case Online, Offline, Down, Gone:
	default:
		f.fail("state %q", h.State)
	}
	f.interfaces(&h)
	return done(h, f)
}

// interfaces reads the groups "interface ip mask bcast", each begun by its
// name.
func (f *fields) interfaces(h *Host) {
	have := 0 // bits: ip, mask, bcast of the last interface
	for _, p := range f.m.Keys {
		if p.Key == "interface" {
			if len(h.Interfaces) > 0 && have != 7 {
				f.fail("interface %q is incomplete", h.Interfaces[len(h.Interfaces)-1].Name)
			}
			if !validWord(p.Value, MaxInterfaceName) {
				f.fail("interface %q", p.Value)
			}
			if len(h.Interfaces) == MaxInterfaces {
				f.fail("more than %d interfaces", MaxInterfaces)
			}
			if f.err != nil {
				return
			}
			h.Interfaces, have = append(h.Interfaces, Interface{Name: p.Value}), 0
			continue
		}
		if p.Key != "ip" && p.Key != "mask" && p.Key != "bcast" {
			continue
		}
		if len(h.Interfaces) == 0 {
			f.fail("%s before its interface", p.Key)
			return
		}
		i := &h.Interfaces[len(h.Interfaces)-1]
		switch p.Key {
		case "ip":
			i.IP, have = f.addr("ip", p.Value), have|1
		case "mask":
			i.Mask, have = f.addr("mask", p.Value), have|2
		case "bcast":
			i.Bcast, have = f.addr("bcast", p.Value), have|4
		}
	}
	if len(h.Interfaces) > 0 && have != 7 {
		f.fail("interface %q is incomplete", h.Interfaces[len(h.Interfaces)-1].Name)
	}
	if n := f.count("numifs", MaxInterfaces); n != len(h.Interfaces) {
		f.fail("numifs %d, but %d interfaces", n, len(h.Interfaces))
	}
}
