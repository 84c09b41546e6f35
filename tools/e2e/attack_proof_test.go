package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/identity"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/testdata"
)

// proves is a rogue that has a card, or what it has seen of one.
type proves struct {
	*rogue
	card emulated.Plastic
	t    *testing.T
}

// asked is the next question for the card.
func (p proves) asked() alp.ControlSmartCard {
	p.t.Helper()
	m, err := p.next(alp.CmdControlSmartCard)
	p.f.must(err)
	q, err := alp.ParseControlSmartCard(m)
	p.f.must(err)
	return q
}

func (p proves) answer(q alp.ControlSmartCard, data []byte) {
	p.say(alp.InfoSmartCard{Tag: q.Tag, OK: true, Data: data, Status: apdu.OK}.Message())
}

// challenge presents the card and returns what it is to prove itself by.
func (p proves) challenge() alp.ControlSmartCard {
	p.t.Helper()
	p.say(p.event(p.token(), false))
	p.answer(p.asked(), nil) // SELECT
	return p.asked()
}

func (p proves) token() alp.Token {
	return alp.Token("simple." + hex.EncodeToString(p.card.ID[:]))
}

// mac is what the card says.
func (p proves) mac(challenge []byte) []byte {
	m := hmac.New(sha256.New, p.card.Secret[:])
	m.Write([]byte(apdu.SimpleLabel))
	m.Write(challenge)
	return m.Sum(nil)
}

func (p proves) verdict() alp.ConnInf {
	p.t.Helper()
	m, err := p.next(alp.CmdConnInf)
	p.f.must(err)
	c, err := alp.ParseConnInf(m)
	p.f.must(err)
	return c
}

// TestAttackProof: the gateway has a card sign what is bound to its
// connection, and believes an answer once, there.
func TestAttackProof(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	text, err := fs.ReadFile(testdata.Cards, "cards/card2.card")
	if err != nil {
		t.Fatal(err)
	}
	card, err := emulated.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var secrets strings.Builder
	for _, name := range []string{"card1", "card2"} {
		text, err := fs.ReadFile(testdata.Cards, "cards/"+name+".card")
		if err != nil {
			t.Fatal(err)
		}
		c, err := emulated.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		secrets.WriteString(hex.EncodeToString(c.ID[:]) + " " + hex.EncodeToString(c.Secret[:]) + "\n")
	}
	for name, data := range map[string]string{"secrets": secrets.String(), "rules": "card simple simple simple\nsecrets secrets\n"} {
		if err := os.WriteFile(at(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := newFort(t, "-proof-rules", at("rules"))

	// The card's owner: the statement is of this connection, and holds.
	owner := proves{f.rogue(1, ""), card, t}
	q := owner.challenge()
	state := owner.conn.(*tls.Conn).ConnectionState()
	channel, err := state.ExportKeyingMaterial(identity.ChannelLabel, nil, identity.ChannelSize)
	f.must(err)
	st := identity.Statement{Token: owner.token(), Terminal: owner.id, Channel: [identity.ChannelSize]byte(channel),
		Nonce: [alp.NonceSize]byte(q.Nonce), Time: q.Time, Purpose: q.Purpose}
	if digest, _ := st.Digest(0); !bytes.Equal(digest, q.Data) || q.Purpose != "first" {
		t.Errorf("the card is asked for %x", q.Data)
	}
	recorded := owner.mac(q.Data)
	owner.answer(q, recorded)
	if c := owner.verdict(); !c.Allowed || c.Session == "" {
		t.Fatalf("the owner: %+v", c)
	}
	owner.say(owner.event(owner.token(), true))

	// Its answer again: on the same connection, on another, in another
	// terminal's name, and in the name of the owner's.
	for n, from := range []func() proves{
		func() proves { return owner },
		func() proves { return proves{f.rogue(2, ""), card, t} },
		func() proves { return proves{f.rogue(1, ""), card, t} },
	} {
		thief := from()
		q := thief.challenge()
		if bytes.Equal(q.Data, st.Append(nil)) || bytes.Equal(thief.mac(q.Data), recorded) {
			t.Fatalf("thief %d is asked the same again", n)
		}
		thief.answer(q, recorded)
		if c := thief.verdict(); c.Allowed || c.OSD != 6 || !strings.Contains(c.Cause, "genuine") {
			t.Errorf("thief %d: %+v", n, c)
		}
		thief.say(thief.event(thief.token(), true))
	}

	// One that answers everything at once, before it is asked, gets nothing.
	hasty := proves{f.rogue(3, ""), card, t}
	hasty.say(hasty.event(hasty.token(), false))
	for range 20 {
		hasty.say(alp.InfoSmartCard{Tag: "0.1", OK: true, Data: recorded, Status: apdu.OK}.Message())
	}
	q = hasty.asked()
	hasty.say(alp.InfoSmartCard{Tag: q.Tag, Cause: "the card is out"}.Message())
	if c := hasty.verdict(); c.Allowed || c.OSD != 5 {
		t.Errorf("hasty: %+v", c)
	}

	// An answer relayed: the owner's card, asked at another terminal, signs for
	// that one's connection.
	near, far := proves{f.rogue(4, ""), card, t}, proves{f.rogue(5, ""), card, t}
	qNear, qFar := near.challenge(), far.challenge()
	far.answer(qFar, near.mac(qNear.Data))
	if c := far.verdict(); c.Allowed {
		t.Error("an answer was relayed")
	}
	near.answer(qNear, near.mac(qNear.Data))
	if c := near.verdict(); !c.Allowed || c.Session == "" {
		t.Errorf("the owner, meanwhile: %+v", c)
	}
	f.unharmed()
}
