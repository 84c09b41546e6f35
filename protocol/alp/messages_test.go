package alp

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var unit = Identity{Firmware: "hotdesk-1", Hardware: "HotdeskDTU", Terminal: "080020c0ffee", Port: 1}

var cert = [32]byte{0: 0xab, 31: 0xcd}

const certHex = "ab000000000000000000000000000000000000000000000000000000000000cd"

// A messageCase is a message, its exact line, and the typed reader that
// returns it from that line.
type messageCase struct {
	name string
	m    Message
	line string
	want any
	read func(Message) (any, error)
}

func reads[T any](parse func(Message) (T, error)) func(Message) (any, error) {
	return func(m Message) (any, error) { return parse(m) }
}

var (
	insert = InfoReq{Identity: unit, Type: "pseudo", ID: "080020c0ffee", Width: 1280, Height: 1024, TokenSeq: 1}
	card   = InfoReq{Identity: unit, Connected: true, Type: "mondex", ID: "9998007668077709", ATR: []byte{0x3b, 0x02, 0x14, 0x50},
		Width: 640, Height: 480, TokenSeq: 2, Layout: "de", Rules: "1a2b", Session: "0123456789abcdef", Gen: 7}
	redirected = InfoReq{Identity: unit, Type: "mondex", ID: "1", Redirect: true, Props: "s=a b,k=1", Width: 64, Height: 8192, TokenSeq: 3}
	removal    = InfoReq{Identity: unit, Remove: true, Connected: true, Type: "mondex", ID: "1", TokenSeq: 4, Session: "0123456789abcdef", Gen: 8}
	allowed    = ConnInf{TokenSeq: 2, Allowed: true, Token: "mondex.1", Module: "StartSession", MediaPort: 40000, MediaCert: cert,
		Ticket: []byte(strings.Repeat("T", TicketSize)), Gen: 18446744073709551615, Session: "0123456789abcdef"}
	continued = ConnInf{TokenSeq: 2, Allowed: true, Token: "mondex.1", Module: "StartSession", Gen: 3, Session: "0123456789abcdef"}
	denied    = ConnInf{TokenSeq: 5, Token: "mondex.1", Module: "Group", Cause: "Try again.", OSD: 22}
	gone      = DiscInf{TokenSeq: 9, Cause: "Your session is shown at another terminal.", OSD: 5}
	elsewhere = RedirectInf{TokenSeq: 6, Addr: netip.MustParseAddr("127.0.0.2"), Port: 7443, Props: "x=1"}
	failed    = InfoReq{Identity: unit, Type: "mondex", ID: "1", Width: 64, Height: 64, TokenSeq: 3, Failed: netip.MustParseAddrPort("10.0.0.2:7443"), Circle: true,
		Lost: Lost{Session: "0123456789abcdef", Host: "north", Ago: 63 * time.Second}}
	hosted = ConnInf{TokenSeq: 2, Allowed: true, Token: "mondex.1", Module: "m", Gen: 3, Session: "0123456789abcdef", Host: "north"}
	notice = NoticeInf{TokenSeq: 4, Seconds: 60, Text: "Save your work."}
	idle   = State{Identity: unit}
	shown  = State{Identity: unit, Connected: true}
)

const common = "fw=hotdesk-1 hw=HotdeskDTU pn=1 sn=080020c0ffee namespace=IEEE802 "

var messages = []messageCase{
	{"insert", insert.Message(), "infoReq _=1 event=insert fw=hotdesk-1 hw=HotdeskDTU namespace=IEEE802 id=080020c0ffee pn=1 sn=080020c0ffee state=disconnected type=pseudo cause=insert initState=1 startRes=1280x1024 tokenSeq=1\n",
		insert, reads(ParseInfoReq)},
	{"card insert, still shown", card.Message(), "infoReq _=1 event=insert fw=hotdesk-1 hw=HotdeskDTU namespace=IEEE802 id=9998007668077709 pn=1 sn=080020c0ffee state=connected type=mondex atr=3b021450 cause=insert initState=1 startRes=640x480 tokenSeq=2 kbd=de rules=1a2b session=0123456789abcdef gen=7\n",
		card, reads(ParseInfoReq)},
	{"redirected", redirected.Message(), "infoReq _=1 event=insert fw=hotdesk-1 hw=HotdeskDTU namespace=IEEE802 id=1 pn=1 sn=080020c0ffee state=disconnected type=mondex cause=redirect initState=1 startRes=64x8192 tokenSeq=3 redirectProps=s\\=a\\ b,k\\=1\n",
		redirected, reads(ParseInfoReq)},
	{"failed", failed.Message(), "infoReq _=1 event=insert fw=hotdesk-1 hw=HotdeskDTU namespace=IEEE802 id=1 pn=1 sn=080020c0ffee state=disconnected type=mondex cause=insert initState=1 startRes=64x64 tokenSeq=3 failed=10.0.0.2:7443 circle=true lostSession=0123456789abcdef lostHost=north lostAgo=63\n",
		failed, reads(ParseInfoReq)},
	{"hosted", hosted.Message(), "connInf useReal=true encUpType=none tokenSeq=2 module=m access=allowed token=mondex.1 encDownType=none gen=3 session=0123456789abcdef host=north\n",
		hosted, reads(ParseConnInf)},
	{"noticeInf", notice.Message(), "noticeInf tokenSeq=4 seconds=60 text=Save\\ your\\ work.\n", notice, reads(ParseNoticeInf)},
	{"removal", removal.Message(), "infoReq _=1 event=remove fw=hotdesk-1 hw=HotdeskDTU namespace=IEEE802 id=1 pn=1 sn=080020c0ffee state=connected type=mondex tokenSeq=4 session=0123456789abcdef gen=8\n",
		removal, reads(ParseInfoReq)},
	{"connRsp", unit.ConnRsp(true, true), "connRsp _=1 access=allowed " + common + "state=connected\n", shown, reads(ParseState)},
	{"keepAliveReq", unit.KeepAliveReq(false), "keepAliveReq _=1 " + common + "state=disconnected\n", idle, reads(ParseState)},
	{"discReq", unit.DiscReq("redirect"), "discReq _=1 cause=redirect " + common + "state=disconnected type=unknown\n",
		State{Identity: unit, Cause: "redirect"}, reads(ParseState)},
	{"discRsp", unit.DiscRsp(), "discRsp _=1 " + common + "state=disconnected\n", idle, reads(ParseState)},
	{"allowed", allowed.Message(), "connInf useReal=true encUpType=none tokenSeq=2 module=StartSession access=allowed token=mondex.1 encDownType=none mediaPort=40000 mediaCert=" + certHex + " ticket=" + strings.Repeat("54", TicketSize) + " gen=18446744073709551615 session=0123456789abcdef\n",
		allowed, reads(ParseConnInf)},
	{"goes on", continued.Message(), "connInf useReal=true encUpType=none tokenSeq=2 module=StartSession access=allowed token=mondex.1 encDownType=none gen=3 session=0123456789abcdef\n",
		continued, reads(ParseConnInf)},
	{"denied", denied.Message(), "connInf useReal=true encUpType=none tokenSeq=5 module=Group access=denied token=mondex.1 encDownType=none cause=Try\\ again. osd=22\n",
		denied, reads(ParseConnInf)},
	{"discInf", gone.Message(), "discInf access=denied tokenSeq=9 cause=Your\\ session\\ is\\ shown\\ at\\ another\\ terminal. osd=5\n", gone, reads(ParseDiscInf)},
	{"redirectInf", elsewhere.Message(), "redirectInf authipa=7f000002 authport=7443 tokenSeq=6 redirectProps=x\\=1\n", elsewhere, reads(ParseRedirectInf)},
}

func TestMessagesExact(t *testing.T) {
	for _, c := range messages {
		if got := string(c.m.Append([]byte(prefix))); got != prefix+c.line {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, prefix+c.line)
		}
		m, err := Parse([]byte(c.line))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, err := c.read(m); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: read %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
	if got := KeepAliveCnf().String(); got != "keepAliveCnf" {
		t.Errorf("keepAliveCnf: %q", got)
	}
	if got := ProtocolErrorInf("no x").String(); got != `protocolErrorInf cause=no\ x` {
		t.Errorf("protocolErrorInf: %q", got)
	}
	if got := ProtocolErrorInf(strings.Repeat("x", 10*MaxText)).Get("cause"); len(got) != MaxText {
		t.Errorf("a cause of %d bytes", len(got))
	}
}

// TestReadersRefuse changes one key of a good line at a time.
func TestReadersRefuse(t *testing.T) {
	byName := map[string]messageCase{}
	for _, c := range messages {
		byName[c.name] = c
	}
	for _, c := range []struct{ name, key, value string }{
		{"insert", "event", "eject"}, {"insert", "state", "uninitialized"}, {"insert", "sn", "080020C0FFEE"}, {"insert", "sn", ""},
		{"insert", "pn", "0"}, {"insert", "pn", "65536"}, {"insert", "pn", "x"}, {"insert", "fw", strings.Repeat("f", MaxText+1)},
		{"insert", "id", ""}, {"insert", "id", "a b"}, {"insert", "type", ""}, {"insert", "type", "a.b"}, {"insert", "id", strings.Repeat("1", MaxToken)},
		{"insert", "startRes", "63x64"}, {"insert", "startRes", "8193x64"}, {"insert", "startRes", "1280"}, {"insert", "startRes", ""}, {"insert", "startRes", "1280x1024x1"},
		{"insert", "tokenSeq", "-1"}, {"insert", "tokenSeq", ""}, {"insert", "tokenSeq", "2147483648"},
		{"insert", "atr", strings.Repeat("00", MaxATR+1)}, {"insert", "atr", "3"}, {"insert", "atr", "zz"},
		{"insert", "kbd", "us,de"}, {"insert", "kbd", strings.Repeat("u", MaxLayout+1)},
		{"failed", "failed", "10.0.0.2"}, {"failed", "failed", "[::1]:7443"}, {"failed", "lostSession", "x"}, {"failed", "lostAgo", "-1"}, {"failed", "lostHost", strings.Repeat("h", MaxHost+1)},
		{"hosted", "host", strings.Repeat("h", MaxHost+1)}, {"noticeInf", "seconds", "-1"}, {"noticeInf", "seconds", "86401"}, {"noticeInf", "text", strings.Repeat("t", MaxText+1)},
		{"removal", "session", "0123"}, {"removal", "gen", "-1"}, {"removal", "gen", "18446744073709551616"}, {"removal", "tokenSeq", "x"},
		{"keepAliveReq", "sn", "x"}, {"keepAliveReq", "state", ""}, {"discReq", "cause", strings.Repeat("c", MaxText+1)},
		{"allowed", "access", "maybe"}, {"allowed", "tokenSeq", ""}, {"allowed", "mediaPort", "0"}, {"allowed", "mediaCert", "ab"},
		{"allowed", "mediaCert", strings.Repeat("zz", 32)}, {"allowed", "ticket", "54"}, {"allowed", "gen", "x"}, {"allowed", "session", "x"},
		{"allowed", "token", strings.Repeat("t", MaxToken+1)}, {"allowed", "module", strings.Repeat("m", MaxText+1)},
		{"denied", "cause", strings.Repeat("c", MaxText+1)}, {"denied", "osd", "100"},
		{"discInf", "osd", "x"}, {"discInf", "tokenSeq", "x"}, {"discInf", "cause", strings.Repeat("c", MaxText+1)},
		{"redirectInf", "authipa", "7f00000"}, {"redirectInf", "authipa", "7f0000021"}, {"redirectInf", "authport", "0"}, {"redirectInf", "tokenSeq", "-1"},
	} {
		from := byName[c.name]
		m := Message{from.m.Command, append([]Pair(nil), from.m.Keys...)}
		m.Add(c.key, c.value) // the last counts
		got, err := from.read(m)
		if err == nil || !reflect.ValueOf(got).IsZero() {
			t.Errorf("%s with %s=%.30s: %+v, %v", c.name, c.key, c.value, got, err)
		}
	}
	for _, c := range messages {
		m := Message{"other", c.m.Keys}
		if got, err := c.read(m); err == nil || !reflect.ValueOf(got).IsZero() {
			t.Errorf("%s read from another command: %+v", c.name, got)
		}
	}
}

// fuzzReader fuzzes a typed reader: what it returns is written and read back
// the same.
func fuzzReader[T any](f *testing.F, command string, parse func(Message) (T, error), write func(T) Message) {
	n := 0
	for _, s := range seeds() {
		if strings.HasPrefix(s, command) {
			f.Add([]byte(s))
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			return
		}
		v, err := parse(m)
		if err != nil {
			if !reflect.ValueOf(v).IsZero() {
				t.Fatalf("an error and %+v", v)
			}
			return
		}
		if write == nil {
			return
		}
		out := write(v).Append(nil)
		if len(out) > MaxLine {
			return
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		again, err := parse(back)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%q: %+v, %v\nwant %+v", out, again, err, v)
		}
	})
}

func FuzzInfoReq(f *testing.F) { fuzzReader(f, CmdInfoReq, ParseInfoReq, InfoReq.Message) }
func FuzzState(f *testing.F)   { fuzzReader(f, CmdKeepAliveReq, ParseState, nil) }
func FuzzConnInf(f *testing.F) { fuzzReader(f, CmdConnInf, ParseConnInf, ConnInf.Message) }
func FuzzDiscInf(f *testing.F) { fuzzReader(f, CmdDiscInf, ParseDiscInf, DiscInf.Message) }
func FuzzNoticeInf(f *testing.F) {
	fuzzReader(f, CmdNoticeInf, ParseNoticeInf, NoticeInf.Message)
}
func FuzzRedirectInf(f *testing.F) {
	fuzzReader(f, CmdRedirectInf, ParseRedirectInf, RedirectInf.Message)
}
