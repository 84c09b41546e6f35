package policy

import (
	"errors"
	"strings"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/server/proof"
)

const proofs = `# what cards must show
card piv piv piv-card
card simple simple none

authority ca.pem
crl ca.crl
crl-expired allow
secrets cards
card * pin pin
`

func TestProofs(t *testing.T) {
	p, err := ParseProofs(proofs)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		token alp.Token
		use   proof.Use
		want  proof.Kind
	}{
		{"piv.01", proof.First, proof.PIV}, {"piv.01", proof.Reattach, proof.PIVCard}, {"simple.1", proof.First, proof.Simple},
		{"simple.1", proof.Reattach, proof.None}, {"uid.04", proof.First, proof.PIN}, {"pseudo.02005e000001", proof.First, proof.None},
	} {
		if got := p.Kind(tc.token, tc.use); got != tc.want {
			t.Errorf("%s at %s: %s, want %s", tc.token, tc.use, got, tc.want)
		}
	}
	if (Proofs{}).Kind("piv.01", proof.First) != proof.None {
		t.Error("without rules a proof is asked for")
	}
	for text, want := range map[string]string{
		"card piv piv":                               "line 1: card takes 3",
		"\n\ncard piv face none":                     "line 3: proof \"face\"",
		"card p.v none none":                         "no kind",
		"card piv piv none":                          "authority",
		"card simple none simple":                    "secrets",
		"authority a\nkeys k\ncard piv piv piv-card": "both must be",
		"colour blue":                                "unknown word",
		"crl-expired maybe":                          "refuse or allow",
		strings.Repeat("card * none none\n", 65):     "line 65: more than 64 rules",
		strings.Repeat("crl x\n", 65):                "more than 64 files",
		strings.Repeat("#", MaxProofFile+1):          "more than",
	} {
		if got, err := ParseProofs(text); !errors.Is(err, ErrProofs) || !strings.Contains(err.Error(), want) || len(got.rules) > 0 {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func FuzzProofs(f *testing.F) {
	f.Add(proofs)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProofs(text)
		if err != nil && len(p.rules) > 0 || len(p.rules) > MaxProofRules {
			t.Fatalf("%+v, %v", p, err)
		}
		p.Kind("piv.01", proof.First)
	})
}
