package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fleet "hotdesk/tools/fleet/app"
)

// A fleet whose people work while things break: every picture is the right
// one, no session is lost but with its keeper or X server, and nothing is left.
// HOTDESK_LONG makes it a soak of ten minutes.
func TestFleetFaults(t *testing.T) {
	c := fleet.Config{
		Scenario: "office", People: 4, Resting: 1, Lasts: time.Minute, Seed: 20, Faults: true, Enough: 8, Every: 500 * time.Millisecond,
		Bin: bin, Size: "640x480", JSON: filepath.Join(t.TempDir(), "figures.json"), Out: t.Output(),
	}
	if os.Getenv("HOTDESK_LONG") == "1" {
		c.People, c.Lasts, c.Enough, c.Seed = 12, 10*time.Minute, 0, rand.Uint64()
	}
	sum, err := fleet.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"is":"violation"`) {
			t.Error(line)
		}
	}
	if sum.Violations > 0 || sum.Faults == 0 || sum.Sessions == 0 || sum.Looks == 0 || sum.Counts["keys typed"] == 0 {
		t.Errorf("%+v", sum)
	}
}

// What befalls a host as a whole: its clock is set, memory is used up; and, with
// HOTDESK_LONG, its registry, its key, its programs or its certificate is another
// one. Each fault is seen to take effect, and is recovered from.
func TestFleetHostFaults(t *testing.T) {
	c := fleet.Config{
		Scenario: "office", People: 4, Lasts: time.Minute, Seed: 4, Faults: true, Enough: 3, Every: 200 * time.Millisecond,
		Kinds: []string{"clock set", "session's memory full", "gateway's memory full"},
		Bin:   bin, Size: "640x480", JSON: filepath.Join(t.TempDir(), "figures.json"), Out: t.Output(), Verbose: true,
	}
	if os.Getenv("HOTDESK_LONG") == "1" {
		c.Lasts, c.Enough, c.Seed = 4*time.Minute, 0, rand.Uint64()
		c.Kinds = append(c.Kinds, "registry away", "group key changed", "programs upgraded", "certificate of another authority")
	}
	sum, err := fleet.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Violations > 0 || sum.Faults == 0 {
		t.Errorf("%+v", sum)
	}
	text, err := os.ReadFile(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"is":"fault"`) && strings.Contains(line, `"effect":""`) {
			t.Error(line)
		}
	}
}

// The scenarios that differ most play: few people, a few seconds. HOTDESK_LONG
// plays all. How much they see of it in that time is the machine's matter.
func TestFleetScenarios(t *testing.T) {
	names := []string{"login", "powercut", "shiftchange", "stutter"}
	if os.Getenv("HOTDESK_LONG") == "1" {
		names = fleet.Scenarios()
	}
	for _, name := range names {
		if name == "office" {
			continue // TestFleetFaults plays it
		}
		t.Run(name, func(t *testing.T) {
			c := fleet.Config{
				Scenario: name, People: 3, Resting: 0, Lasts: 4 * time.Second, Seed: 3,
				Bin: bin, Size: "640x480", HTML: filepath.Join(t.TempDir(), "page.html"), Wall: "127.0.0.1:0", Out: t.Output(),
			}
			nobody := name == "login" || name == "insertcard"
			if nobody {
				c.People, c.Resting = 0, 5
			}
			sum, err := fleet.Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Violations > 0 || sum.Terminals < 3 || sum.Counts["cards in"] < c.People {
				t.Errorf("%+v", sum)
			}
			if info, err := os.Stat(c.HTML); err != nil || info.Size() == 0 {
				t.Errorf("no page: %v", err)
			}
		})
	}
}
