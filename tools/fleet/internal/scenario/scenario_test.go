package scenario

import (
	"strings"
	"testing"
	"time"
)

// Every scenario there is can be read, and says what it is for.
func TestAll(t *testing.T) {
	if len(Names()) < 10 {
		t.Errorf("only %v", Names())
	}
	for _, name := range Names() {
		if _, err := Load(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := Load("../scenario"); err == nil || !strings.Contains(err.Error(), "shiftchange") {
		t.Errorf("a scenario that is none: %v", err)
	}
}

func TestParse(t *testing.T) {
	s, err := Parse("x", `purpose: a test
lasts: 1m
people: 4
terminals: 150%
network: loss 2% delay 20ms
50% of them
  wait 1s to 2s
  insert
  type for 30s at 4.5 a second
50% of them
  wait once 3s
  fiddle 3
at 20s power of 25% off for 5s
at 30s network jitter 40ms duplicate 3% for 10s
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Groups) != 2 || s.Groups[0].Steps[2] != (Step{Verb: Type, From: 30 * time.Second, Rate: 4.5}) ||
		s.Groups[1].Steps[0] != (Step{Verb: WaitOnce, From: 3 * time.Second, To: 3 * time.Second}) ||
		s.Weather != (Weather{Loss: .02, Delay: 20 * time.Millisecond}) ||
		s.Events[0] != (Event{At: 20 * time.Second, For: 5 * time.Second, Power: 25}) || s.Events[1].Weather.Duplicate != .03 {
		t.Errorf("read as %+v", s)
	}
}

// Each mistake is named with its line.
func TestMistakes(t *testing.T) {
	const good = "purpose: p\nlasts: 1m\npeople: 1\neverybody\n  wait 1s\n"
	if _, err := Parse("good", good); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		good + "  dance":                                                  "line 6",
		good + "  wait 2s to 1s":                                          "line 6",
		good + "  type for 1s at 99 a second":                             "line 6",
		good + "at 1s power of 5 off for 1s":                              "line 6",
		good + "at 1s network loss for 1s":                                "line 6",
		good + "at 1s network loss 200% for 1s":                           "line 6",
		"colour: red\n" + good:                                            "line 1",
		"people: 1000000\n" + good:                                        "line 1",
		"insert\n" + good:                                                 "line 1",
		"10% of them\n wait 1s\n" + good:                                  "110%",
		"purpose: p\nlasts: 1m\npeople: 1\neverybody\n insert\n remove\n": "never takes any time",
		"purpose: p\npeople: 1\n":                                         "lasts",
		"purpose: p\nlasts: 1s\n":                                         "nobody",
		strings.Repeat("\n", maxLines+1):                                  "lines",
	} {
		if _, err := Parse("bad", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}
