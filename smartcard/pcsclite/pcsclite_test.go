package pcsclite

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/pcscd.txt
var recording string

// said is what was said on one connection: in turns, each with a request and
// what came back till the next.
type turn struct{ request, answers []byte }

// turns reads the recording, by connection.
func turns(t testing.TB) [][]turn {
	t.Helper()
	var conns [][]turn
	for line := range strings.Lines(recording) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%.40q is no line of a recording", line)
		}
		n, err := strconv.Atoi(f[0])
		if err != nil || n < 1 || n > len(conns)+1 {
			t.Fatalf("connection %q", f[0])
		}
		if n > len(conns) {
			conns = append(conns, nil)
		}
		b := expand(t, f[2])
		if f[1] == ">" {
			conns[n-1] = append(conns[n-1], turn{request: b})
		} else {
			last := &conns[n-1][len(conns[n-1])-1]
			last.answers = append(last.answers, b...)
		}
	}
	return conns
}

// expand reads hexadecimal with numbers of zeros.
func expand(t testing.TB, s string) []byte {
	var b []byte
	for s != "" {
		digits, rest, _ := strings.Cut(s, "(")
		part, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
		if rest == "" {
			break
		}
		var count string
		count, s, _ = strings.Cut(rest, ")")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, make([]byte, n)...)
	}
	return b
}

// TestRecorded: what libpcsclite and pcscd said is read, and written again to
// the byte.
func TestRecorded(t *testing.T) {
	seen := map[Command]int{}
	states := 0
	for n, conn := range turns(t) {
		waits := false
		for _, turn := range conn {
			b, answers := turn.request, turn.answers
			for len(b) > 0 {
				m, rest, err := ParseRequest(b)
				if err != nil {
					t.Fatalf("connection %d: % x: %v", n+1, b, err)
				}
				if again := AppendRequest(nil, m); !bytes.Equal(again, b[:len(b)-len(rest)]) {
					t.Fatalf("% x became % x", b, again)
				}
				seen[m.command()]++
				b = rest
				switch m.(type) {
				case *Wait, *ReaderStates:
					waits = true
					for range MaxReaders {
						s, rest, err := ParseState(answers)
						if err != nil {
							t.Fatal(err)
						}
						if s.Name != "" && !bytes.Equal(s.Append(nil)[:MaxName+12], answers[:MaxName+12]) {
							t.Fatalf("% x became % x", answers[:StateSize], s.Append(nil))
						}
						if s.State == StatePresent|StatePowered|StateNegotiable {
							states++
							if !bytes.Equal(s.Append(nil), answers[:StateSize]) {
								t.Fatalf("% x became % x", answers[:StateSize], s.Append(nil))
							}
						}
						answers = rest
					}
				case *StopWaiting:
					if len(answers)%SignalSize != 0 {
						t.Fatalf("signals of % x", answers)
					}
					answers = nil
				default:
					reply := newBody(m.command())
					rest, err := ParseBody(answers, reply)
					if err != nil {
						t.Fatal(err)
					}
					if again := AppendBody(nil, reply); !bytes.Equal(again, answers[:len(answers)-len(rest)]) {
						t.Fatalf("% x became % x", answers, again)
					}
					answers = rest
					if r, ok := reply.(*Transmit); ok && r.RV == Success {
						answers = answers[r.ReceiveLength:]
					}
				}
			}
			if len(answers) > 0 && (!waits || len(answers)%SignalSize != 0) {
				t.Fatalf("connection %d: left % x", n+1, answers)
			}
		}
	}
	if states == 0 {
		t.Error("no card in the recording")
	}
	for _, c := range []Command{CmdVersion, CmdEstablish, CmdRelease, CmdConnect, CmdReconnect, CmdDisconnect, CmdBegin, CmdEnd,
		CmdTransmit, CmdControl, CmdStatus, CmdCancel, CmdGetAttrib, CmdSetAttrib, CmdReaderStates, CmdWait, CmdStopWaiting} {
		if seen[c] == 0 {
			t.Errorf("command %#x is not in the recording", uint32(c))
		}
	}
}

func request(command Command, size uint32, body ...byte) []byte {
	b := AppendSignal(nil, uint32(command))
	copy(b, AppendSignal(nil, size)[4:])
	return append(b, body...)
}

func TestBadRequests(t *testing.T) {
	long := AppendRequest(nil, &Transmit{Card: 1, SendLength: 3, Data: []byte{1, 2, 3}})
	copy(long[HeaderSize+12:], []byte{0xff, 0xff, 0xff, 0x7f})
	for name, b := range map[string][]byte{
		"no command":        request(0, 0),
		"not used":          request(0x0C, 8),
		"of later versions": request(0x15, 0),
		"too short":         request(CmdVersion, 11),
		"too long":          request(CmdStatus, 0xffffffff),
		"states, body":      request(CmdReaderStates, 1),
		"much data":         long,
	} {
		if m, rest, err := ParseRequest(b); !errors.Is(err, ErrMessage) || m != nil || rest != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	whole := AppendRequest(nil, &Transmit{Card: 1, SendLength: 3, Data: []byte{1, 2, 3}})
	for n := range whole {
		if _, _, err := ParseRequest(whole[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes of a request: %v", n, err)
		}
	}
	name := bytes.Repeat([]byte{'x'}, MaxName)
	if got := (&Connect{Reader: [MaxName]byte(name)}).Name(); got != strings.Repeat("x", MaxName-1) {
		t.Errorf("a name without end is %q", got)
	}
}

func FuzzParseRequest(f *testing.F) {
	seeds := 0
	for _, conn := range turns(f) {
		for _, turn := range conn {
			f.Add(turn.request)
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, rest, err := ParseRequest(b)
		if err != nil {
			if m != nil || rest != nil {
				t.Fatal("an error with results")
			}
			return
		}
		if again := AppendRequest(nil, m); !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}

func FuzzParseState(f *testing.F) {
	seeds := 0
	for _, conn := range turns(f) {
		for _, turn := range conn {
			if len(turn.answers) >= StatesSize {
				f.Add(turn.answers[:StateSize])
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := ParseState(b)
		if err != nil {
			if rest != nil || !reflect.DeepEqual(s, ReaderState{}) {
				t.Fatal("an error with results")
			}
			return
		}
		again, _, err := ParseState(s.Append(nil)) // what follows a name's NUL is not kept
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}
