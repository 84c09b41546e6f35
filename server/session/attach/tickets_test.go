package attach

import (
	"net/netip"
	"testing"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/native"
)

// A ticket is good once, for one terminal at one address and one attachment;
// who shows it wrongly does not spoil it for whom it is.
func TestTickets(t *testing.T) {
	const terminal, other alp.TerminalID = "0800200a0b0c", "0800200a0b0d"
	now := time.Unix(1_800_000_000, 0)
	home, away := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8")
	k := newTickets()
	b, err := k.offer(Spec{Terminal: terminal, Addr: home, Gen: 3}, now)
	if err != nil {
		t.Fatal(err)
	}
	good := native.Hello{Ticket: [alp.TicketSize]byte(b), Terminal: terminal, Gen: 3}
	unknown, stolen, old := good, good, good
	unknown.Ticket[0] ^= 1
	stolen.Terminal = other
	old.Gen = 2
	for _, c := range []struct {
		hello native.Hello
		from  netip.Addr
		want  string
	}{
		{unknown, home, refusedUnknown},
		{stolen, home, refusedTerminal},
		{good, away, refusedAddress},
		{old, home, refusedGen},
		{good, netip.AddrFrom16(home.As16()), ""},
		{good, home, refusedUsed},
		{stolen, away, refusedUsed},
	} {
		if _, why := k.redeem(c.hello, c.from, now); why != c.want {
			t.Errorf("%+v from %v: %q, want %q", c.hello, c.from, why, c.want)
		}
	}
	for _, c := range []struct {
		after time.Duration
		void  bool
		want  string
	}{{native.TicketLife - 1, false, ""}, {native.TicketLife, false, refusedExpired}, {0, true, refusedVoid}} {
		b, err := k.offer(Spec{Terminal: other, Gen: 4}, now)
		if err != nil {
			t.Fatal(err)
		}
		if c.void {
			k.void(func(s Spec) bool { return s.Gen <= 4 })
		}
		if _, why := k.redeem(native.Hello{Ticket: [alp.TicketSize]byte(b), Terminal: other, Gen: 4}, away, now.Add(c.after)); why != c.want {
			t.Errorf("%+v: %q", c, why)
		}
	}
}
