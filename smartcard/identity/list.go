package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"hotdesk/protocol/alp"
)

// MaxListFile bounds an admin's file of naming rules, in bytes.
const MaxListFile = 16 << 10

// A List is naming rules as they travel to terminals.
type List struct {
	Text    string // for ParseRules
	Version string // made from Text, so that hosts with the same rules agree
}

// ParseList reads an admin's file: one rule of ParseRules a line, in the order
// in which they are tried; blank lines and those that begin with # are passed
// over. A file rule may be written with spaces in place of colons.
func ParseList(text string) (List, error) {
	if len(text) > MaxListFile {
		return List{}, fmt.Errorf("%w: more than %d bytes", ErrRules, MaxListFile)
	}
	var rules []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		rule := strings.Join(f, ":")
		if strings.Contains(rule, ",") {
			return List{}, fmt.Errorf("%w: line %d: one rule a line", ErrRules, n)
		}
		if _, err := ParseRules(rule); err != nil {
			return List{}, fmt.Errorf("line %d: %w", n, err)
		}
		if rules = append(rules, rule); len(rules) > MaxRules {
			return List{}, fmt.Errorf("%w: line %d: more than %d rules", ErrRules, n, MaxRules)
		}
	}
	l := List{Text: strings.Join(rules, ",")}
	switch {
	case len(rules) == 0:
		return List{}, fmt.Errorf("%w: there is none; every card would be unreadable", ErrRules)
	case len(l.Text) > alp.MaxRulesList:
		return List{}, fmt.Errorf("%w: %d bytes in all, at most %d", ErrRules, len(l.Text), alp.MaxRulesList)
	}
	d := sha256.Sum256([]byte(l.Text))
	l.Version = hex.EncodeToString(d[:6])
	return l, nil
}
