package attach

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

// maxSpent bounds the tickets remembered only to say why they are refused.
const maxSpent = 256

// Why a ticket is refused: for the log, and for the terminal.
const (
	refusedUnknown  = "unknown ticket"
	refusedUsed     = "ticket already used"
	refusedExpired  = "ticket expired"
	refusedVoid     = "ticket withdrawn"
	refusedTerminal = "ticket of another terminal"
	refusedAddress  = "ticket of another address"
	refusedGen      = "ticket of another attachment"
)

// tickets are those that wait for their terminals. They are kept and looked up
// by their SHA-256, so that neither memory nor time tells a ticket. They are
// guarded by the Endpoint's lock.
type tickets struct {
	waiting    map[ticketHash]ticket
	ofTerminal map[alp.TerminalID]ticketHash
	ofAddr     map[netip.Addr]int // waiting tickets by address
	order      []ticketHash       // all that were offered, oldest first, till they are swept
	spent      map[ticketHash]string
	spentOrder []ticketHash // oldest first
}

type ticketHash [sha256.Size]byte

type ticket struct {
	spec    Spec
	expires time.Time
}

func newTickets() tickets {
	return tickets{
		waiting:    map[ticketHash]ticket{},
		ofTerminal: map[alp.TerminalID]ticketHash{},
		ofAddr:     map[netip.Addr]int{},
		spent:      map[ticketHash]string{},
	}
}

func (t *tickets) offer(spec Spec, now time.Time) ([]byte, error) {
	spec.Addr = plain(spec.Addr)
	t.sweep(now)
	if old, ok := t.ofTerminal[spec.Terminal]; ok {
		t.spend(old, refusedVoid)
	}
	if len(t.waiting) >= MaxTickets {
		return nil, errors.New("attach: too many tickets wait for their terminals; try again in some seconds")
	}
	b := make([]byte, alp.TicketSize)
	rand.Read(b)
	h := ticketHash(sha256.Sum256(b))
	t.waiting[h] = ticket{spec, now.Add(native.TicketLife)}
	t.order = append(t.order, h)
	t.ofTerminal[spec.Terminal] = h
	t.ofAddr[spec.Addr]++
	return b, nil
}

// redeem spends the ticket of hello, or says why not. A ticket shown by the
// wrong terminal stays good for the right one.
func (t *tickets) redeem(hello native.Hello, from netip.Addr, now time.Time) (Spec, string) {
	t.sweep(now)
	h := ticketHash(sha256.Sum256(hello.Ticket[:]))
	k, ok := t.waiting[h]
	switch {
	case !ok && t.spent[h] != "":
		return Spec{}, t.spent[h]
	case !ok:
		return Spec{}, refusedUnknown
	case k.spec.Terminal != hello.Terminal:
		return Spec{}, refusedTerminal
	case k.spec.Addr.IsValid() && k.spec.Addr != plain(from):
		return Spec{}, refusedAddress
	case k.spec.Gen != hello.Gen:
		return Spec{}, refusedGen
	}
	t.spend(h, refusedUsed)
	return k.spec, ""
}

// expected reports whether a ticket waits for somebody at addr.
func (t *tickets) expected(addr netip.Addr) bool {
	return t.ofAddr[plain(addr)] > 0 || t.ofAddr[netip.Addr{}] > 0
}

func (t *tickets) void(meant func(Spec) bool) {
	for h, k := range t.waiting {
		if meant(k.spec) {
			t.spend(h, refusedVoid)
		}
	}
}

// sweep spends what has expired. All live equally long, so the oldest go first.
func (t *tickets) sweep(now time.Time) {
	n := 0
	for ; n < len(t.order); n++ {
		k, waits := t.waiting[t.order[n]]
		if waits && now.Before(k.expires) {
			break
		}
		if waits {
			t.spend(t.order[n], refusedExpired)
		}
	}
	t.order = slices.Delete(t.order, 0, n)
}

// spend takes a waiting ticket away and remembers why.
func (t *tickets) spend(h ticketHash, why string) {
	k := t.waiting[h]
	delete(t.waiting, h)
	if t.ofTerminal[k.spec.Terminal] == h {
		delete(t.ofTerminal, k.spec.Terminal)
	}
	if t.ofAddr[k.spec.Addr]--; t.ofAddr[k.spec.Addr] <= 0 {
		delete(t.ofAddr, k.spec.Addr)
	}
	if len(t.spentOrder) == maxSpent {
		delete(t.spent, t.spentOrder[0])
		t.spentOrder = slices.Delete(t.spentOrder, 0, 1)
	}
	t.spent[h] = why
	t.spentOrder = append(t.spentOrder, h)
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
