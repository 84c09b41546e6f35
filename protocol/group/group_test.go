package group

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// seedMessage is the host message of seed 004, with the one digit less that
// its masks need ("fffffff00" is a misprint).
const seedMessage = "host=mud addr=81907f05 time=950739941 numifs=2 flags=4 " +
	"cpus=2 clock=248 interface=hme0 ip=81907f05 " +
	"mask=ffffff00 bcast=81907fff interface=ge0 ip=c0a88003 " +
	"mask=ffffff00 bcast=c0a880ff"

var mud = Host{
	Name: "mud", Addr: ip("129.144.127.5"), Time: 950739941, Flags: 4, CPUs: 2, Clock: 248, State: Online,
	Interfaces: []Interface{
		{"hme0", ip("129.144.127.5"), ip("255.255.255.0"), ip("129.144.127.255")},
		{"ge0", ip("192.168.128.3"), ip("255.255.255.0"), ip("192.168.128.255")},
	},
}

func key(b byte) Key {
	var s [KeySize]byte
	for i := range s {
		s[i] = b
	}
	return NewKey(s)
}

var full = func() Host {
	h := mud
	h.Control, h.State, h.Boot, h.Counter = 7443, Offline, 0x1122334455667788, 3
	h.Load = Load{Sessions: 12, Limit: 40, Busy: 153, Memory: 24105, Free: 23590}
	return h
}()

const fullMessage = seedMessage + " control=7443 sessions=12 limit=40 load=153 mem=24105 free=23590 state=offline boot=1122334455667788 counter=3\n"

var stamp = Stamp{Host: "mud", Time: 950739941, Boot: 0x1122334455667788, Counter: 4}

// Every message, its bytes, and its way back.
var vectors = []struct {
	name  string
	msg   any
	bytes string
}{
	{"host", full, fullMessage},
	{"serverQ", ServerQ{"Hotdesk", "0003ba0a0b0c", 0xab},
		"serverQ _=1 hw=Hotdesk sn=0003ba0a0b0c namespace=IEEE802 id=00000000000000ab pad=" + strings.Repeat("x", 142) + "\n"},
	{"serverR", ServerR{ip("192.168.128.3"), 7443, "0003ba0a0b0c", 0xab, "mud"},
		"serverR _=1 authipa=c0a88003 authport=7443 sn=0003ba0a0b0c id=00000000000000ab host=mud\n"},
	{"host, stopping", func() Host { h := full; h.State = Gone; return h }(), strings.Replace(fullMessage, "state=offline", "state=gone", 1)},
	{"host, down", func() Host { h := full; h.State = Down; return h }(), strings.Replace(fullMessage, "state=offline", "state=down", 1)},
	{"tokenQ", TokenQ{stamp, 0xff, "mondex.9998007668077709", 3},
		"tokenQ host=mud time=950739941 id=00000000000000ff token=mondex.9998007668077709 ticket=3 boot=1122334455667788 counter=4\n"},
	{"tokenQ, the seed's fields", TokenQ{stamp, 0xff, "mondex.9998007668077709", 0},
		"tokenQ host=mud time=950739941 id=00000000000000ff token=mondex.9998007668077709 boot=1122334455667788 counter=4\n"},
	{"tokenR", TokenR{Stamp: stamp, To: "host05", ID: 0xff, Token: "mondex.1", Found: []Found{
		{"0123456789abcdef", Connected, 0}, {"fedcba9876543210", Disconnected, 90500 * time.Millisecond}, {"", Starting, time.Second}}},
		"tokenR host=mud time=950739941 to=host05 id=00000000000000ff token=mondex.1 sessions=3" +
			" session=0123456789abcdef state=connected ago=0 session=fedcba9876543210 state=disconnected ago=90500" +
			" session=new state=starting ago=1000 boot=1122334455667788 counter=4\n"},
	{"tokenR, asking", TokenR{Stamp: stamp, To: "host05", ID: 1, Token: "card.1", Total: 7, Asking: true},
		"tokenR host=mud time=950739941 to=host05 id=0000000000000001 token=card.1 sessions=0 total=7 asking=1 boot=1122334455667788 counter=4\n"},
	{"tokenR, placed", TokenR{Stamp: stamp, To: "host05", ID: 1, Token: "card.1", Placed: "host22"},
		"tokenR host=mud time=950739941 to=host05 id=0000000000000001 token=card.1 sessions=0 placed=host22 boot=1122334455667788 counter=4\n"},
	{"tokenR, none", TokenR{Stamp: stamp, To: "host05", ID: 1, Token: "pseudo.0003ba0a0b0c"},
		"tokenR host=mud time=950739941 to=host05 id=0000000000000001 token=pseudo.0003ba0a0b0c sessions=0 boot=1122334455667788 counter=4\n"},
}

type appender interface{ Append([]byte) []byte }

func parse(data []byte) (any, error) {
	switch Kind(data) {
	case CmdHost:
		return anyOf(ParseHost(data))
	case CmdServerQ:
		return anyOf(ParseServerQ(data))
	case CmdServerR:
		return anyOf(ParseServerR(data))
	case CmdTokenQ:
		return anyOf(ParseTokenQ(data))
	case CmdTokenR:
		return anyOf(ParseTokenR(data))
	}
	return nil, fmt.Errorf("kind %q", Kind(data))
}

func anyOf[T any](v T, err error) (any, error) { return v, err }

func TestExactBytes(t *testing.T) {
	ring := Ring{key(1), key(2)}
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			got := v.msg.(appender).Append([]byte("before "))
			if string(got) != "before "+v.bytes {
				t.Fatalf("got  %q\nwant %q", got[7:], v.bytes)
			}
			for _, data := range [][]byte{got[7:], ring.Sign(bytes.Clone(got[7:]), SHA256), []byte(strings.TrimSpace(v.bytes) + " unknown=1 new\r\n\x00")} {
				if back, err := parse(data); err != nil || !reflect.DeepEqual(back, v.msg) {
					t.Fatalf("%q\ngot  %+v, %v\nwant %+v", data, back, err, v.msg)
				}
			}
		})
	}
}

func TestSeedMessage(t *testing.T) {
	got, err := ParseHost([]byte(seedMessage))
	if err != nil || !reflect.DeepEqual(got, mud) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if line := string(full.Append(nil)); !strings.HasPrefix(line, seedMessage+" ") {
		t.Fatalf("the seed's fields do not come first, in its order: %q", line)
	}
	if p := got.Interfaces[1].Prefix(); p.String() != "192.168.128.0/24" {
		t.Fatal(p)
	}
}

// Signatures of the seed's message by the key 0101...01, made with Python's
// hmac module.
const (
	wantKid    = "c54fee6d"
	wantSHA1   = "581afa0da080488a4b8b62d3a656164f482e30f3"
	wantSHA256 = "f52cda09570e728f3b35a2212e7336904cc7467414db6a30ee2473e76e0f82df"
)

func TestSignExactBytes(t *testing.T) {
	ring := Ring{key(1)}
	for alg, want := range map[Alg]string{
		SHA1:   " alg=hmac-sha1 kid=" + wantKid + " sig=" + wantSHA1 + "\n",
		SHA256: " alg=hmac-sha256 kid=" + wantKid + " sig=" + wantSHA256 + "\n",
	} {
		got := ring.Sign([]byte(seedMessage), alg)
		if string(got) != seedMessage+want {
			t.Errorf("got %q, want %q", got[len(seedMessage):], want)
		}
	}
}

func TestVerify(t *testing.T) {
	ring, other := Ring{key(1), key(2)}, Ring{key(3)}
	signed := func(r Ring, a Alg) []byte { return r.Sign(full.Append(nil), a) }
	good := signed(ring, SHA1)
	flip := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 1; return b }
	replace := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"sha1":                 {good, nil},
		"sha256":               {signed(ring, SHA256), nil},
		"second key":           {signed(ring[1:], SHA1), nil},
		"line end lost":        {bytes.TrimSpace(good), nil},
		"unsigned":             {full.Append(nil), ErrUnsigned},
		"empty":                {nil, ErrUnsigned},
		"other key":            {signed(other, SHA1), ErrOtherKey},
		"no keys":              {signed(nil, SHA1), ErrUnsigned},
		"first byte":           {flip(6), ErrSignature},
		"control port":         {replace("control=7443", "control=7444"), ErrSignature},
		"signature byte":       {flip(len(good) - 3), ErrSignature},
		"shortened signature":  {good[:len(good)-10], ErrSignature},
		"not hex":              {append(bytes.TrimSpace(bytes.Clone(good)), 'x'), ErrSignature},
		"something follows":    {append(bytes.TrimSpace(bytes.Clone(good)), " addr=7f000001"...), ErrSignature},
		"unknown algorithm":    {replace("hmac-sha1", "none"), ErrUnsigned},
		"other algorithm":      {replace("hmac-sha1", "hmac-sha256"), ErrSignature},
		"kid of the other key": {replace(ring[0].ID(), ring[1].ID()), ErrSignature},
		"no kid":               {replace(" kid="+ring[0].ID(), ""), ErrUnsigned},
		"too long":             {ring.Sign([]byte("host=mud x="+strings.Repeat("x", MaxPacket)), SHA1), ErrUnsigned},
	} {
		if err := ring.Verify(tc.data); err != tc.want {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if k := key(1); strings.Contains(fmt.Sprintf("%v %+v %#v %s", k, k, k, k.LogValue()), "01 1") || k.ID() == key(2).ID() {
		t.Error("a key shows itself")
	}
}

// Invariant 3, for the longest answer there is.
func TestAnswerNeverLonger(t *testing.T) {
	r := ServerR{ip("255.255.255.255"), 65535, "ffffffffffff", 1<<64 - 1, strings.Repeat("h", MaxName)}
	for _, hw := range []string{"", "Hotdesk", strings.Repeat("h", alp.MaxText)} {
		q := ServerQ{hw, "ffffffffffff", 1<<64 - 1}
		if a, b := len(r.Append(nil)), len(q.Append(nil)); a > b {
			t.Errorf("answer of %d bytes to a question of %d", a, b)
		}
	}
}

// The largest messages fit a datagram.
func TestLargestFit(t *testing.T) {
	long := strings.Repeat("h", MaxName)
	h := Host{Name: long, Addr: ip("255.255.255.255"), Time: 1 << 40, Flags: MaxCount, CPUs: MaxCount, Clock: MaxCount, Control: 65535,
		Load: Load{MaxCount, MaxCount, MaxCount, MaxCount, MaxCount}, State: Offline, Boot: 1<<64 - 1, Counter: 1 << 62}
	for range MaxInterfaces {
		h.Interfaces = append(h.Interfaces, Interface{strings.Repeat("i", MaxInterfaceName), h.Addr, h.Addr, h.Addr})
	}
	token := alp.Token("card." + strings.Repeat("9", alp.MaxToken-5))
	r := TokenR{Stamp: h.Stamp(), To: long, ID: 1<<64 - 1, Token: token, Total: MaxCount, Asking: true, Placed: long}
	for range MaxFound {
		r.Found = append(r.Found, Found{"0123456789abcdef", Disconnected, MaxAgo})
	}
	ring := Ring{key(1)}
	for _, m := range []appender{h, r, TokenQ{h.Stamp(), 1<<64 - 1, token, MaxTicket}, ServerQ{strings.Repeat("h", alp.MaxText), "ffffffffffff", 1}} {
		line := ring.Sign(m.Append(nil), SHA256)
		if len(line) > MaxPacket {
			t.Errorf("%d bytes: %s", len(line), line)
		}
		if back, err := parse(line); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%v: %s", err, line)
		}
	}
	proof := Redirect{Stamp: h.Stamp(), To: long, Terminal: "ffffffffffff", Token: token, Session: "0123456789abcdef", User: strings.Repeat("u", MaxUser), Proof: strings.Repeat("p", MaxProof), As: token, Another: true}.Sign(ring, SHA256)
	if len(proof) > alp.MaxValue {
		t.Errorf("proof of %d bytes does not fit a value", len(proof))
	}
}

func TestRefused(t *testing.T) {
	iface := " interface=a ip=7f000001 mask=ff000000 bcast=7fffffff"
	for _, line := range []string{
		"", "host", "host=", "host=mud", "host mud=1", "hostile=1", "host=a/b addr=7f000001 time=1",
		"host=" + strings.Repeat("h", MaxName+1) + " addr=7f000001 time=1",
		"host=mud addr=7f0000011 time=1", "host=mud addr=7f00001 time=1", "host=mud addr=zz000001 time=1", "host=mud time=1",
		"host=mud addr=7f000001", "host=mud addr=7f000001 time=-1", "host=mud addr=7f000001 time=+1", "host=mud addr=7f000001 time=01",
		"host=mud addr=7f000001 time=99999999999999999999", "host=mud addr=7f000001 time=1 cpus=1073741825",
		"host=mud addr=7f000001 time=1 control=65536", "host=mud addr=7f000001 time=1 state=up", "host=mud addr=7f000001 time=1 boot=12",
		"host=mud addr=7f000001 time=1 counter=x", "host=mud addr=7f000001 time=1 numifs=1", "host=mud addr=7f000001 time=1" + iface,
		"host=mud addr=7f000001 time=1 numifs=1 ip=7f000001" + iface, "host=mud addr=7f000001 time=1 numifs=1 interface=a ip=7f000001",
		"host=mud addr=7f000001 time=1 numifs=2 interface=a" + iface, "host=mud addr=7f000001 time=1 numifs=1 interface=0123456789abcdef ip=7f000001 mask=ff000000 bcast=7fffffff",
		"host=mud addr=7f000001 time=1 numifs=11" + strings.Repeat(iface, 11), "host=mud addr=7f000001 time=1 numifs=1 interface=a ip=7f000001 mask=fffffff00 bcast=7fffffff",
		"serverQ", "serverQ sn=0003ba0a0b0", "serverQ sn=0003ba0a0b0c id=1", "serverQ sn=0003ba0a0b0c hw=" + strings.Repeat("h", alp.MaxText+1),
		"serverR authipa=7f000001 sn=0003ba0a0b0c host=mud", "serverR authipa=7f000001 authport=0 sn=0003ba0a0b0c host=mud",
		"serverR authipa=7f000001 authport=65536 sn=0003ba0a0b0c host=mud", "serverR authport=7443 sn=0003ba0a0b0c host=mud", "serverR authipa=7f000001 authport=7443 sn=0003ba0a0b0c",
		"tokenQ host=mud time=1 token=x", "tokenQ host=mud token=a.b", "tokenQ time=1 token=a.b", "tokenQ host=mud time=1 token=a.b id=x", "tokenQ host=mud time=1 token=a.b ticket=1048577",
		"tokenR host=mud time=1 to=mud token=a.b sessions=0 asking=2", "tokenR host=mud time=1 to=mud token=a.b sessions=0 placed=a/b",
		"tokenR host=mud time=1 token=a.b", "tokenR host=mud time=1 to=mud token=a.b sessions=1",
		"tokenR host=mud time=1 to=mud token=a.b sessions=1 session=0123456789abcdef", "tokenR host=mud time=1 to=mud token=a.b session=0123456789abcdef state=connected ago=1",
		"tokenR host=mud time=1 to=mud token=a.b sessions=1 session=0123456789abcdef ago=1 state=connected", "tokenR host=mud time=1 to=mud token=a.b sessions=1 state=connected ago=1",
		"tokenR host=mud time=1 to=mud token=a.b sessions=1 session=0123456789abcdef state=starting ago=1", "tokenR host=mud time=1 to=mud token=a.b sessions=1 session=new state=connected ago=1",
		"tokenR host=mud time=1 to=mud token=a.b sessions=1 session=0123456789abcdef state=connected ago=999999999999", "tokenR host=mud time=1 to=mud token=a.b sessions=1 session=x state=connected ago=1",
		"tokenR host=mud time=1 to=mud token=a.b sessions=9" + strings.Repeat(" session=0123456789abcdef state=connected ago=1", 9),
		"tokenR host=mud time=1 to=mud token=a.b sessions=2 session=0123456789abcdef session=0123456789abcdef state=connected ago=1",
		"host=mud addr=7f000001 time=1 x=" + strings.Repeat("x", MaxPacket),
	} {
		v, err := parse([]byte(line))
		if err == nil {
			t.Errorf("accepted %.100q", line)
		}
		if Kind([]byte(line)) != "" && v != nil && !reflect.ValueOf(v).IsZero() {
			t.Errorf("%.100q: error, and yet %+v", line, v)
		}
		if v != nil && !errors.Is(err, ErrPacket) {
			t.Errorf("%.100q: %v", line, err)
		}
	}
}

func TestPrefix(t *testing.T) {
	for mask, want := range map[string]string{
		"255.255.255.0": "10.1.2.0/24", "255.0.0.0": "10.0.0.0/8", "0.0.0.0": "0.0.0.0/0", "255.255.255.255": "10.1.2.3/32",
		"255.0.255.0": "invalid Prefix", "0.0.0.255": "invalid Prefix",
	} {
		if got := (Interface{"a", ip("10.1.2.3"), ip(mask), ip("10.1.2.255")}).Prefix().String(); got != want {
			t.Errorf("%s: got %s, want %s", mask, got, want)
		}
	}
}

func TestRedirect(t *testing.T) {
	ring := Ring{key(1)}
	for _, session := range []alp.SessionID{"", "0123456789abcdef"} {
		want := Redirect{Stamp: stamp, To: "host05", Terminal: "0003ba0a0b0c", Token: "mondex.1", Session: session}
		props := want.Sign(ring, SHA1)
		plain := "redirect host=mud time=950739941 to=host05 terminal=0003ba0a0b0c token=mondex.1 session=" + map[bool]string{true: "new", false: string(session)}[session == ""] + " boot=1122334455667788 counter=4 alg=hmac-sha1 kid="
		if !strings.HasPrefix(props, plain) || strings.HasSuffix(props, "\n") {
			t.Fatalf("got %q", props)
		}
		named := want // who has logged in is part of what is signed
		named.User = "jörg"
		if got, err := ParseRedirect(named.Sign(ring, SHA1), ring); err != nil || got != named {
			t.Fatalf("got %+v, %v", got, err)
		}
		if got, err := ParseRedirect(strings.Replace(named.Sign(ring, SHA1), " user=6a", " user=6b", 1), ring); err == nil {
			t.Fatalf("another user's name was taken: %+v", got)
		}
		// It goes through a control line and comes back the same.
		line := alp.RedirectInf{TokenSeq: 1, Addr: ip("127.0.0.2"), Port: 7443, Props: props}.Message().Append(nil)
		m, err := alp.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		r, err := alp.ParseRedirectInf(m)
		if err != nil || r.Props != props {
			t.Fatalf("got %q, %v", r.Props, err)
		}
		if got, err := ParseRedirect(r.Props, ring); err != nil || got != want {
			t.Fatalf("got %+v, %v", got, err)
		}
		for name, bad := range map[string]string{
			"other terminal": strings.Replace(props, "0003ba0a0b0c", "0003ba0a0b0d", 1),
			"other token":    strings.Replace(props, "mondex.1", "mondex.2", 1),
			"other host":     strings.Replace(props, "to=host05", "to=host06", 1),
			"session":        strings.Replace(props, " session=", " session=fedcba9876543210 was=", 1),
			"later":          strings.Replace(props, "time=950739941", "time=950739999", 1),
			"unsigned":       props[:strings.Index(props, " alg=")],
			"empty":          "",
			"a host message": string(ring.Sign(full.Append(nil), SHA1)),
		} {
			if got, err := ParseRedirect(bad, ring); err == nil || got != (Redirect{}) {
				t.Errorf("%s: accepted %+v", name, got)
			}
		}
		if _, err := ParseRedirect(props, Ring{key(2)}); err != ErrOtherKey {
			t.Error(err)
		}
	}
	r := Redirect{Stamp: stamp}
	for after, want := range map[time.Duration]bool{-3 * time.Second: true, -time.Second: false, 0: false, 5 * time.Second: false, 8 * time.Second: true} {
		if got := r.Expired(time.Unix(stamp.Time, 0).Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
}

// What a host says of the user and of the card stands before the stamp, and is
// signed. Of a proof of before there is neither.
func TestRedirectExactBytes(t *testing.T) {
	ring := Ring{key(1)}
	for want, r := range map[string]Redirect{
		"session=new boot=":                                    {},
		"session=new proof=pin boot=":                          {Proof: "pin"},
		"session=0123456789abcdef proof=piv-card boot=":        {Session: "0123456789abcdef", Proof: "piv-card"},
		"session=0123456789abcdef user=616e6e boot=":           {Session: "0123456789abcdef", User: "ann"},
		"session=0123456789abcdef user=616e6e proof=piv boot=": {Session: "0123456789abcdef", User: "ann", Proof: "piv"},
		"session=new as=card.1 boot=":                          {As: "card.1"},
		"session=new user=616e6e proof=pin as=user.ann boot=":  {User: "ann", Proof: "pin", As: "user.ann"},
		"session=new as=card.1 another=yes boot=":              {As: "card.1", Another: true},
	} {
		r.Stamp, r.To, r.Terminal, r.Token = stamp, "host05", "0003ba0a0b0c", "mondex.1"
		want = "redirect host=mud time=950739941 to=host05 terminal=0003ba0a0b0c token=mondex.1 " + want + "1122334455667788 counter=4"
		props := r.Sign(ring, SHA1)
		if got, _, _ := strings.Cut(props, " alg="); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got, err := ParseRedirect(props, ring); err != nil || got != r {
			t.Errorf("%s: got %+v, %v", want, got, err)
		}
		for what, bad := range map[string]string{
			"one added":   strings.Replace(props, " boot=", " proof=pin boot=", 1),
			"another":     strings.Replace(props, " proof=p", " proof=q", 1),
			"taken away":  strings.Replace(props, " proof="+r.Proof, "", 1),
			"at the end":  props + " proof=pin",
			"of another":  strings.Replace(props, " boot=", " as=card.2 boot=", 1),
			"beside it":   strings.Replace(props, " boot=", " another=yes boot=", 1),
			"in the tail": strings.Replace(props, " sig=", " proof=pin sig=", 1),
		} {
			if got, err := ParseRedirect(bad, ring); bad != props && (err == nil || got != (Redirect{})) {
				t.Errorf("%s: %s: accepted %+v", want, what, got)
			}
		}
	}
	for _, proof := range []string{"a kind", "a/b", "\x00", strings.Repeat("p", MaxProof+1)} {
		r := Redirect{Stamp: stamp, To: "host05", Terminal: "0003ba0a0b0c", Token: "mondex.1", Proof: proof}
		if got, err := ParseRedirect(r.Sign(ring, SHA1), ring); err == nil || got != (Redirect{}) {
			t.Errorf("%q: accepted %+v", proof, got)
		}
	}
	r := Redirect{Stamp: stamp, To: "host05", Terminal: "0003ba0a0b0c", Token: "mondex.1", As: "no token"}
	if got, err := ParseRedirect(r.Sign(ring, SHA1), ring); err == nil || got != (Redirect{}) {
		t.Errorf("%+v", got)
	}
}

func FuzzParse(f *testing.F) {
	ring := Ring{key(1)}
	f.Add([]byte(seedMessage))
	for _, v := range vectors {
		f.Add([]byte(v.bytes))
		f.Add(ring.Sign([]byte(v.bytes), SHA1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = ring.Verify(data)
		m, err := parse(data)
		if err != nil {
			if m != nil && !reflect.ValueOf(m).IsZero() {
				t.Fatalf("error, and yet %+v", m)
			}
			return
		}
		line := m.(appender).Append(nil)
		again, err := parse(line)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%q\nread %+v\nwrote %q\nread %+v, %v", data, m, line, again, err)
		}
	})
}

func FuzzParseRedirect(f *testing.F) {
	ring := Ring{key(1)}
	r := Redirect{Stamp: stamp, To: "host05", Terminal: "0003ba0a0b0c", Token: "mondex.1"}
	f.Add(r.Sign(ring, SHA1))
	r.Session = "0123456789abcdef"
	f.Add(r.Sign(ring, SHA256))
	r.User, r.Proof, r.As = "ann", "piv-card", "user.ann"
	f.Add(r.Sign(ring, SHA256))
	r.User, r.Another = "", true
	f.Add(r.Sign(ring, SHA1))
	f.Fuzz(func(t *testing.T, props string) {
		if r, err := ParseRedirect(props, ring); err == nil {
			if again, err := ParseRedirect(r.Sign(ring, SHA1), ring); err != nil || again != r {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	})
}
