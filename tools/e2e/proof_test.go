package e2e

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
)

// issuers are those of one script, by name.
type issuers map[string]*issuer.Issuer

func issuerOf(ts *testscript.TestScript, name string) *issuer.Issuer {
	i := worldOf(ts).issuers[name]
	if i == nil {
		ts.Fatalf("no issuer %q", name)
	}
	return i
}

// put writes a file that appears whole.
func put(ts *testscript.TestScript, path string, data []byte) {
	check(ts, os.WriteFile(path+".new", data, 0o600))
	check(ts, os.Rename(path+".new", path))
}

func cmdIssuer(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "issuer NAME")
	i, err := issuer.New(time.Now())
	check(ts, err)
	w := worldOf(ts)
	if w.issuers == nil {
		w.issuers = issuers{}
	}
	w.issuers[args[0]] = i
	put(ts, ts.MkAbs(args[0]+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Authority.Raw}))
	list, err := i.Revoke()
	check(ts, err)
	put(ts, ts.MkAbs(args[0]+".crl"), list)
}

func cmdIssue(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "issue ISSUER CARD PIN [WORDS]")
	w, i := worldOf(ts), issuerOf(ts, args[0])
	s := issuer.Spec{Name: args[1], PIN: args[2], Now: time.Now()}
	for _, word := range args[3:] {
		switch name, ok := strings.CutPrefix(word, "copy="); {
		case ok:
			text, err := os.ReadFile(w.lab.Path("cards", name+emulated.Suffix))
			check(ts, err)
			p, err := emulated.Parse(string(text))
			check(ts, err)
			s.GUID, s.Unbound = p.GUID, true
		case word == "expired":
			s.Now = time.Now().AddDate(-2, 0, 0)
		case word == "unbound":
			s.Unbound = true
		case word == "rsa2048":
			s.Algorithm = piv.RSA2048
		case word == "rsa3072":
			s.Algorithm = piv.RSA3072
		case word == "p384":
			s.Algorithm = piv.P384
		default:
			ts.Fatalf("issue: unknown word %q", word)
		}
	}
	files, err := i.Card(s)
	check(ts, err)
	for name, data := range files {
		put(ts, w.lab.Path("cards", name), data)
	}
}

func cmdRevoke(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "revoke ISSUER CARD...")
	w, i := worldOf(ts), issuerOf(ts, args[0])
	var certs []*x509.Certificate
	for _, card := range args[1:] {
		files, err := filepath.Glob(w.lab.Path("cards", card+"-9?.pem"))
		check(ts, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			check(ts, err)
			block, _ := pem.Decode(text)
			c, err := x509.ParseCertificate(block.Bytes)
			check(ts, err)
			certs = append(certs, c)
		}
	}
	list, err := i.Revoke(certs...)
	if len(certs) == 0 {
		list, err = i.RevokeAt(time.Now().AddDate(-1, 0, 0))
	}
	check(ts, err)
	put(ts, ts.MkAbs(args[0]+".crl"), list)
}

// cmdClone makes a simple card with another's id and a secret of its own.
func cmdClone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "clone CARD AS")
	w := worldOf(ts)
	text, err := os.ReadFile(w.lab.Path("cards", args[0]+emulated.Suffix))
	check(ts, err)
	p, err := emulated.Parse(string(text))
	check(ts, err)
	p.Secret[0]++
	put(ts, w.lab.Path("cards", args[1]+emulated.Suffix), []byte(strings.ReplaceAll(string(text),
		"secret = "+hex.EncodeToString(append([]byte{p.Secret[0] - 1}, p.Secret[1:]...)), "secret = "+hex.EncodeToString(p.Secret[:]))))
}

// cmdSecrets writes the secrets of simple cards, as a host has them.
func cmdSecrets(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "secrets FILE CARD...")
	var b strings.Builder
	for _, card := range args[1:] {
		text, err := os.ReadFile(worldOf(ts).lab.Path("cards", card+emulated.Suffix))
		check(ts, err)
		p, err := emulated.Parse(string(text))
		check(ts, err)
		b.WriteString(hex.EncodeToString(p.ID[:]) + " " + hex.EncodeToString(p.Secret[:]) + "\n")
	}
	put(ts, ts.MkAbs(args[0]), []byte(b.String()))
}
