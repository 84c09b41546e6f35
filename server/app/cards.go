package app

import (
	"fmt"
	"io"
	"os"

	"hotdesk/server/auth/cardfiles"
	"hotdesk/server/control"
	"hotdesk/smartcard/identity"
)

// cardFiles reads what -proof-rules and -card-rules name; nil and zero where
// they name nothing.
func (c *Config) cardFiles() (control.Proofs, identity.List, error) {
	var proofs control.Proofs
	if c.ProofRules != "" {
		f, err := cardfiles.Open(c.ProofRules, c.Log)
		if err != nil {
			return nil, identity.List{}, fmt.Errorf("server: -proof-rules: %w", err)
		}
		proofs = f
	}
	if c.CardRules == "" {
		return proofs, identity.List{}, nil
	}
	r, err := os.Open(c.CardRules)
	if err != nil {
		return nil, identity.List{}, fmt.Errorf("server: -card-rules: %w", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, identity.MaxListFile+1))
	if err != nil {
		return nil, identity.List{}, fmt.Errorf("server: -card-rules: %w", err)
	}
	rules, err := identity.ParseList(string(text))
	if err != nil {
		return nil, identity.List{}, fmt.Errorf("server: -card-rules %s: %w", c.CardRules, err)
	}
	return proofs, rules, nil
}
