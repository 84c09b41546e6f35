package terminal

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	names "hotdesk/smartcard/identity"
	"hotdesk/smartcard/piv"
)

// presented is a world with a card that waits for its answer.
func presented(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	w.step(PowerOn{})
	w.step(Found{[]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7443")}})
	w.step(ControlUp{w.control})
	w.step(ControlBound{w.control, [names.ChannelSize]byte{7}})
	w.step(CardIn{1})
	w.step(CardRead{Card: 1, Type: "piv", ID: "00000000000000000000000000000001"})
	return w
}

func (w *world) statement(purpose string) names.Statement {
	return names.Statement{Token: "piv.00000000000000000000000000000001", Terminal: identity().Terminal, Channel: [names.ChannelSize]byte{7},
		Nonce: [alp.NonceSize]byte{9}, Time: 1e9, Purpose: purpose}
}

// question is a controlSmartCard for a command.
func (w *world) question(c apdu.Command) alp.ControlSmartCard {
	nonce := [alp.NonceSize]byte{9}
	return alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "q", CLA: c.CLA, INS: c.INS, P1: c.P1, P2: c.P2, Data: c.Data, Le: c.Le,
		Purpose: "first", Nonce: nonce[:], Time: 1e9}
}

// let reports whether the terminal passes a command on, and lets the card
// answer.
func (w *world) let(t *testing.T, c apdu.Command) bool {
	t.Helper()
	for _, a := range w.line(w.question(c).Message()) {
		switch a := a.(type) {
		case Exchange:
			if a.Card != 1 || !bytes.Equal(a.Command, c.Append(nil)) {
				t.Errorf("passed on %v", a)
			}
			w.step(CardAnswered{Card: 1, Tag: a.Tag, Answer: []byte{0x90, 0}})
			return true
		case Send:
			i, err := alp.ParseInfoSmartCard(a.Message)
			if err != nil || i.OK || i.Cause == "" {
				t.Errorf("answered %v", a)
			}
			return false
		}
	}
	t.Fatalf("neither passed on nor refused: %v", c)
	return false
}

func (w *world) pin(t *testing.T, status uint16) (asked bool) {
	t.Helper()
	for _, a := range w.line(alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "p", PIN: true}.Message()) {
		if a, ok := a.(AskPIN); ok {
			asked = true
			w.step(PINGiven{Card: a.Card, Tag: a.Tag, Status: status})
		}
	}
	return asked
}

// What a hostile server asks does not reach the card.
func TestWhatAServerMayAsk(t *testing.T) {
	st := (&world{}).statement("first")
	block := func(st names.Statement) []byte {
		b, err := st.Block(piv.P256)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	digest, _ := st.Digest(0)
	selectPIV, selectSimple := piv.Select(), apdu.Select(apdu.SimpleAID)
	sign9E, sign9A := piv.Authenticate(piv.P256, piv.CardAuthentication, block(st)), piv.Authenticate(piv.P256, piv.Authentication, block(st))
	change := func(f func(*names.Statement)) names.Statement { s := st; f(&s); return s }
	verify, err := piv.Verify("123456")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		before []apdu.Command
		cmd    apdu.Command
		want   bool
	}{
		{"SELECT PIV", nil, selectPIV, true},
		{"SELECT simple", nil, selectSimple, true},
		{"SELECT another", nil, apdu.Select([]byte{0xd2, 0x76, 0, 1, 0x24, 1}), false},
		{"SELECT a file", nil, apdu.Command{INS: apdu.InsSelect, Data: []byte{0x3f, 0}}, false},
		{"CHUID", []apdu.Command{selectPIV}, piv.Get(piv.CHUID), true},
		{"certificate", []apdu.Command{selectPIV}, piv.Get(piv.Cert9A), true},
		{"before SELECT", nil, piv.Get(piv.CHUID), false},
		{"another object", []apdu.Command{selectPIV}, piv.Get(0x5FC103), false}, // fingerprints
		{"GET RESPONSE", []apdu.Command{selectPIV}, apdu.GetResponse(0, 256), true},
		{"VERIFY", []apdu.Command{selectPIV}, verify, false},
		{"another instruction", []apdu.Command{selectPIV}, apdu.Command{INS: 0xDB, P1: 0x3f, P2: 0xff}, false},
		{"another class", []apdu.Command{selectPIV}, apdu.Command{CLA: 0x80, INS: apdu.InsGetResponse, Le: 256}, false},
		{"9E", []apdu.Command{selectPIV}, sign9E, true},
		{"9E of the simple card", []apdu.Command{selectSimple}, sign9E, false},
		{"9A without a PIN", []apdu.Command{selectPIV}, sign9A, false},
		{"9C", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, 0x9C, block(st)), false},
		{"9D", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, 0x9D, block(st)), false},
		{"another algorithm", []apdu.Command{selectPIV}, piv.Authenticate(0x06, piv.CardAuthentication, block(st)), false},
		{"something else", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, piv.CardAuthentication, make([]byte, 32)), false},
		{"another nonce", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, piv.CardAuthentication, block(change(func(s *names.Statement) { s.Nonce[0]++ }))), false},
		{"another terminal", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, piv.CardAuthentication, block(change(func(s *names.Statement) { s.Terminal = "02005e000002" }))), false},
		{"another connection", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, piv.CardAuthentication, block(change(func(s *names.Statement) { s.Channel[0]++ }))), false},
		{"another card", []apdu.Command{selectPIV}, piv.Authenticate(piv.P256, piv.CardAuthentication, block(change(func(s *names.Statement) { s.Token = "piv.02" }))), false},
		{"the simple card's", []apdu.Command{selectSimple}, apdu.SimpleChallenge(digest), true},
		{"the simple card's, of PIV", []apdu.Command{selectPIV}, apdu.SimpleChallenge(digest), false},
		{"the simple card's, something else", []apdu.Command{selectSimple}, apdu.SimpleChallenge(make([]byte, 32)), false},
	} {
		w := presented(t)
		for _, c := range tc.before {
			if !w.let(t, c) {
				t.Fatalf("%s: what comes before is refused", tc.name)
			}
		}
		if got := w.let(t, tc.cmd); got != tc.want {
			t.Errorf("%s: passed on %v, want %v", tc.name, got, tc.want)
		}
	}

	// RSA comes in pieces: the last one decides.
	for _, good := range []bool{true, false} {
		w := presented(t)
		s := w.statement("first")
		if !good {
			s.Time++
		}
		b, err := s.Block(piv.RSA3072)
		if err != nil {
			t.Fatal(err)
		}
		w.let(t, selectPIV)
		chain := apdu.Chain(piv.Authenticate(piv.RSA3072, piv.CardAuthentication, b), apdu.MaxShortData)
		for i, c := range chain {
			if got, want := w.let(t, c), good || i < len(chain)-1; got != want {
				t.Errorf("good %v, piece %d of %d: passed on %v", good, i+1, len(chain), got)
			}
		}
	}

	// One PIN, one signature of 9A; and only after it was right.
	w := presented(t)
	w.let(t, selectPIV)
	if !w.pin(t, 0x63c2) || w.let(t, sign9A) {
		t.Error("9A after a wrong PIN")
	}
	if !w.pin(t, apdu.OK) || !w.let(t, sign9A) || w.let(t, sign9A) {
		t.Error("9A twice for one PIN, or never")
	}

	// Not before a card is presented, after the answer, or once the card is out.
	w = presented(t)
	w.line(alp.ConnInf{TokenSeq: w.m.seq, Token: "piv.1", Cause: "no", OSD: 6}.Message())
	if w.let(t, selectPIV) || w.pin(t, apdu.OK) {
		t.Error("asked after the answer")
	}
	w.step(CardOut{1})
	if w.let(t, selectPIV) {
		t.Error("asked without a card")
	}
}

// The words of the screen while a PIN is asked for.
func TestPINScreens(t *testing.T) {
	w := presented(t)
	w.let(t, piv.Select())
	for _, s := range []struct {
		status uint16
		want   OSD
	}{
		{0x63c2, OSD{CodePIN, "Enter your card's PIN", "Type it, then press Return. Escape gives up."}},
		{0x63c1, OSD{CodePIN, "Wrong PIN: 2 tries left", "Type it, then press Return. Escape gives up."}},
		{0x6983, OSD{CodePIN, "Wrong PIN: 1 try left", "If the next PIN is wrong too, the card is blocked. Type it, then press Return. Escape gives up."}},
	} {
		var tag string
		for _, a := range w.line(alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "p", PIN: true}.Message()) {
			if a, ok := a.(AskPIN); ok {
				tag = a.Tag
			}
		}
		if got := w.m.Status().OSD; tag == "" || got != s.want {
			t.Errorf("the screen says %+v, want %+v", got, s.want)
		}
		w.step(PINGiven{Card: 1, Tag: tag, Status: s.status})
	}
	if got := w.m.Status().OSD; got.Code != CodePINFailed || got.Title != titleBlocked {
		t.Errorf("blocked: %+v", got)
	}
	w.line(alp.ConnInf{TokenSeq: w.m.seq, Token: "piv.1", Cause: "Ask the administrator.", OSD: CodePINFailed}.Message())
	if got := w.m.Status(); got.OSD != (OSD{CodePINFailed, titleBlocked, "Ask the administrator."}) || got.State != Refused {
		t.Errorf("refused: %+v", got)
	}
}

// The card says how often its PIN may be wrong before one is typed. One that is
// blocked takes none.
func TestPINTries(t *testing.T) {
	const how = "Type it, then press Return. Escape gives up."
	for _, tc := range []struct {
		tag    string
		status uint16
		want   OSD
		asked  string // what the server is told
	}{
		{"p", 0x63c3, OSD{CodePIN, "Enter your card's PIN", "3 tries left. " + how}, ""},
		{"p", 0x63c1, OSD{CodePIN, "Enter your card's PIN", "1 try left: if the PIN is wrong, the card is blocked. " + how}, ""},
		{"p", 0x9000, OSD{CodePIN, "Enter your card's PIN", how}, ""},
		{"p", 0x6d00, OSD{CodePIN, "Enter your card's PIN", how}, ""},
		{"old", 0x6983, OSD{CodePIN, "Enter your card's PIN", how}, ""},
		{"p", 0x6983, OSD{CodePINFailed, titleBlocked, "Its PIN was wrong too often."}, "6983"},
	} {
		w := presented(t)
		w.let(t, piv.Select())
		asks := 0
		for _, a := range w.line(alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "p", PIN: true}.Message()) {
			if a == (AskTries{1, "p"}) {
				asks++
			}
		}
		told := ""
		for _, a := range w.step(PINTries{Card: 1, Tag: tc.tag, Status: tc.status}) {
			if s, ok := a.(Send); ok {
				told = s.Message.Get("status")
			}
		}
		if got := w.m.Status().OSD; asks != 1 || got != tc.want || told != tc.asked {
			t.Errorf("%s %04x: asked %d times, the screen says %+v, the server is told %q", tc.tag, tc.status, asks, got, told)
		}
		// What was typed meanwhile counts only for a card that is not blocked.
		if out := w.step(PINGiven{Card: 1, Tag: "p", Status: 0x63c1}); (len(out) == 0) != (tc.asked != "") {
			t.Errorf("%s %04x: a PIN afterwards does %v", tc.tag, tc.status, out)
		}
	}
	// After a wrong PIN it is known.
	w := presented(t)
	w.let(t, piv.Select())
	w.pin(t, 0x63c2)
	for _, a := range w.line(alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "p", PIN: true}.Message()) {
		if _, ok := a.(AskTries); ok {
			t.Error("asked for the tries again")
		}
	}
}

// Whatever ends the presentation ends the proof, in the same step.
func TestProofEnds(t *testing.T) {
	for name, end := range map[string]func(*world) []Action{
		"card out":     func(w *world) []Action { return w.step(CardOut{1}) },
		"control down": func(w *world) []Action { return w.step(ControlDown{Control: w.control, Reason: "reset"}) },
		"power":        func(w *world) []Action { return w.step(PowerCycle{}) },
		"refused": func(w *world) []Action {
			return w.line(alp.ConnInf{TokenSeq: w.m.seq, Token: "piv.1", Cause: "no", OSD: 6}.Message())
		},
		"allowed": func(w *world) []Action {
			return w.line(alp.ConnInf{TokenSeq: w.m.seq, Allowed: true, Token: "piv.1", MediaPort: 1, Ticket: make([]byte, alp.TicketSize), Gen: 1, Session: "00000000000000aa"}.Message())
		},
	} {
		w := presented(t)
		w.let(t, piv.Select())
		w.line(alp.ControlSmartCard{TokenSeq: w.m.seq, Tag: "p", PIN: true}.Message())
		ends := 0
		for _, a := range end(w) {
			if a == (EndProof{1}) {
				ends++
			}
		}
		if ends != 1 {
			t.Errorf("%s: the proof was ended %d times", name, ends)
		}
		for _, a := range w.step(PINGiven{Card: 1, Tag: "p", Status: apdu.OK}) {
			t.Errorf("%s: a PIN afterwards does %v", name, a)
		}
	}
}

// A card that is in when other rules come is named again; what it shows stays
// only if that is its name still.
func TestRulesChange(t *testing.T) {
	rules := alp.CardRules{Version: "v2", List: "simple,atr"}
	for _, id := range []string{"00000000000000000000000000000001", "2"} {
		w := presented(t)
		seq := w.m.seq
		out := w.line(rules.Message())
		if len(out) != 2 || out[0] != (SetRules{"v2", "simple,atr"}) || out[1] != (NameCard{1}) {
			t.Fatalf("rules: %v", out)
		}
		if out := w.line(rules.Message()); len(out) != 0 {
			t.Errorf("the same rules again: %v", out)
		}
		if out := w.step(CardRead{Card: 1, Type: "piv", ID: "3"}); len(out) != 0 {
			t.Errorf("named by the old rules: %v", out)
		}
		var last alp.InfoReq
		for _, a := range w.step(CardRead{Card: 1, Type: "piv", ID: id, Rules: "v2"}) {
			if s, ok := a.(Send); ok {
				if r, err := alp.ParseInfoReq(s.Message); err == nil && !r.Remove {
					last = r
				}
			}
		}
		if last.ID != id || last.Rules != "v2" || last.TokenSeq <= seq {
			t.Errorf("presented %+v", last)
		}
	}
	w := presented(t)
	if out := w.line(alp.CardRules{Version: "v3", List: "gold"}.Message()); len(out) != 0 {
		t.Errorf("rules that nobody knows: %v", out)
	}
	w.step(ControlDown{Control: w.control, Reason: "reset"})
}

// FuzzGuard: no command of a server gets further than its kind may.
func FuzzGuard(f *testing.F) {
	st := (&world{}).statement("first")
	b, _ := st.Block(piv.RSA2048)
	for _, c := range append(apdu.Chain(piv.Authenticate(piv.RSA2048, piv.CardAuthentication, b), 255), piv.Select(), piv.Get(piv.Cert9A), apdu.Select(apdu.SimpleAID)) {
		f.Add(c.Append(nil), c.Append(nil))
	}
	verify, _ := hex.DecodeString("0020008008313233343536ffff")
	f.Add(piv.Select().Append(nil), verify)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var g guard
		for _, raw := range [][]byte{first, second} {
			c, err := apdu.ParseCommand(raw)
			if err != nil {
				return
			}
			if g.allow(c, st) != "" {
				continue
			}
			if !strings.Contains("\xa4\x87\x88\xc0\xcb", string([]byte{c.INS})) {
				t.Fatalf("instruction %02x is let through", c.INS)
			}
			if c.INS == apdu.InsGeneralAuthenticate && c.P2 != piv.CardAuthentication && c.CLA == 0 {
				t.Fatalf("key %02x without a PIN", c.P2)
			}
		}
	})
}
