package check

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page of attacks names a test, or a reason, for each of them, and every
// test that it names is there.
func TestSafetyPage(t *testing.T) {
	root, _ := load(t)
	text, err := os.ReadFile(filepath.Join(root, "server", "SAFETY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range 17 {
		want = append(want, fmt.Sprint(n+1))
	}
	for c := 'A'; c <= 'M'; c++ {
		want = append(want, string(c))
	}
	page, _, _ := strings.Cut(string(text), "\n## What is open")
	named := regexp.MustCompile("`([a-z0-9/]+) ((?:Test|Fuzz)[A-Za-z0-9]+)`")
	tests := map[string]string{} // of a folder, all together
	for i, entry := range strings.Split(page, "\n### ")[1:] {
		number, _, _ := strings.Cut(entry, ". ")
		if i >= len(want) || number != want[i] {
			t.Fatalf("entry %d is %q, want one for each of %v", i, number, want)
		}
		found := named.FindAllStringSubmatch(entry, -1)
		if len(found) == 0 && !strings.Contains(entry, "*By design*") {
			t.Errorf("%s names neither a test nor a reason", number)
		}
		for _, m := range found {
			all, ok := tests[m[1]]
			if !ok {
				files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(m[1]), "*_test.go"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					b, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					all += "\n" + string(b)
				}
				tests[m[1]] = all
			}
			if !strings.Contains(all, "\nfunc "+m[2]+"(") {
				t.Errorf("%s: there is no %s in %s", number, m[2], m[1])
			}
		}
	}
	if n := strings.Count(page, "\n### "); n != len(want) {
		t.Errorf("%d entries, want %d", n, len(want))
	}
	if n, m := strings.Count(page, " Test")+strings.Count(page, " Fuzz"), len(named.FindAllString(page, -1)); n > m+1 { // the first paragraph has one
		t.Errorf("%d tests are named, of which %d in the form that is looked at", n, m)
	}
}
