package figures

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"hotdesk/tools/fleet/internal/oracle"
)

func book() *Book {
	b := New()
	for n := range 3 * maxSamples {
		b.Add(Echo, time.Duration(n)*time.Millisecond, time.Duration(n%100)*time.Millisecond)
	}
	b.Count(Keys, 2500*time.Millisecond)
	b.Count("keys never seen", time.Second)
	b.Fault(Fault{At: 3 * time.Second, What: "host killed", Took: 700 * time.Millisecond})
	return b
}

// What is written is read again: the sum of everything, and of a long series
// evenly spread samples.
func TestWriteRead(t *testing.T) {
	var file bytes.Buffer
	kept := []oracle.Violation{{At: time.Second, Kind: oracle.After, Text: "x"}}
	if err := book().Write(&file, &Sum{Scenario: "typist", Violations: 1}, kept); err != nil {
		t.Fatal(err)
	}
	text := file.String()
	r, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sum.Scenario != "typist" || r.Sum.Series[Echo].N != 3*maxSamples || r.Sum.Series[Echo].P99 != 99 || r.Sum.Violations != 1 {
		t.Errorf("the sum is %+v", r.Sum)
	}
	if p := r.Points[Echo]; len(p) != maxSamples || p[0][0] != 0 || p[1][0] != .003 {
		t.Errorf("%d samples, %v", len(p), p[:2])
	}
	if len(r.Faults) != 1 || r.Faults[0] != (Broken{3, "host killed", 700}) || len(r.Violations) != 1 || len(r.Seconds[Keys]) != 3 {
		t.Errorf("read %+v %v %v", r.Faults, r.Violations, r.Seconds)
	}
	for name, bad := range map[string]string{
		"empty":     "",
		"cut":       text[:len(text)/2],
		"no sum":    text[:strings.LastIndex(strings.TrimSpace(text), "\n")],
		"long":      strings.Repeat("x", maxLine+1),
		"many":      strings.Repeat("{}\n", maxLines+1),
		"not lines": "[1,2]",
	} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Lately is what came since.
func TestLately(t *testing.T) {
	b := book()
	then := b.Lengths()
	b.Add(Echo, time.Hour, 7*time.Second)
	if r := b.Lately(then)[Echo]; r.N != 1 || r.P50 != 7000 {
		t.Errorf("lately %+v", r)
	}
	if r := b.Lately(nil)[Echo]; r.N != 3*maxSamples+1 {
		t.Errorf("in all %+v", r)
	}
}

// Several runs stand side by side in a table.
func TestTable(t *testing.T) {
	a := &Run{Sum: Sum{Scenario: "one", Series: map[string]Row{Echo: {N: 5, P50: 1}}, Memory: map[string]Memory{"server": {Processes: 2, MB: 10}}}}
	b := &Run{Sum: Sum{Scenario: "two", Series: map[string]Row{Echo: {N: 6, P50: 2}}, Counts: map[string]int{Keys: 4}}}
	var w bytes.Buffer
	Table(&w, []*Run{a, b})
	for _, want := range []string{"A " + Echo, "B " + Echo, "A one:", "B two:", "5.0 MB each"} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("%s\nlacks %q", w.String(), want)
		}
	}
	w.Reset()
	if Table(&w, []*Run{a}); strings.Contains(w.String(), "A ") {
		t.Errorf("one run has a letter:\n%s", w.String())
	}
}
