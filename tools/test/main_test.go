package main

import (
	"slices"
	"testing"
)

// What a tag adds is found, by where it stands.
func TestTaggedTests(t *testing.T) {
	got := taggedTests("pam", "../e2e", "../../server/parent")
	for _, want := range []string{"TestPAM", "TestHandedLogin", "TestLoginTakenOver"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	if slices.Contains(got, "TestScripts") {
		t.Error("one without a tag is")
	}
}
