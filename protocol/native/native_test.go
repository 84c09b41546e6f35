package native

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/alp"
)

var hellos = []struct {
	name  string
	hello Hello
	hex   string
}{
	{"plain", Hello{Gen: 3, Terminal: "0200c0a80001", Width: 1280, Height: 1024},
		"01" + strings.Repeat("00", alp.TicketSize) + "0000000000000003" + "0200c0a80001" + "05000400"},
	{"largest", Hello{Ticket: [alp.TicketSize]byte(bytes.Repeat([]byte{0xfe}, alp.TicketSize)), Gen: 1<<64 - 1, Terminal: "ffffffffffff", Width: alp.MaxSide, Height: alp.MaxSide},
		"01" + strings.Repeat("fe", alp.TicketSize) + "ffffffffffffffff" + "ffffffffffff" + "20002000"},
}

func TestHello(t *testing.T) {
	for _, x := range hellos {
		t.Run(x.name, func(t *testing.T) {
			b := x.hello.Append([]byte("before"))
			if got := hex.EncodeToString(b[len("before"):]); got != x.hex {
				t.Errorf("Append is %s, want %s", got, x.hex)
			}
			if len(b) != len("before")+HelloSize {
				t.Errorf("%d bytes", len(b))
			}
			h, rest, err := ParseHello(append(b[len("before"):], 1, 2))
			if err != nil || h != x.hello || !bytes.Equal(rest, []byte{1, 2}) {
				t.Errorf("Parse is %+v, % x, %v", h, rest, err)
			}
		})
	}
}

func TestBadHello(t *testing.T) {
	good := hellos[0].hello.Append(nil)
	for n := range good {
		if h, rest, err := ParseHello(good[:n]); !errors.Is(err, ErrHello) || h != (Hello{}) || rest != nil {
			t.Fatalf("%d bytes of it: %+v, %v", n, h, err)
		}
	}
	for _, x := range []struct {
		name string
		at   int
		b    string
	}{
		{"version", 0, "\x02"},
		{"too wide", HelloSize - 4, "\xff\xff"},
		{"too high", HelloSize - 2, "\xff\xff"},
		{"no width", HelloSize - 4, "\x00\x00"},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := bytes.Clone(good)
			copy(b[x.at:], x.b)
			if _, _, err := ParseHello(b); !errors.Is(err, ErrHello) {
				t.Error(err)
			}
		})
	}
}

func TestHelloOfNobody(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a hello without a terminal was written")
		}
	}()
	Hello{Width: 640, Height: 480}.Append(nil)
}

func TestAlive(t *testing.T) {
	for _, x := range []struct{ says, means time.Duration }{
		{AlivePeriod, AlivePeriod},
		{AlivePeriodIdle, AlivePeriodIdle},
		{time.Millisecond, MinAlivePeriod},
		{time.Hour, MaxAlivePeriod},
	} {
		b := AppendAlive([]byte("x"), x.says)
		got, ok := ParseAlive(append(b[1:], "later versions' bytes"...))
		if !ok || got != x.means {
			t.Errorf("%v was read as %v, %v", x.says, got, ok)
		}
		if late := QuietAfter(got); late <= AliveEvery(got) || SilentAfter(got)-late < got/2 {
			t.Errorf("period %v: an Alive is late after %v, which leaves no time to ask for it", got, late)
		}
	}
	for _, b := range []string{"", "\x01", "\x01\x00", "\x02\x05"} {
		if d, ok := ParseAlive([]byte(b)); ok {
			t.Errorf("% x was read as %v", b, d)
		}
	}
	if got := AppendAlive(nil, AlivePeriod); !bytes.Equal(got, []byte{1, 8}) {
		t.Errorf("alive is % x", got)
	}
	if got := AppendAliveLate(nil, AlivePeriod); !bytes.Equal(got, []byte{1, 8, 1}) {
		t.Errorf("alive with late acknowledgements is % x", got)
	}
	for b, want := range map[string]bool{"\x01\x08\x01": true, "\x01\x08\x03more": true, "\x01\x08\x02": false, "\x01\x08": false, "\x01\x00\x01": false, "\x02\x08\x01": false} {
		if late := AcksLate([]byte(b)); late != want {
			t.Errorf("% x: acknowledgements may be late: %v", b, late)
		}
	}
	if SilentAfter(AlivePeriod) != DeadAfter {
		t.Errorf("silent after %v while a session is shown", SilentAfter(AlivePeriod))
	}
}

func FuzzHello(f *testing.F) {
	if len(hellos) == 0 {
		f.Fatal("no seeds")
	}
	for _, x := range hellos {
		f.Add(x.hello.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := ParseHello(b)
		if err != nil {
			return
		}
		if got := h.Append(nil); !bytes.Equal(append(got, rest...), b) {
			t.Errorf("% x was read as %+v, which is written % x", b, h, got)
		}
	})
}

func FuzzAlive(f *testing.F) {
	f.Add(AppendAlive(nil, AlivePeriod))
	f.Add(AppendAliveLate(nil, AlivePeriodIdle))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := ParseAlive(b)
		if AcksLate(b) && !ok {
			t.Errorf("% x is no Alive and allows something", b)
		}
		if ok && !bytes.HasPrefix(b, AppendAlive(nil, d)) {
			t.Errorf("% x was read as %v", b, d)
		}
	})
}
