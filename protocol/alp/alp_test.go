package alp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// prefix stands before every appended line: Append must leave it alone.
const prefix = "before\n"

func TestAppendExact(t *testing.T) {
	for _, c := range []struct {
		name string
		m    Message
		line string
	}{
		{"no keys", Message{Command: "keepAliveCnf"}, "keepAliveCnf\n"},
		{"one space, key=value", Message{"infoReq", []Pair{{"_", "1"}, {"event", "insert"}}}, "infoReq _=1 event=insert\n"},
		{"escapes", Message{"x", []Pair{{"a", "1=2"}, {"b", `c\d`}, {"e", "f g\th"}}}, "x a=1\\=2 b=c\\\\d e=f\\ g\\\th\n"},
		{"binary", Message{"x", []Pair{{"a", "\x00\x01\n\r\x7f\xff9"}}}, `x a=\000\001\012\015\177\3779` + "\n"},
		{"UTF-8", Message{"x", []Pair{{"a", "é"}}}, `x a=\303\251` + "\n"},
		{"empty values", Message{"x", []Pair{{"a", ""}, {"b", "1"}, {"c", ""}}}, "x a= b=1 c=\n"},
		{"escaped key", Message{"x y", []Pair{{"a=b", "1"}}}, `x\ y a\=b=1` + "\n"},
	} {
		got := string(c.m.Append([]byte(prefix)))
		if got != prefix+c.line {
			t.Errorf("%s: Append = %q, want %q", c.name, got, prefix+c.line)
		}
		back, err := Parse([]byte(c.line))
		if err != nil || !reflect.DeepEqual(back, c.m) {
			t.Errorf("%s: Parse = %+v, %v, want %+v", c.name, back, err, c.m)
		}
		if s := c.m.String(); s+"\n" != c.line {
			t.Errorf("%s: String = %q", c.name, s)
		}
	}
}

// TestParseTolerance holds the forms of alp.md section 2 that are legal to
// read and never sent.
func TestParseTolerance(t *testing.T) {
	for _, c := range []struct{ line, canonical string }{
		{"a k=v\r\n", "a k=v"},
		{"a k=v\x00", "a k=v"},
		{"a k=v\r", "a k=v"},
		{"a k=v", "a k=v"},
		{" \ta\t  k=v  ", "a k=v"},
		{"a k = v", "a k=v"},
		{"a k= v", "a k=v"},
		{"a k =v", "a k=v"},
		{"a k\t=\tv l = w", "a k=v l=w"},
		{"a bare", "a bare=true"},
		{"a bare k=v bare2", "a bare=true k=v bare2=true"},
		{"a k= bare", "a k=bare"},
		{"a k= l=w", "a k= l=w"},
		{"a k= l = w", "a k= l=w"},
		{"a k = l = w", "a k= l=w"},
		{"a k=", "a k="},
		{"a k= ", "a k="},
		{"a k= =v", `a k=\=v`},
		{"keepAliveReq lossCount=0pktCount=5", `keepAliveReq lossCount=0pktCount\=5`},
		{"a k=1=2=3", `a k=1\=2\=3`},
		{"a k==", `a k=\=`},
		{`a k=\1 l=\12 m=\0123`, `a k=\001 l=\012 m=\0123`},
		{`a k=\q\8`, `a k=q8`},
		{"a k=1 k=2", "a k=1 k=2"},
	} {
		m, err := Parse([]byte(c.line))
		if err != nil || m.String() != c.canonical {
			t.Errorf("Parse(%q) = %q, %v, want %q", c.line, m, err, c.canonical)
		}
	}
	m, err := Parse([]byte("a k=1 k=2"))
	if err != nil || m.Get("k") != "2" || m.Get("none") != "" {
		t.Errorf("of a repeated key the last counts: %q, %v", m.Get("k"), err)
	}
}

func TestParseRefuses(t *testing.T) {
	many := "a" + strings.Repeat(" k=v", MaxKeys+1)
	for _, line := range []string{
		"", " ", "\n", "\r\n\x00", "=", "=v", "a =v", "a=b", "a = b", "a k=v =w", "a k=v = w",
		"a k=v\nb", "a\x00b", "a\rb", `a k=\`, `a k\`, `a k= \`, `a k=\400`, `a k=\777`,
		many, "a k=" + strings.Repeat("v", MaxValue+1), strings.Repeat("a", MaxLine+1),
	} {
		m, err := Parse([]byte(line))
		if !errors.Is(err, ErrLine) || !reflect.DeepEqual(m, Message{}) {
			t.Errorf("Parse(%.40q) = %+v, %v, want ErrLine and nothing else", line, m, err)
		}
	}
	for _, line := range []string{"a" + strings.Repeat(" k=v", MaxKeys), "a k=" + strings.Repeat("v", MaxValue)} {
		if _, err := Parse([]byte(line)); err != nil {
			t.Errorf("Parse(%.20q...) at the limit: %v", line, err)
		}
	}
}

func TestAppendPanicsOnCallersBug(t *testing.T) {
	for _, m := range []Message{{}, {Command: "a", Keys: []Pair{{"", "v"}}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Append(%+v) did not panic", m)
				}
			}()
			m.Append(nil)
		}()
	}
}

func TestNames(t *testing.T) {
	for _, s := range []Token{"pseudo.080020c0ffee", "mondex.9998007668077709", "user.a-b_c@d:e.f"} {
		if !s.Valid() {
			t.Errorf("token %q is not valid", s)
		}
	}
	for _, s := range []Token{"", ".", "a.", ".b", "ab", "a.b c", "a.b\n", "a.é", Token("a." + strings.Repeat("b", MaxToken-1))} {
		if s.Valid() {
			t.Errorf("token %q is valid", s)
		}
	}
	if !Token("pseudo.1").Pseudo() || Token("pseudonym.1").Pseudo() {
		t.Error("Pseudo")
	}
	if !SessionID("0123456789abcdef").Valid() || SessionID("0123456789ABCDEF").Valid() || SessionID("0123").Valid() {
		t.Error("SessionID.Valid")
	}
	if !TerminalID("080020c0ffee").Valid() || TerminalID("080020c0ffe").Valid() || TerminalID("080020c0ffeg").Valid() {
		t.Error("TerminalID.Valid")
	}
}

// seeds are real lines: those of the table of messages and the forms that
// other implementations send.
func seeds() []string {
	var all []string
	for _, c := range messages {
		all = append(all, c.line)
	}
	return append(all,
		"infoReq _=1 event=insert fw=GUI4.0_48_2007.08.06.15.41,Boot:MfgPkg_4.15_2006.07.20.16.57 hw=SunRayP8 namespace=IEEE802 id=0003ba123456 pn=32771 sn=0003ba123456 state=disconnected type=pseudo cause=insert initState=1 startRes=1280x1024:1280x1024 tokenSeq=1\n",
		"infoReq _=1 event=insert fw=GUI4.2 hw=SunRayP8 namespace=IEEE802 id=9998007668077709 pn=32773 sn=0003ba123456 state=disconnected type=T0unknown atr=3b6800008065 atr.hs=04 cause=insert initState=1 startRes=1280x1024 tokenSeq=2\n",
		"keepAliveReq _=1 fw=GUI4.0 hw=SunRayS1 pn=3000 sn=080020c0ffee namespace=IEEE802 state=connected byteCount=1 connTime=-20 idleTime=0 lossCount=0pktCount=5\n",
		"connInf useReal=true encUpType=none tokenSeq=1 module=StartSession.m3 access=allowed token=pseudo.080020c0ffee encDownType=none\n",
		"a k = v bare l= m=\\001\\ \\=x\r\n")
}

func FuzzParse(f *testing.F) {
	if len(seeds()) < 12 {
		f.Fatal("the seeds are missing")
	}
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			if !reflect.DeepEqual(m, Message{}) {
				t.Fatalf("an error and %+v", m)
			}
			return
		}
		canonical := m.Append(nil)
		if len(canonical) > MaxLine {
			return // escapes made it longer than a line may be
		}
		back, err := Parse(canonical)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("Parse(%q) = %+v, %v, want %+v", canonical, back, err, m)
		}
		if again := back.Append(nil); string(again) != string(canonical) {
			t.Fatalf("%q is not canonical: %q", canonical, again)
		}
	})
}
