package terminal

import (
	"strings"
	"testing"
)

// TestStall: what the terminal slept through is not its server's silence; what
// it was awake for is, and a server that is dead is left in bounded time, also by
// a terminal that has no time to be awake.
func TestStall(t *testing.T) {
	const (
		shown   = "power on|found 10.0.0.1:7443|control up|card 1 in|card 1 is simple.00000000000000c1|allow gen 1 session 00000000000000aa|drawn"
		probed  = shown + "|media lost silence" // the next presentation has ProbeAfter
		asked   = shown + "|media quiet"        // AnswerWithin
		sent    = "power on|found 10.0.0.1:7443|control up|redirect 10.0.0.2:7443"
		answer  = "line keepAliveCnf"
		expired = "keepAliveExpiry"
	)
	for _, x := range []struct {
		name, before, then, want string // of the last line; "!": not that
	}{
		{"an answer in time", probed + "|after 900ms|" + answer, "after 10s", "!" + expired},
		{"awake for all of it", probed, "after 1s", expired},
		{"late by no more than a timer may be", probed, "asleep 1200ms wakes", expired},
		{"asleep", probed, "asleep 1201ms wakes", "!" + expired},
		{"asleep, and the answer is read then", probed + "|asleep 1201ms wakes|" + answer, "after 10s", "!" + expired},
		{"asleep, and the answer is read first", probed + "|asleep 1201ms|" + answer, "after 10s", "!" + expired},
		{"asleep, then awake for less than an answer takes", probed + "|asleep 5s wakes", "after 399ms", "!" + expired},
		{"asleep, then awake for as long", probed + "|asleep 5s wakes", "after 400ms", expired},
		{"asleep again and again", probed + "|asleep 2s wakes|asleep 2s wakes", "asleep 2s wakes", "!" + expired},
		{"asleep once more than that", probed + "|asleep 2s wakes|asleep 2s wakes|asleep 2s wakes", "asleep 2s wakes", expired},
		{"an answer between", probed + "|asleep 2s wakes|asleep 2s wakes|asleep 2s wakes|" + answer, "asleep 61s wakes", "!" + expired},
		{"both silences, awake", asked + "|after 400ms", "media lost silence", expired},
		{"both silences, asleep", asked + "|asleep 700ms", "media lost silence", "!" + expired},
		{"both silences, asleep, then awake", asked + "|asleep 700ms|media lost silence", "after 400ms", expired},
		{"both silences, asleep, then asked long ago", asked + "|asleep 700ms wakes|after 400ms", "media lost silence", expired},
		{"silent for a minute, awake", shown, "after 60s", expired},
		{"silent for a minute, asleep at its end", shown + "|after 59s", "asleep 2s wakes", "!" + expired},
		{"a redirect's target, awake", sent, "after 2s", osdUnanswered.Title},
		{"a redirect's target, asleep", sent, "asleep 3s wakes", "!" + osdUnanswered.Title},
		{"a redirect's target, asleep, then awake", sent + "|asleep 3s wakes", "after 400ms", osdUnanswered.Title},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld()
			for line := range strings.SplitSeq(x.before, "|") {
				out, err := w.run(line)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(out, expired) {
					t.Fatalf("%s: %s", line, out)
				}
			}
			out, err := w.run(x.then)
			if err != nil {
				t.Fatal(err)
			}
			want, not := strings.CutPrefix(x.want, "!")
			if strings.Contains(out, want) == not {
				t.Errorf("%s, want %q:\n%s", x.then, x.want, out)
			}
		})
	}
}
