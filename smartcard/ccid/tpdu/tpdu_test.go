package tpdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"hotdesk/smartcard/apdu"
)

var begin = time.Unix(1000, 0)

func TestBlocks(t *testing.T) {
	for _, tc := range []struct {
		hex string
		b   Block
		crc bool
	}{
		{"00c101fe3e", S(IFS, 254), false}, // the first block most readers send
		{"00e101fe1e", S(IFS|responseS, 254), false},
		{"0000050084000008 89", I(0, false, []byte{0, 0x84, 0, 0, 8}), false},
		{"006001aaCB", I(1, true, []byte{0xaa}), false},
		{"0090009 0", R(1, 0), false},
		{"008200 82", R(0, 2), false},
		{"00c301 05c7", S(WTX, 5), false},
		{"00c000 c0", S(Resynch), false},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(tc.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := tc.b.Append([]byte{0xee}, tc.crc); !bytes.Equal(got[1:], want) {
			t.Errorf("%s: written %x", tc.hex, got[1:])
		}
		if b, err := ParseBlock(want, tc.crc); err != nil || !reflect.DeepEqual(b, tc.b) {
			t.Errorf("%s: %+v, %v", tc.hex, b, err)
		}
	}
	// The check value of CRC-16/X-25.
	if got := CRC([]byte("123456789")); got != 0x906e {
		t.Errorf("CRC %04x", got)
	}
	b := I(0, false, []byte{1, 2}).Append(nil, true)
	if got, err := ParseBlock(b, true); err != nil || len(b) != 7 || len(got.INF) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadBlocks(t *testing.T) {
	for in, want := range map[string]string{
		"000000":     "3 bytes",
		"00000100":   "announced",
		"00000001":   "detection",
		"00010001":   "PCB 01",
		"00830083":   "PCB 83",
		"00c30100c2": "PCB c3",
		"00c500c5":   "PCB c5",
	} {
		b, _ := hex.DecodeString(in)
		if blk, err := ParseBlock(b, false); !errors.Is(err, ErrBlock) || !strings.Contains(err.Error(), want) || blk.INF != nil {
			t.Errorf("%s: %+v, %v; want %q", in, blk, err, want)
		}
	}
}

// chip is a card's end of T=1, slow and obvious; it answers each command with
// the command twice, in pieces of its IFSD.
type chip struct {
	ns, nr   byte
	ifsd     int
	command  []byte
	response []byte
	out      []byte // the block that is out
	more     bool
	wtx      int // times it asks for time first
	crc      bool
}

func (c *chip) answer(raw []byte) []byte {
	b, err := ParseBlock(raw, c.crc)
	if err != nil {
		return R(c.nr, 1).Append(nil, c.crc)
	}
	switch {
	case b.PCB == Resynch:
		c.ns, c.nr, c.command, c.response, c.more = 0, 0, nil, nil, false
		return S(Resynch|responseS).Append(nil, c.crc)
	case b.PCB == IFS:
		c.ifsd = int(b.INF[0])
		return S(IFS|responseS, b.INF[0]).Append(nil, c.crc)
	case b.PCB == WTX|responseS:
		return c.next()
	case b.IsR():
		if b.Number() == c.ns && c.more { // the one that is out was taken
			return c.piece()
		}
		if b.Number() == c.ns && len(c.out) > 0 && c.out[1]&0xC0 != sBit || c.out == nil {
			return R(c.nr, 0).Append(nil, c.crc) // your block never came
		}
		return c.out
	case b.IsI():
		if b.Number() != c.nr {
			return R(c.nr, 2).Append(nil, c.crc)
		}
		c.nr ^= 1
		c.command = append(c.command, b.INF...)
		if b.More() {
			c.out = R(c.nr, 0).Append(nil, c.crc)
			return c.out
		}
		c.response = append(bytes.Clone(c.command), c.command...)
		c.command = nil
		return c.next()
	}
	return c.out
}

func (c *chip) next() []byte {
	if c.wtx > 0 {
		c.wtx--
		c.out = S(WTX, 3).Append(nil, c.crc)
		return c.out
	}
	return c.piece()
}

func (c *chip) piece() []byte {
	n := min(len(c.response), c.ifsd)
	c.more = n < len(c.response)
	c.out = I(c.ns, c.more, c.response[:n]).Append(nil, c.crc)
	c.response = c.response[n:]
	c.ns ^= 1
	return c.out
}

// converse carries a command; wire may change or swallow what passes.
func converse(t *testing.T, m *T1, c *chip, command []byte, wire func([]byte) []byte) Output {
	t.Helper()
	now := begin
	out := m.Begin(now, command)
	for steps := 0; !out.Done; steps++ {
		if steps > 5000 {
			t.Fatal("no end")
		}
		var back []byte
		if there := wire(out.Send); there != nil {
			back = wire(c.answer(there))
		}
		if back == nil {
			now = m.Next()
			out = m.Tick(now)
			continue
		}
		now = now.Add(time.Millisecond)
		out = m.Receive(now, back)
	}
	return out
}

func clear(b []byte) []byte { return b }

func config() Config {
	return Config{IFSC: 32, IFSD: 254, BWT: time.Second}
}

func TestT1(t *testing.T) {
	for _, crc := range []bool{false, true} {
		for _, n := range []int{1, 31, 32, 33, 64, 254, 300, 3000} {
			cfg := config()
			cfg.CRC = crc
			m, c := NewT1(cfg), &chip{ifsd: 32, wtx: 2, crc: crc}
			for range 3 { // numbers go on from command to command
				command := bytes.Repeat([]byte{byte(n), 2, 3}, n)[:n]
				out := converse(t, m, c, command, clear)
				if out.Err != nil || !bytes.Equal(out.Response, append(bytes.Clone(command), command...)) {
					t.Fatalf("%d bytes, CRC %v: %d came, %v", n, crc, len(out.Response), out.Err)
				}
			}
		}
	}
}

// TestExact: what passes, byte for byte, for a command of two blocks, an
// extension of time and an answer of two blocks.
func TestExact(t *testing.T) {
	m := NewT1(Config{IFSC: 3, IFSD: 32, BWT: time.Second})
	step := func(out Output, want string, wtx byte) {
		t.Helper()
		if got := hex.EncodeToString(out.Send); got != want || out.WTX != wtx {
			t.Errorf("sends %s (WTX %d), want %s", got, out.WTX, want)
		}
	}
	take := func(s string) Output {
		b, _ := hex.DecodeString(s)
		return m.Receive(begin, b)
	}
	step(m.Begin(begin, []byte{1, 2, 3, 4, 5}), "00200301020323", 0)
	step(take("00900090"), "004002040543", 0)
	step(take("00c30107c5"), "00e30107e5", 7)
	if got := m.Next(); got != begin.Add(7*time.Second) {
		t.Errorf("waits until %v", got)
	}
	step(take("002001aa8b"), "00900090", 0)
	out := take("00400290009" + "042"[1:])
	if out.Done {
		t.Error("a wrong LRC is taken")
	}
	step(out, "00910091", 0)
	out = take("0040029000d2")
	if !out.Done || !bytes.Equal(out.Response, []byte{0xaa, 0x90, 0}) || !m.Next().IsZero() {
		t.Errorf("%+v", out)
	}
}

// TestT1Noise: whatever gets lost or bent, a command ends with the right
// answer or an error (invariant 2).
func TestT1Noise(t *testing.T) {
	right := 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m, c := NewT1(config()), &chip{ifsd: 32, wtx: rnd.IntN(3)}
		command := bytes.Repeat([]byte{1, 2, 3}, 1+rnd.IntN(100))
		out := converse(t, m, c, command, func(b []byte) []byte {
			switch rnd.IntN(30) {
			case 0:
				return nil
			case 1:
				b = bytes.Clone(b)
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
			return b
		})
		switch {
		case out.Err == nil && !bytes.Equal(out.Response, append(bytes.Clone(command), command...)):
			t.Fatalf("seed %d: a wrong answer of %d bytes to %d", seed, len(out.Response), len(command))
		case out.Err == nil:
			right++
		case !errors.Is(out.Err, ErrCard):
			t.Fatalf("seed %d: %v", seed, out.Err)
		}
	}
	if right < 250 {
		t.Errorf("only %d of 300 commands came through", right)
	}
}

func TestT1GivesUp(t *testing.T) {
	m := NewT1(config())
	out := converse(t, m, &chip{ifsd: 32}, []byte{1}, func([]byte) []byte { return nil })
	if !errors.Is(out.Err, ErrCard) || !strings.Contains(out.Err.Error(), "does not answer") {
		t.Errorf("%v", out.Err)
	}
	if out := m.Begin(begin, []byte{1}); !out.Done || !errors.Is(out.Err, ErrCard) {
		t.Errorf("%+v", out)
	}
	m = NewT1(Config{IFSC: 32, IFSD: 32, BWT: time.Second})
	out = m.Begin(begin, []byte{1})
	for i := 0; !out.Done; i++ {
		if i > MaxExtensions {
			t.Fatal("time without end")
		}
		out = m.Receive(begin, S(WTX, 1).Append(nil, false))
	}
	m = NewT1(Config{IFSC: 32, IFSD: 254, BWT: time.Second})
	m.told = true
	out = m.Begin(begin, []byte{1})
	for i := byte(0); !out.Done; i ^= 1 {
		out = m.Receive(begin, I(i, true, make([]byte, 254)).Append(nil, false))
	}
	if !errors.Is(out.Err, ErrCard) || !strings.Contains(out.Err.Error(), "without end") {
		t.Errorf("%v", out.Err)
	}
}

// TestT0: "card's bytes > what is sent then"; the last one ends it.
func TestT0(t *testing.T) {
	for _, tc := range []struct {
		name   string
		c      apdu.Command
		header string
		script []string
		want   string
		err    string
	}{
		{"case 1", apdu.Command{INS: 0x20, P2: 0x80}, "0020008000", []string{"63>", "c3>"}, "63c3", ""},
		{"case 2", apdu.Command{INS: 0xb0, Le: 2}, "00b0000002", []string{"b001029000>"}, "01029000", ""},
		{"case 2, byte by byte", apdu.Command{INS: 0xb0, Le: 2}, "00b0000002", []string{"4f>", "01>", "60>", "b002>", "9000>"}, "01029000", ""},
		{"256 bytes", apdu.Command{INS: 0xb0, Le: 256}, "00b0000000", []string{"b0" + strings.Repeat("90", 256) + "9000>"}, strings.Repeat("90", 256) + "9000", ""},
		{"case 3", apdu.Command{INS: 0xd6, Data: []byte{1, 2, 3}}, "00d6000003", []string{"d6>010203", "9000>"}, "9000", ""},
		{"case 3, byte by byte", apdu.Command{INS: 0xd6, Data: []byte{1, 2, 3}}, "00d6000003", []string{"29>01", "60>", "d6>0203", "609000>"}, "9000", ""},
		{"case 4", apdu.Command{INS: 0x88, Data: []byte{1}, Le: 256}, "0088000001", []string{"88>01", "6110>"}, "6110", ""},
		{"too much asked", apdu.Command{INS: 0xd6, Data: []byte{1}}, "00d6000001", []string{"d6>01", "d6>"}, "", "nothing is left"},
		{"nonsense", apdu.Command{INS: 0xd6, Data: []byte{1}}, "00d6000001", []string{"42>"}, "", "procedure byte 42"},
		{"out of turn", apdu.Command{INS: 0xd6, Data: []byte{1}}, "00d6000001", []string{"d690>"}, "", "out of turn"},
		{"mute", apdu.Command{INS: 0xd6, Data: []byte{1}}, "00d6000001", []string{">"}, "", "does not answer"},
	} {
		m, out := NewT0(begin, tc.c, time.Second)
		if got := hex.EncodeToString(out.Send); got != tc.header {
			t.Errorf("%s: header %s", tc.name, got)
		}
		for _, line := range tc.script {
			in, sent, _ := strings.Cut(line, ">")
			b, _ := hex.DecodeString(in)
			if out = m.Receive(begin, b); in == "" {
				if early := m.Tick(begin); early.Done {
					t.Errorf("%s: gave up early", tc.name)
				}
				out = m.Tick(m.Next())
			}
			if got := hex.EncodeToString(out.Send); got != sent {
				t.Errorf("%s: after %s sends %q, want %q", tc.name, in, got, sent)
			}
		}
		switch {
		case tc.err != "" && (!errors.Is(out.Err, ErrCard) || !strings.Contains(out.Err.Error(), tc.err)):
			t.Errorf("%s: %+v, want %q", tc.name, out, tc.err)
		case tc.err == "" && (!out.Done || out.Err != nil || hex.EncodeToString(out.Response) != tc.want):
			t.Errorf("%s: %+v, want %s", tc.name, out, tc.want)
		}
	}
}

func FuzzBlock(f *testing.F) {
	for _, b := range []Block{S(IFS, 254), I(1, true, []byte{1, 2}), R(1, 1), S(WTX, 5), S(Resynch)} {
		f.Add(b.Append(nil, false), false)
		f.Add(b.Append(nil, true), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, crc bool) {
		blk, err := ParseBlock(b, crc)
		if err == nil && !bytes.Equal(blk.Append(nil, crc), b) {
			t.Fatalf("%x became %x", b, blk.Append(nil, crc))
		}
		m := NewT1(Config{IFSC: 32, IFSD: 254, CRC: crc, BWT: time.Second})
		m.Begin(begin, []byte{1, 2, 3})
		m.Receive(begin, b)
		m.Tick(m.Next())
		p, _ := NewT0(begin, apdu.Command{INS: 0xb0, Le: 9}, time.Second)
		p.Receive(begin, b)
		if len(p.response) > 9 {
			t.Fatalf("%d bytes taken", len(p.response))
		}
	})
}
