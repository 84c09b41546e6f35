package figures

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// Table prints runs, side by side where they are several: letters say which
// line is of which.
func Table(w io.Writer, runs []*Run) {
	letter := func(i int) string {
		if len(runs) == 1 {
			return ""
		}
		return string(rune('A'+i)) + " "
	}
	counts, programs := map[string]bool{}, map[string]bool{}
	for _, r := range runs {
		for name := range r.Sum.Counts {
			counts[name] = true
		}
		for name := range r.Sum.Memory {
			programs[name] = true
		}
	}
	fmt.Fprintf(w, "%-36s %8s %9s %9s %9s %9s\n", "milliseconds", "number", "p50", "p90", "p99", "worst")
	for _, name := range Order {
		for i, r := range runs {
			if s, ok := r.Sum.Series[name]; ok {
				fmt.Fprintf(w, "%-36s %8d %9.1f %9.1f %9.1f %9.1f\n", letter(i)+name, s.N, s.P50, s.P90, s.P99, s.Max)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		for i, r := range runs {
			fmt.Fprintf(w, "%-36s %8d\n", letter(i)+name, r.Sum.Counts[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		for i, r := range runs {
			m := r.Sum.Memory[name]
			fmt.Fprintf(w, "%-36s %8d  %8.1f MB %8.1f MB each %7.1f s CPU\n", letter(i)+name, m.Processes, m.MB, m.MB/float64(max(1, m.Processes)), m.CPU)
		}
	}
	for i, r := range runs {
		s := r.Sum
		fmt.Fprintf(w, "%s%s: %d people, %d terminals, %d hosts, %.0f s, seed %d: %d faults, %d sessions, %d pictures judged, %d violations\n",
			letter(i), s.Scenario, s.People, s.Terminals, s.Hosts, s.Seconds, s.Seed, s.Faults, s.Sessions, s.Looks, s.Violations)
	}
}
