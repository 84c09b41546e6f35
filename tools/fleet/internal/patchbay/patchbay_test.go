package patchbay

import (
	"net/netip"
	"testing"
	"time"

	"hotdesk/tools/fleet/internal/scenario"
)

// TestFates: what becomes of a hundred packets is what the network is, and is
// counted as that.
func TestFates(t *testing.T) {
	const packets = 100
	host, other := netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("127.0.0.6")
	for _, x := range []struct {
		name    string
		weather scenario.Weather
		cut     Way
		arrive  int // copies
		least   time.Duration
		counts  Counts
	}{
		{"calm", scenario.Weather{}, 0, packets, 0, Counts{}},
		{"away", scenario.Weather{Loss: 1}, 0, 0, 0, Counts{Lost: packets}},
		{"doubled", scenario.Weather{Duplicate: 1}, 0, 2 * packets, 0, Counts{Twice: packets}},
		{"slow", scenario.Weather{Delay: time.Second}, 0, packets, time.Second, Counts{Late: packets}},
		{"overtaken", scenario.Weather{Reorder: 1}, 0, packets, 10 * time.Millisecond, Counts{Late: packets}},
		{"cut off", scenario.Weather{}, ToHost | FromHost, 0, 0, Counts{Cut: packets}},
		{"cut the other way", scenario.Weather{}, FromHost, packets, 0, Counts{}},
		{"cut off and away", scenario.Weather{Loss: 1}, ToHost, 0, 0, Counts{Cut: packets}},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := New(1)
			before := b.Counts()
			b.Weather(x.weather)
			b.Cut(host, x.cut)
			arrived := 0
			for range packets {
				for _, d := range b.fate(host, ToHost) {
					if arrived++; d < x.least {
						t.Errorf("it comes after %v", d)
					}
				}
			}
			if got := b.Counts().Since(before); arrived != x.arrive || got != x.counts {
				t.Errorf("%d arrive, %+v", arrived, got)
			}
			if x.cut != 0 && x.weather.Loss == 0 && len(b.fate(other, ToHost)) != 1 {
				t.Error("another host is cut off too")
			}
		})
	}
}
