package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hotdesk/protocol/alp"
	"hotdesk/server/proof"
)

// Bounds of a file of proof rules.
const (
	MaxProofFile  = 64 << 10 // bytes
	MaxProofRules = 64
	maxFiles      = 64
)

// ErrProofs is wrapped by every error of ParseProofs.
var ErrProofs = errors.New("policy: bad proof rules")

// Proofs says how cards prove that they are what their tokens name. Its zero
// value asks for nothing.
type Proofs struct {
	rules []proofRule

	Authorities  []string // files of certificates
	Lists        []string // files of revocation lists
	AllowExpired bool     // such a list counts although its time is over
	Secrets      string   // file of simple cards' secrets
	Keys         string   // file of keys taken at first use; "": certificates must name their card
}

type proofRule struct {
	kind            string // of tokens; "*": all cards
	first, reattach proof.Kind
}

// ParseProofs reads an admin's file: lines, blank ones and those that begin
// with # are passed over. The first card line that fits a token counts; a card
// that none fits needs no proof. Files are relative to the rules' own folder.
//
//	card KIND FIRST REATTACH   KIND of token (simple, piv, openpgp, iccsn, uid,
//	                           atr, that of a file rule) or *; what it needs for
//	                           a new session and for one that there is: none,
//	                           pin, piv-card, piv, simple
//	authority FILE             PEM certificates of those who may issue PIV cards
//	                           and their roots; certificates of the key 9E must
//	                           have the extended key usage id-PIV-cardAuth
//	crl FILE                   a revocation list; with any, every issuer needs one
//	crl-expired refuse|allow   what of a list whose time is over, or not said (refuse)
//	secrets FILE               of simple cards: lines ID SECRET, in hex
//	keys FILE                  take a card's key at its first use, and keep it
//	                           there, where the certificate does not name the card
func ParseProofs(text string) (Proofs, error) {
	var p Proofs
	if len(text) > MaxProofFile {
		return Proofs{}, fmt.Errorf("%w: more than %d bytes", ErrProofs, MaxProofFile)
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if err := p.line(f); err != nil {
			return Proofs{}, fmt.Errorf("%w: line %d: %w", ErrProofs, n, err)
		}
	}
	for _, r := range p.rules {
		if p.Keys != "" && (r.first == proof.PIV && r.reattach == proof.PIVCard || r.first == proof.PIVCard && r.reattach == proof.PIV) {
			return Proofs{}, fmt.Errorf("%w: %s for %s: a key is kept for each card, so that with 'keys FILE' both must be piv, or piv-card", ErrProofs, r.first, r.kind)
		}
		for _, k := range []proof.Kind{r.first, r.reattach} {
			switch {
			case (k == proof.PIV || k == proof.PIVCard) && len(p.Authorities) == 0:
				return Proofs{}, fmt.Errorf("%w: %s for %s needs a line 'authority FILE'", ErrProofs, k, r.kind)
			case k == proof.Simple && p.Secrets == "":
				return Proofs{}, fmt.Errorf("%w: %s for %s needs a line 'secrets FILE'", ErrProofs, k, r.kind)
			}
		}
	}
	return p, nil
}

func (p *Proofs) line(f []string) error {
	words := map[string]int{"card": 4, "authority": 2, "crl": 2, "crl-expired": 2, "secrets": 2, "keys": 2}
	switch {
	case words[f[0]] == 0:
		return fmt.Errorf("unknown word %q; there are card, authority, crl, crl-expired, secrets, keys", f[0])
	case len(f) != words[f[0]]:
		return fmt.Errorf("%s takes %d words, not %d", f[0], words[f[0]]-1, len(f)-1)
	}
	switch f[0] {
	case "card":
		if f[1] != "*" && (!alp.Token(f[1]+".1").Valid() || strings.Contains(f[1], ".")) {
			return fmt.Errorf("%q is no kind of token", f[1])
		}
		r := proofRule{f[1], proof.Kind(f[2]), proof.Kind(f[3])}
		for _, k := range []proof.Kind{r.first, r.reattach} {
			if !slices.Contains(proof.Kinds, k) {
				return fmt.Errorf("proof %q; there are %v", k, proof.Kinds)
			}
		}
		if len(p.rules) == MaxProofRules {
			return fmt.Errorf("more than %d rules", MaxProofRules)
		}
		p.rules = append(p.rules, r)
	case "authority":
		p.Authorities = append(p.Authorities, f[1])
	case "crl":
		p.Lists = append(p.Lists, f[1])
	case "crl-expired":
		if f[1] != "refuse" && f[1] != "allow" {
			return fmt.Errorf("crl-expired is refuse or allow, not %q", f[1])
		}
		p.AllowExpired = f[1] == "allow"
	case "secrets":
		p.Secrets = f[1]
	case "keys":
		p.Keys = f[1]
	}
	if max(len(p.Authorities), len(p.Lists)) > maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	return nil
}

// Kind is what a token needs. A terminal's own token needs nothing.
func (p Proofs) Kind(t alp.Token, use proof.Use) proof.Kind {
	kind, _, _ := strings.Cut(string(t), ".")
	if t.Pseudo() {
		return proof.None
	}
	for _, r := range p.rules {
		if r.kind == kind || r.kind == "*" {
			if use == proof.First {
				return r.first
			}
			return r.reattach
		}
	}
	return proof.None
}
