package e2e

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	fleet "hotdesk/tools/fleet/app"
)

// Three quarters of a minute of a soak, in which people work while things break: every
// picture is the right one, no session is lost but with its keeper or X server,
// and nothing is left. HOTDESK_LONG makes it ten minutes.
func TestFleetSoak(t *testing.T) {
	c := fleet.Config{
		Scenario: "office", People: 4, Resting: 1, Soak: 45 * time.Second, Seed: 20, Every: 500 * time.Millisecond, DHCP: -1,
		Bin: bin, Size: "640x480", JSON: filepath.Join(t.TempDir(), "figures.json"), Out: t.Output(),
	}
	if os.Getenv("HOTDESK_LONG") == "1" {
		c.People, c.Soak, c.Seed = 12, 10*time.Minute, rand.Uint64()
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

// What befalls a host as a whole: its clock is set, memory is used up, the DHCP
// server goes; and, with HOTDESK_LONG, its registry, its key, its programs or its
// certificate is another one. Each fault is seen to take effect, and is recovered
// from.
func TestFleetHostFaults(t *testing.T) {
	c := fleet.Config{
		Scenario: "office", People: 4, Lasts: 90 * time.Second, Seed: 4, Faults: true, Enough: 4, Every: 200 * time.Millisecond, DHCP: 2,
		Kinds: []string{"clock set", "session's memory full", "gateway's memory full", "DHCP server gone"},
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
	missing := slices.DeleteFunc(slices.Clone(c.Kinds), func(kind string) bool {
		return strings.Contains(string(text), `"what":"`+kind)
	})
	if len(missing) > 0 {
		t.Errorf("no effect of %q", missing)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"is":"fault"`) && strings.Contains(line, `"effect":""`) {
			t.Error(line)
		}
	}
}

// A stopper ends a run when it says something.
type stopper struct {
	io.Writer
	at   string
	stop func()
}

func (s stopper) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.at) {
		s.stop()
	}
	return s.Writer.Write(b)
}

// A run that is stopped before its time mends what is broken, judges
// what was seen, and writes its figures.
func TestFleetStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := fleet.Config{
		Scenario: "office", People: 2, Lasts: 10 * time.Minute, Seed: 5, Faults: true, Every: 200 * time.Millisecond,
		Kinds: []string{"server parent killed"}, Bin: bin, Size: "640x480", JSON: filepath.Join(t.TempDir(), "figures.json"),
		Out: stopper{t.Output(), "recovered after", cancel}, Verbose: true,
	}
	began := time.Now()
	sum, err := fleet.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if !sum.Stopped || sum.Violations > 0 || sum.Faults == 0 || time.Since(began) > c.Lasts/2 {
		t.Errorf("after %v: %+v", time.Since(began), sum)
	}
	text, err := os.ReadFile(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var last struct {
		Is         string
		Stopped    bool
		Violations *int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Is != "sum" || !last.Stopped || last.Violations == nil {
		t.Errorf("%v, the last line is %s", err, lines[len(lines)-1])
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
			continue // TestFleetSoak plays it
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
