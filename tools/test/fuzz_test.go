package main

import "testing"

func TestDeadline(t *testing.T) {
	for _, c := range []struct {
		name, out string
		want      bool
	}{
		{"the engine's own clock", "fuzz: elapsed: 3s, execs: 15428 (0/sec), new interesting: 13 (total: 16)\n--- FAIL: FuzzRedirectInf (3.02s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\thotdesk/protocol/alp\t3.024s\n", true},
		{"passed", "PASS\nok  \thotdesk/protocol/alp\t3.024s\n", false},
		{"an input that fails", "--- FAIL: FuzzRedirectInf (0.02s)\n    --- FAIL: FuzzRedirectInf (0.00s)\n        messages_test.go:186: wrong\n    \n    Failing input written to testdata/fuzz/FuzzRedirectInf/0a\nFAIL\n", false},
		{"the target's own deadline", "--- FAIL: FuzzRedirectInf (0.02s)\n    --- FAIL: FuzzRedirectInf (0.00s)\n        messages_test.go:186: context deadline exceeded\nFAIL\n", false},
		{"a seed that fails, then the clock", "--- FAIL: FuzzA (3.02s)\n    context deadline exceeded\nFAIL\nFailing input written to x\n", false},
		{"no build", "FAIL\thotdesk/protocol/alp [build failed]\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := deadline(c.out); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
