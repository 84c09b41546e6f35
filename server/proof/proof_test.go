package proof

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/emulated/issuer"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A bench is an issuer and a reader with its cards.
type bench struct {
	t      *testing.T
	issuer *issuer.Issuer
	files  fstest.MapFS
	reader *emulated.Reader
}

func newBench(t *testing.T) *bench {
	i, err := issuer.New(epoch)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, issuer: i, files: fstest.MapFS{}}
	b.reader = emulated.New(b.files)
	t.Cleanup(func() { b.reader.Close() })
	return b
}

func (b *bench) make(s issuer.Spec) {
	files, err := b.issuer.Card(s)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, data := range files {
		b.files[name] = &fstest.MapFile{Data: data}
	}
}

func (b *bench) cert(name, slot string) *x509.Certificate {
	block, _ := pem.Decode(b.files[name+"-"+slot+".pem"].Data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) in(name string) (*emulated.Card, alp.Token) {
	c, err := b.reader.Insert(name)
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := identity.Identify(b.t.Context(), c, identity.Rules())
	if err != nil {
		b.t.Fatal(err)
	}
	return c, alp.Token(token.Type + "." + token.ID)
}

func (b *bench) trust(lists ...[]byte) *Trust {
	t, err := ParseTrust([][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.issuer.Authority.Raw})}, lists)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

func (b *bench) revoke(certs ...*x509.Certificate) []byte {
	list, err := b.issuer.Revoke(certs...)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

func config(kind Kind, token alp.Token, trust *Trust) Config {
	c := Config{Kind: kind, Use: First, TokenSeq: 3, Token: token, Terminal: "02005e000001", Trust: trust}
	for i := range c.Nonce {
		c.Nonce[i], c.Channel[i] = byte(i+1), byte(200-i)
	}
	return c
}

// answer is what a terminal does with a question; pins are typed in turn.
func answer(t *testing.T, c *emulated.Card, q *alp.ControlSmartCard, pins *[]string) alp.InfoSmartCard {
	var cmd apdu.Command
	switch {
	case q.PIN && len(*pins) == 0:
		return alp.InfoSmartCard{Tag: q.Tag, Cause: "given up"}
	case q.PIN:
		var err error
		if cmd, err = piv.Verify((*pins)[0]); err != nil {
			t.Fatal(err)
		}
		*pins = (*pins)[1:]
	default:
		cmd = apdu.Command{CLA: q.CLA, INS: q.INS, P1: q.P1, P2: q.P2, Data: q.Data, Le: q.Le}
	}
	b, err := c.Transmit(t.Context(), cmd.Append(nil))
	if err != nil {
		return alp.InfoSmartCard{Tag: q.Tag, Cause: err.Error()}
	}
	r, err := apdu.ParseResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return alp.InfoSmartCard{Tag: q.Tag, OK: true, Data: r.Data, Status: r.Status}
}

// run plays a proof through, over the lines that cross the wire.
func run(t *testing.T, cfg Config, c *emulated.Card, now time.Time, pins ...string) Result {
	m := New(cfg)
	s := m.Begin(now)
	for n := 0; s.End == nil; n++ {
		if s.Ask == nil || n > MaxAsks {
			t.Fatalf("no question and no end after %d", n)
		}
		q, err := alp.ParseControlSmartCard(s.Ask.Message())
		if err != nil {
			t.Fatal(err)
		}
		a, err := alp.ParseInfoSmartCard(answer(t, c, &q, &pins).Message())
		if err != nil {
			t.Fatal(err)
		}
		s = m.Answer(now, a)
	}
	if !m.Next().IsZero() {
		t.Errorf("a proof that has ended has a timer")
	}
	return *s.End
}

func TestPIV(t *testing.T) {
	b := newBench(t)
	for name, a := range map[string]byte{"p256": piv.P256, "p384": piv.P384, "rsa2048": piv.RSA2048, "rsa3072": piv.RSA3072} {
		b.make(issuer.Spec{Name: name, PIN: "123456", Algorithm: a})
		for _, kind := range []Kind{PIV, PIVCard, PIN} {
			c, token := b.in(name)
			if r := run(t, config(kind, token, b.trust()), c, epoch, "123456"); r != (Result{Outcome: Proven}) {
				t.Errorf("%s, %s: %+v", name, kind, r)
			}
		}
	}
}

func TestPIVRefused(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	b.make(issuer.Spec{Name: "unbound", PIN: "123456", Unbound: true})
	other := newBench(t)
	other.make(issuer.Spec{Name: "eve", PIN: "123456"})
	_, ada := b.in("ada")
	raw, _ := hex.DecodeString(strings.TrimPrefix(string(ada), "piv."))
	b.make(issuer.Spec{Name: "copy", PIN: "123456", GUID: [piv.GUIDSize]byte(raw), Unbound: true})
	// A copy of all that can be read of Ada's card, with a key of its own.
	text := strings.ReplaceAll(string(b.files["copy.card"].Data), "copy-", "forged-")
	b.files["forged.card"] = &fstest.MapFile{Data: []byte(text)}
	b.files["forged-9a.key.pem"], b.files["forged-9a.pem"] = b.files["copy-9a.key.pem"], b.files["copy-9a.pem"]
	b.files["forged-9e.key.pem"], b.files["forged-9e.pem"] = b.files["copy-9e.key.pem"], b.files["copy-9e.pem"]
	revoked := b.trust(b.revoke(b.cert("ada", "9a"), b.cert("ada", "9e")))
	allow := b.trust(b.revoke())
	allow.AllowExpired = true
	for _, tc := range []struct {
		name  string
		from  *bench
		card  string
		trust *Trust
		now   time.Time
		want  string
	}{
		{"good", b, "ada", b.trust(b.revoke()), epoch, ""},
		{"no authority", b, "ada", nil, epoch, sayUnknown},
		{"unknown authority", other, "eve", b.trust(), epoch, sayUnknown},
		{"expired", b, "ada", b.trust(), epoch.AddDate(2, 0, 0), sayExpired},
		{"not yet", b, "ada", b.trust(), epoch.AddDate(-1, 0, 0), sayExpired},
		{"revoked", b, "ada", revoked, epoch, sayRevoked},
		{"old list", b, "ada", b.trust(b.revoke()), epoch.AddDate(0, 2, 0), sayLists},
		{"old list allowed", b, "ada", allow, epoch.AddDate(0, 2, 0), ""},
		{"list of others", b, "ada", b.trust(other.revoke()), epoch, sayLists},
		{"names no card", b, "unbound", b.trust(), epoch, sayUnbound},
		{"a copied CHUID", b, "copy", b.trust(), epoch, sayUnbound},
		{"a copy", b, "forged", b.trust(), epoch, sayUnbound},
	} {
		for _, kind := range []Kind{PIV, PIVCard} {
			c, token := tc.from.in(tc.card)
			r := run(t, config(kind, token, tc.trust), c, tc.now, "123456")
			if r.Reason != tc.want || (r.Outcome == Proven) != (tc.want == "") {
				t.Errorf("%s, %s: %+v", tc.name, kind, r)
			}
		}
	}
	// The certificate is Ada's own, the key is not: a card that answers for
	// another one's certificate.
	c, token := b.in("copy")
	m := New(config(PIVCard, token, b.trust()))
	s := m.Begin(epoch)
	object := piv.AppendCert(nil, b.cert("ada", "9e").Raw)
	var none []string
	for s.End == nil {
		a := answer(t, c, s.Ask, &none)
		if s.Ask.INS == apdu.InsGetDataObject || s.Ask.INS == apdu.InsGetResponse {
			n := min(len(object), 256)
			a.Data, a.Status = object[:n], apdu.OK
			if object = object[n:]; len(object) > 0 {
				a.Status = apdu.MoreData
			}
		}
		s = m.Answer(epoch, a)
	}
	if s.End.Outcome != Refused || s.End.Reason != sayProof {
		t.Errorf("a copied certificate: %+v", s.End)
	}
}

// Who has found a card lets it answer with 9E, which needs no PIN, for 9A, and
// says that whatever PIN is typed is right.
func TestFoundCard(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	for _, tc := range []struct {
		kind Kind
		text *strings.Replacer
	}{
		{PIV, strings.NewReplacer("ada-9a", "ada-9e", "123456", "000000")},
		{PIVCard, strings.NewReplacer("ada-9e", "ada-9a")},
	} {
		b.files["found.card"] = &fstest.MapFile{Data: []byte(tc.text.Replace(string(b.files["ada.card"].Data)))}
		c, token := b.in("found")
		if r := run(t, config(tc.kind, token, b.trust()), c, epoch, "000000"); r.Outcome != Refused || r.Reason != sayKey {
			t.Errorf("%s: %+v", tc.kind, r)
		}
	}
}

func TestPINs(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	for _, kind := range []Kind{PIN, PIV} {
		c, token := b.in("ada")
		if r := run(t, config(kind, token, b.trust()), c, epoch, "111111", "222222", "123456"); r != (Result{Outcome: Proven, Wrong: 2}) {
			t.Errorf("%s, wrong twice: %+v", kind, r)
		}
		if r := run(t, config(kind, token, b.trust()), c, epoch, "111111"); r.Outcome != NoPIN || r.Wrong != 1 {
			t.Errorf("%s, given up: %+v", kind, r)
		}
		run(t, config(kind, token, b.trust()), c, epoch, "123456")
	}
	c, token := b.in("ada")
	for range 2 {
		if r := run(t, config(PIV, token, b.trust()), c, epoch, "1111111", "2222222", "3333333", "123456"); r.Outcome != Blocked {
			t.Errorf("blocked: %+v", r)
		}
	}
	other := newBench(t)
	other.make(issuer.Spec{Name: "eve", PIN: "123456"})
	c, _ = other.in("eve")
	if r := run(t, config(PIN, token, nil), c, epoch, "123456"); r.Outcome != Refused {
		t.Errorf("another card than the token's: %+v", r)
	}
}

func TestFirstUse(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456", Unbound: true})
	b.make(issuer.Spec{Name: "eve", PIN: "123456", Unbound: true})
	c, token := b.in("ada")
	cfg := config(PIVCard, token, b.trust())
	cfg.FirstUse = true
	r := run(t, cfg, c, epoch)
	if r.Outcome != Proven || r.Key != Fingerprint(b.cert("ada", "9e")) {
		t.Fatalf("first use: %+v", r)
	}
	cfg.Known = r.Key
	if r := run(t, cfg, c, epoch); r != (Result{Outcome: Proven}) {
		t.Errorf("again: %+v", r)
	}
	c, _ = b.in("eve")
	if r := run(t, cfg, c, epoch); r.Outcome != Refused || r.Reason != sayUnbound {
		t.Errorf("another card: %+v", r)
	}
}

func TestSimple(t *testing.T) {
	b := newBench(t)
	const id, secret = "0123456789abcdef", "00112233445566778899aabbccddeeff"
	b.files["s.card"] = &fstest.MapFile{Data: fmt.Appendf(nil, "atr = 3b00\ntype = simple\nid = %s\nsecret = %s\n", id, secret)}
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	c, token := b.in("s")
	raw, _ := hex.DecodeString(secret)
	right, wrong := Secret(raw), Secret{1}
	for _, tc := range []struct {
		name   string
		secret *Secret
		token  alp.Token
		want   string
	}{
		{"right", &right, token, ""}, {"copied id", &wrong, token, sayProof}, {"not known", nil, token, saySecret}, {"other kind", &right, "piv.01", sayOther},
	} {
		cfg := config(Simple, tc.token, nil)
		cfg.Secret = tc.secret
		if r := run(t, cfg, c, epoch); r.Reason != tc.want || (r.Outcome == Proven) != (tc.want == "") {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}
	c, _ = b.in("ada")
	cfg := config(Simple, token, nil)
	cfg.Secret = &right
	if r := run(t, cfg, c, epoch); r.Outcome != Refused {
		t.Errorf("a PIV card for a simple one: %+v", r)
	}
	if s := fmt.Sprint(right, fmt.Sprintf("%#v", right)); strings.Contains(s, "17") {
		t.Errorf("a secret says %s", s)
	}
}

// What a card has signed for one proof is worth nothing for another: not with
// another nonce, time, terminal, connection, purpose or token.
func TestReplay(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	c, token := b.in("ada")
	good := config(PIVCard, token, b.trust())
	var recorded []alp.InfoSmartCard
	m := New(good)
	var none []string
	s := m.Begin(epoch)
	for s.End == nil {
		a := answer(t, c, s.Ask, &none)
		recorded = append(recorded, a)
		s = m.Answer(epoch, a)
	}
	for name, change := range map[string]func(*Config){
		"nothing":    func(*Config) {},
		"nonce":      func(c *Config) { c.Nonce[31]++ },
		"terminal":   func(c *Config) { c.Terminal = "02005e000002" },
		"connection": func(c *Config) { c.Channel[0]++ },
		"purpose":    func(c *Config) { c.Use = Reattach },
	} {
		cfg := good
		change(&cfg)
		m := New(cfg)
		s := m.Begin(epoch)
		for _, a := range recorded {
			if s.Ask == nil {
				break
			}
			if late := m.Answer(epoch, alp.InfoSmartCard{Tag: "old.1", OK: true, Status: apdu.OK}); late != (Step{}) {
				t.Fatalf("%s: an answer to another question counts", name)
			}
			a.Tag = s.Ask.Tag
			s = m.Answer(epoch, a)
		}
		if s.End == nil || (s.End.Outcome == Proven) != (name == "nothing") {
			t.Errorf("replay with another %s: %+v", name, s.End)
		}
	}
	m = New(good)
	s = m.Begin(epoch.Add(time.Second))
	for _, a := range recorded {
		a.Tag = s.Ask.Tag
		s = m.Answer(epoch.Add(time.Second), a)
	}
	if s.End.Outcome != Refused {
		t.Errorf("replay a second later: %+v", s.End)
	}
}

func TestTimeOuts(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	c, token := b.in("ada")
	m := New(config(PIN, token, nil))
	s := m.Begin(epoch)
	if got := m.Next(); got != epoch.Add(AnswerWithin) || m.Tick(got.Add(-1)) != (Step{}) {
		t.Errorf("the first answer is awaited until %v", got)
	}
	if s := New(config(PIN, token, nil)); s.Begin(epoch).Ask == nil || s.Tick(epoch.Add(AnswerWithin)).End.Outcome != CardError {
		t.Errorf("a card that does not answer")
	}
	var none []string
	for !s.Ask.PIN {
		s = m.Answer(epoch, answer(t, c, s.Ask, &none))
	}
	if end := m.Tick(epoch.Add(PINWithin)).End; end == nil || end.Outcome != NoPIN {
		t.Errorf("no PIN: %+v", end)
	}
	if m.Answer(epoch, alp.InfoSmartCard{Tag: s.Ask.Tag, OK: true, Status: apdu.OK}) != (Step{}) {
		t.Error("an answer after the end counts")
	}
}

// A card, or a terminal, that answers anything at all proves nothing, and ends.
func TestHostileAnswers(t *testing.T) {
	b := newBench(t)
	trust := b.trust(b.revoke())
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		kind := []Kind{PIVCard, PIV, Simple}[rng.IntN(3)]
		cfg := config(kind, "piv.00000000000000000000000000000001", trust)
		if kind == Simple {
			cfg.Token, cfg.Secret = "simple.0123456789abcdef", &Secret{1}
		}
		m := New(cfg)
		s := m.Begin(epoch)
		for n := 0; s.End == nil; n++ {
			if s.Ask == nil || n > MaxAsks+1 {
				t.Fatalf("seed %d: no end", seed)
			}
			s = m.Answer(epoch, alp.InfoSmartCard{Tag: s.Ask.Tag, OK: rng.IntN(50) > 0, Data: garbage(rng),
				Status: []uint16{0x9000, 0x9000, 0x6100, 0x6c10, 0x63c2, 0x6983, 0x6a82}[rng.IntN(7)]})
		}
		if s.End.Outcome == Proven || s.End.Reason == "" {
			t.Fatalf("seed %d: %+v", seed, s.End)
		}
	}
}

func garbage(rng *rand.Rand) []byte {
	b := make([]byte, rng.IntN(257))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if rng.IntN(3) == 0 && len(b) > 4 {
		copy(b, []byte{0x53, 0x82, 0, byte(len(b) - 4)})
	}
	return b
}

func TestParseTrust(t *testing.T) {
	b := newBench(t)
	b.make(issuer.Spec{Name: "ada", PIN: "123456"})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.issuer.Authority.Raw})
	root := sign(t, 1, "root", true, nil, nil)
	between := sign(t, 2, "between", true, &root, nil)
	for name, tc := range map[string]struct{ authorities, lists [][]byte }{
		"no PEM":         {[][]byte{[]byte("hello")}, nil},
		"a key":          {[][]byte{b.files["ada-9a.key.pem"].Data}, nil},
		"no authority":   {[][]byte{b.files["ada-9a.pem"].Data}, nil},
		"no root":        {[][]byte{between.pem()}, nil},
		"a bad list":     {[][]byte{authority}, [][]byte{[]byte("list")}},
		"too many lists": {[][]byte{authority}, bytes.Split(bytes.Repeat(append([]byte("x"), ','), MaxLists+1), []byte(","))},
	} {
		if got, err := ParseTrust(tc.authorities, tc.lists); err == nil || got != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzCertificateObject(f *testing.F) {
	i, err := issuer.New(epoch)
	if err != nil {
		f.Fatal(err)
	}
	trust, err := ParseTrust([][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Authority.Raw})}, nil)
	if err != nil {
		f.Fatal(err)
	}
	files, err := i.Card(issuer.Spec{Name: "ada", PIN: "123456"})
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(files["ada-9e.pem"])
	f.Add(piv.AppendCert(nil, block.Bytes))
	f.Fuzz(func(t *testing.T, object []byte) {
		m := New(config(PIVCard, "piv.00000000000000000000000000000001", trust))
		m.Begin(epoch)
		m.at = epoch
		if s := m.certificate(object); s.End == nil || s.End.Outcome == Proven {
			t.Fatalf("%+v", s)
		}
	})
}

// FuzzNames: the reader of FASC-Ns takes any bytes.
func FuzzNames(f *testing.F) {
	san, _ := hex.DecodeString("3029a027060860864801650306" + "06a01b0419" + strings.Repeat("d4", 25))
	f.Add(san)
	f.Fuzz(func(t *testing.T, der []byte) {
		if id := fascn(der); id != "" && len(id) != 2*piv.FASCNSize {
			t.Fatal(id)
		}
	})
}

func TestFASCN(t *testing.T) {
	san, _ := hex.DecodeString("3029a027060860864801650306" + "06a01b0419" + strings.Repeat("d4", 25))
	if got := fascn(san); got != strings.Repeat("d4", 25) {
		t.Errorf("FASC-N %q", got)
	}
}

// More counts for less, and nothing for something.
func TestCovers(t *testing.T) {
	more := map[Kind][]Kind{PIV: {PIN, PIVCard}}
	for _, given := range append([]Kind{"", "pins"}, Kinds...) {
		for _, need := range Kinds {
			want := need == None || need == given || slices.Contains(more[given], need)
			if got := given.Covers(need); got != want {
				t.Errorf("%q covers %q: %v", given, need, got)
			}
		}
	}
}
