package hostile

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"hotdesk/protocol/group"
)

// A Host is a peer of the group that has its key: what it says is signed, and
// every second message is none, or one out of its order.
type Host struct {
	Name string
	Addr netip.Addr
	Ring group.Ring
	Seed uint64
}

// Talk says n messages to a connection, and that it is gone.
func (h Host) Talk(conn net.Conn, n int) error {
	rng := rand.New(rand.NewPCG(h.Seed, 7))
	m := group.Host{
		Name: h.Name, Addr: h.Addr, CPUs: 1, Clock: 1000, State: group.Offline, Boot: rng.Uint64(),
		Interfaces: []group.Interface{{
			Name: "lo", IP: h.Addr, Mask: netip.AddrFrom4([4]byte{255}), Bcast: netip.AddrFrom4([4]byte{127, 255, 255, 255}),
		}},
	}
	say := func(line []byte) error {
		line = h.Ring.Sign(line, group.SHA256)
		_, err := conn.Write(line[:min(len(line), maxDatagram)])
		return err
	}
	for i := range n {
		m.Time, m.Counter = time.Now().Unix(), uint64(i+1)
		if err := say(m.Append(nil)); err != nil {
			return err
		}
		odd := m
		var line []byte
		switch rng.IntN(3) {
		case 0: // from another time, or from before
			odd.Time += int64(rng.IntN(1<<20)) - 1<<19
			odd.Counter, odd.Boot = rng.Uint64N(1<<62), rng.Uint64()
			line = odd.Append(nil)
		case 1:
			line = append(Spoil(rng, bytes.TrimSpace(m.Append(nil))), '\n')
		case 2:
			q := group.TokenQ{Stamp: odd.Stamp(), Token: "simple.attack"}
			line = append(Spoil(rng, bytes.TrimSpace(q.Append(nil))), '\n')
		}
		if err := say(line); err != nil {
			return err
		}
	}
	m.State = group.Gone
	m.Counter++
	return say(m.Append(nil))
}

// maxDatagram is what IPv4 carries.
const maxDatagram = 65507
