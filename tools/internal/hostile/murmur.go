package hostile

import (
	"bytes"
	"fmt"
	"net/netip"

	"hotdesk/protocol/group"
)

// Murmur is a word of one of many strangers at the group's port: a question, a
// host that nobody knows, a question of such a host, or the beginning of that. No two of
// them have a name twice.
func Murmur(n, word int) []byte {
	own := netip.AddrFrom4([4]byte{127, 8, byte(n >> 8), byte(n)})
	h := group.Host{Name: fmt.Sprintf("stranger-%d-%d", n, word), Addr: own, CPUs: 1, Clock: 1000, Control: 7443, Boot: uint64(n + 1), Counter: uint64(word),
		Interfaces: []group.Interface{{Name: "lo", IP: own, Mask: netip.AddrFrom4([4]byte{255}), Bcast: netip.AddrFrom4([4]byte{127, 255, 255, 255})}}}
	switch (n + word) % 4 {
	case 0:
		return group.ServerQ{Hardware: "slow", Terminal: "02f100d00001", ID: uint64(word + 1)}.Append(nil)
	case 1:
		return h.Append(nil)
	case 2:
		return group.TokenQ{Stamp: h.Stamp(), ID: uint64(word + 1), Token: "simple.attack"}.Append(nil)
	}
	whole := h.Append(nil)
	return whole[:bytes.Index(whole, []byte("addr="))+len("addr=7f")]
}
