package auth

import (
	"strings"
	"testing"
)

// A host's name is part of a file's name and of lines that people read.
func TestHostNames(t *testing.T) {
	for name, good := range map[string]bool{
		"north": true, "desk-a.example.org": true, "Nürnberg": true,
		"": false, "a/b": false, "../a": false, "a\x00": false, "a\nb": false, "a\x1b[2J": false, "a\xff": false, strings.Repeat("a", 129): false,
	} {
		if err := hostName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := Request(name); (err == nil) != good {
			t.Errorf("a request for %q: %v", name, err)
		}
	}
}
