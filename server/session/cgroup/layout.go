package cgroup

import (
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the controllers of which limits make use.
var wanted = []string{"memory", "pids", "cpu"}

// A place is a directory in which groups are made: the group of one session is
// a directory of its own below it.
type place struct {
	dir         string
	unified     bool     // version 2
	controllers []string // version 1: those of this hierarchy
}

// layout reads where the groups of a process may be, from its
// /proc/PID/mountinfo and /proc/PID/cgroup. Mounts come in their order; of a
// controller that is mounted twice the first counts.
func layout(mounts, groups string) []place {
	own := map[string]string{} // controller, "" for version 2, to path
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			own[name] = f[2]
		}
	}
	var all []place
	seen := map[string]bool{}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		root, at := left[3], unescape(left[4])
		switch right[0] {
		case "cgroup2":
			path, is := own[""]
			if !is || seen[""] {
				continue
			}
			seen[""] = true
			dir := below(at, root, path)
			if dir != at {
				// A group with processes gives its children no controllers:
				// sessions stand beside this one, under the same limits.
				dir = filepath.Dir(dir)
			}
			all = append(all, place{dir: filepath.Join(dir, folder), unified: true})
		case "cgroup":
			var has []string
			for name := range strings.SplitSeq(right[2], ",") {
				if slices.Contains(wanted, name) && !seen[name] {
					seen[name] = true
					has = append(has, name)
				}
			}
			if len(has) > 0 {
				all = append(all, place{dir: filepath.Join(below(at, root, own[has[0]]), folder), controllers: has})
			}
		}
	}
	return all
}

// below is the directory of a group in a mount that shows the hierarchy from
// root on; of one that it does not show, the mount's own.
func below(at, root, path string) string {
	if strings.Contains(path, "..") {
		return at
	}
	if root == "/" {
		return filepath.Join(at, path)
	}
	if rest, ok := strings.CutPrefix(path, root); ok && (rest == "" || rest[0] == '/') {
		return filepath.Join(at, rest)
	}
	return at
}

// unescape undoes what mountinfo does to a path's blanks (proc(5)).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
