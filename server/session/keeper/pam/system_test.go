//go:build pam

package pam

import (
	"bytes"
	"strings"
	"testing"

	library "github.com/msteinert/pam/v2"
)

// An answer is the library's for as long as that needs it, and then nobody's.
func TestSystemAnswers(t *testing.T) {
	var given [][]byte
	var kept []string // as the library has them
	answer := "secret"
	s := &system{conv: func(Style, string) ([]byte, error) {
		given = append(given, []byte(answer))
		return given[len(given)-1], nil
	}}
	ask := func() string {
		t.Helper()
		out, err := s.RespondPAM(library.PromptEchoOff, "Password: ")
		if err != nil {
			t.Error(err)
		}
		kept = append(kept, out)
		return strings.Clone(out)
	}
	for range 2 {
		if got := ask(); got != answer {
			t.Errorf("the library has %q", got)
		}
	}
	answer = ""
	if got := ask(); got != "" {
		t.Errorf("no answer is %q", got)
	}
	answer = strings.Repeat("x", MaxAnswer+1)
	if _, err := s.RespondPAM(library.PromptEchoOff, ""); err == nil {
		t.Error("too long an answer was given")
	}
	answer = "last"
	ask()
	if err := s.plain(nil); err != nil { // the call is over
		t.Error(err)
	}
	for _, b := range given {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%.20q is still there", b)
		}
	}
	for _, out := range kept {
		if strings.Trim(out, "\x00") != "" {
			t.Errorf("a copy of %.20q is still there", out)
		}
	}
}
