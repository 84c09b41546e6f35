// Package trust is whom a terminal believes: which authority's servers may
// show it pictures and take its input.
//
// Source: design section 2, "Group authority"; RFC 5280. CVE-2020-26117 (a
// viewer that stored the certificate a user had accepted for one server as an
// authority for all servers) is what invariants 2 to 4 are about.
//
// The authority comes from a file that was configured; or from the first server
// whose authority has the fingerprint that DHCP named, where an administrator
// trusts DHCP; or from the first server, where a person has compared the
// fingerprint and accepted it. What came in one of the latter ways is kept in a
// file.
//
// Invariants:
//  1. No server is believed before its certificate was verified up to the
//     authority: by TLS 1.3, for the name and the use of a server.
//  2. Only an authority is pinned: a certificate that signed itself, is marked
//     to sign others, and is not a server's.
//  3. Authorities of the machine it runs on are never asked, and the pinned one
//     is never given to them: it counts for control connections of this
//     terminal alone, and only for the name that all servers of a group bear.
//  4. What is pinned never changes. A server of another authority is refused
//     with both fingerprints named, whatever DHCP or a person says.
//
// A Store is safe for concurrent use. Limits: MaxFile, maxChain.
package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// MaxFile bounds a file of certificates, in bytes.
	MaxFile = 64 << 10
	// maxChain bounds the certificates of a server.
	maxChain = 4
)

// Mode is where the authority comes from.
type Mode string

const (
	Configured Mode = "configured"
	DHCP       Mode = "dhcp"
	FirstUse   Mode = "first-use"
)

// Modes are all of them.
var Modes = []Mode{Configured, DHCP, FirstUse}

// A Print is the SHA-256 of an authority's certificate.
type Print [sha256.Size]byte

// Of is the fingerprint of a certificate.
func Of(c *x509.Certificate) Print { return sha256.Sum256(c.Raw) }

// String is for comparing with what other programs print.
func (p Print) String() string { return hex.EncodeToString(p[:]) }

// Spaced is for people, in groups of four.
func (p Print) Spaced() string {
	var b strings.Builder
	for i := 0; i < len(p); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(hex.EncodeToString(p[i : i+2]))
	}
	return b.String()
}

// ParsePrint reads a fingerprint; spaces and colons do not matter.
func ParsePrint(s string) (Print, error) {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "").Replace(s))
	if err != nil || len(b) != sha256.Size {
		return Print{}, fmt.Errorf("trust: %q is no fingerprint: %d hex digits", s, 2*sha256.Size)
	}
	return Print(b), nil
}

// Unknown is why a server was refused whose authority may be accepted.
type Unknown struct {
	Authority *x509.Certificate
	Print     Print
}

func (e *Unknown) Error() string {
	return "trust: a group that this terminal does not know yet, fingerprint " + e.Print.String()
}

// Refused is why a server was refused for good.
type Refused struct{ Reason string }

func (e *Refused) Error() string { return e.Reason }

// A Store is what a terminal trusts.
type Store struct {
	mode Mode
	file string // where what is pinned is kept; "" for Configured
	name string // of every server
	alpn string
	key  *tls.Certificate // the terminal's own; nil: none

	mu     sync.Mutex
	pinned []*x509.Certificate
	dhcp   *Print // what DHCP named
}

// Config says what to trust.
type Config struct {
	Mode      Mode
	Authority string // file with the certificate, for Configured
	File      string // where what is accepted is kept, for the other modes
	Name      string // for which servers' certificates are made out
	ALPN      string // of control connections
	KeyFile   string // of the terminal's own key, made where it is missing; "": it has none
}

// Open reads what is trusted already.
func Open(cfg Config) (*Store, error) {
	s := &Store{mode: cfg.Mode, file: cfg.File, name: cfg.Name, alpn: cfg.ALPN}
	var err error
	if cfg.KeyFile != "" {
		if s.key, err = openKey(cfg.KeyFile); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.Mode == Configured:
		s.pinned, err = read(cfg.Authority)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("trust: -authority %s: no such file; a server makes it as authority.pem in its -state directory when it starts", cfg.Authority)
		}
		if err != nil {
			return nil, fmt.Errorf("trust: -authority: %w", err)
		}
	default:
		s.pinned, err = read(cfg.File)
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("trust: -trust-file: %w; to trust anew take the file away", err)
		}
	}
	return s, nil
}

// read reads the authorities in a file.
func read(file string) ([]*x509.Certificate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, MaxFile)
	}
	all, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

// Parse reads authorities in PEM form, at least one, and refuses what is none.
func Parse(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %q, not only certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if err := Authority(c); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in PEM form in it")
	}
	return all, nil
}

// Authority tells why c is not an authority's certificate.
func Authority(c *x509.Certificate) error {
	name := fmt.Sprintf("the certificate %q", c.Subject.CommonName)
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("%s is a server's, not an authority's", name)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%s may not sign others", name)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("%s is not its own authority: %w", name, err)
	}
	return nil
}

// Fingerprints are those of what is pinned.
func (s *Store) Fingerprints() []Print {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Print
	for _, c := range s.pinned {
		all = append(all, Of(c))
	}
	return all
}

// Named takes in the fingerprint that DHCP named; it counts in mode DHCP, until
// an authority is pinned.
func (s *Store) Named(p Print) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dhcp = &p
}

// Accept pins an authority that a server showed and a person accepted.
func (s *Store) Accept(u *Unknown) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode != FirstUse {
		return errors.New("trust: nothing is accepted here without -trust first-use")
	}
	return s.pin(u.Authority)
}

// pin keeps what is trusted from now on. The file comes first: what is trusted
// now is trusted after a restart too.
func (s *Store) pin(c *x509.Certificate) error {
	if len(s.pinned) > 0 {
		if Of(s.pinned[0]) == Of(c) {
			return nil
		}
		return &Refused{"trust: this terminal trusts another group already, " + Of(s.pinned[0]).String()}
	}
	if err := Authority(c); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	err := place(s.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	if errors.Is(err, fs.ErrExist) { // another terminal with this file was faster
		all, err := read(s.file)
		if err != nil {
			return fmt.Errorf("trust: -trust-file: %w", err)
		}
		s.pinned = all
		if Of(all[0]) != Of(c) {
			return &Refused{fmt.Sprintf("trust: the server's group has the fingerprint %v; this terminal trusts %v", Of(c), Of(all[0]))}
		}
		return nil
	}
	if err != nil {
		return err
	}
	s.pinned = []*x509.Certificate{c}
	return nil
}

// place makes a file appear whole, and never in place of another.
func place(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".trust-*") // 0600
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return nil
}

// TLS is how a control connection is dialled. The handshake fails with an
// Unknown or a Refused where the server is not to be believed.
func (s *Store) TLS() *tls.Config {
	var own []tls.Certificate
	if s.key != nil {
		own = []tls.Certificate{*s.key}
	}
	return &tls.Config{
		Certificates: own,
		MinVersion:   tls.VersionTLS13,
		ServerName:   s.name,
		NextProtos:   []string{s.alpn},
		// The library's own verification knows no way to look at an authority
		// that is not trusted yet. VerifyConnection does all that it would do,
		// and runs for every connection.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			return s.Verify(c.PeerCertificates, time.Now())
		},
	}
}

// Verify decides on a server that showed this chain and has proved to own its
// first certificate.
func (s *Store) Verify(chain []*x509.Certificate, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(chain) == 0 || len(chain) > maxChain {
		return &Refused{fmt.Sprintf("trust: the server showed %d certificates", len(chain))}
	}
	if len(s.pinned) > 0 {
		if err := s.verify(chain, s.pinned, now); err != nil {
			return &Refused{s.refusal(chain, now, err)}
		}
		return nil
	}
	top, err := s.top(chain, now)
	if err != nil {
		return &Refused{"trust: " + err.Error()}
	}
	print := Of(top)
	switch {
	case s.mode == FirstUse:
		return &Unknown{top, print}
	case s.dhcp == nil:
		return &Refused{"trust: DHCP has named no fingerprint; the server's is " + print.String()}
	case *s.dhcp != print:
		return &Refused{fmt.Sprintf("trust: the server's group has the fingerprint %v, but DHCP named %v", print, *s.dhcp)}
	}
	return s.pin(top)
}

// verify checks a chain against authorities.
func (s *Store) verify(chain, authorities []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if chain[0].IsCA {
		return errors.New("the server shows an authority's certificate as its own")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: s.name, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// top is the authority that a server shows, if the server is of it.
func (s *Store) top(chain []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	top := chain[len(chain)-1]
	if len(chain) == 1 {
		return nil, errors.New("the server does not show its group's authority; name the authority's file with -authority")
	}
	if err := Authority(top); err != nil {
		return nil, err
	}
	if err := s.verify(chain, []*x509.Certificate{top}, now); err != nil {
		return nil, err
	}
	return top, nil
}

// refusal says whom the server is of and whom the terminal trusts.
func (s *Store) refusal(chain []*x509.Certificate, now time.Time, why error) string {
	var trusted []string
	for _, c := range s.pinned {
		trusted = append(trusted, Of(c).String())
	}
	other, err := s.top(chain, now)
	if err != nil || Of(other) == Of(s.pinned[0]) {
		return fmt.Sprintf("trust: %v; this terminal trusts %s", why, strings.Join(trusted, ", "))
	}
	return fmt.Sprintf("trust: the server's group has the fingerprint %v; this terminal trusts %s", Of(other), strings.Join(trusted, ", "))
}
