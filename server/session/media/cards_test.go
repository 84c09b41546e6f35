package media

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/pcsclite"
)

var simpleCards = fstest.MapFS{"one.card": {Data: []byte("atr = 3b08484f544445534b31\ntype = simple\nid = 4d013c7f33545165\nsecret = 3f63e2dd7c0543506ce318c677a5e456\n")}}

// caller is a program's connection without libpcsclite.
type caller struct {
	t    testing.TB
	conn net.Conn
}

func dialCards(t testing.TB, d *cardDesk) *caller {
	t.Helper()
	conn, err := net.Dial("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // only a defect reaches it
		t.Fatal(err)
	}
	return &caller{t, conn}
}

func (c *caller) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// ends waits for the service to close the connection.
func (c *caller) ends() {
	c.t.Helper()
	if b, err := io.ReadAll(c.conn); err != nil && !strings.Contains(err.Error(), "reset") {
		c.t.Fatalf("not closed: % x, %v", b, err)
	}
}

// call has one exchange with the service.
func call[B pcsclite.Body](c *caller, b B) B {
	c.t.Helper()
	c.send(pcsclite.AppendRequest(nil, b))
	if _, err := pcsclite.ParseBody(c.read(len(pcsclite.AppendBody(nil, b))), b); err != nil {
		c.t.Fatal(err)
	}
	if tr, ok := pcsclite.Body(b).(*pcsclite.Transmit); ok && tr.RV == pcsclite.Success {
		tr.Data = c.read(int(tr.ReceiveLength))
	}
	return b
}

// greet makes a context.
func (c *caller) greet() uint32 {
	c.t.Helper()
	if v := call(c, &pcsclite.Version{Major: pcsclite.Major, Minor: pcsclite.Minor}); v.RV != pcsclite.Success {
		c.t.Fatalf("version: %x", v.RV)
	}
	return call(c, &pcsclite.Establish{Scope: 2}).Context
}

// wait registers for the next change.
func (c *caller) wait() pcsclite.ReaderState {
	c.t.Helper()
	c.send(pcsclite.AppendRequest(nil, &pcsclite.Wait{}))
	s, _, err := pcsclite.ParseState(c.read(pcsclite.StatesSize))
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *caller) changed() {
	c.t.Helper()
	if rv := binary.NativeEndian.Uint32(c.read(pcsclite.SignalSize)[4:]); rv != pcsclite.Success {
		c.t.Fatalf("signal %x", rv)
	}
}

// becomes waits until a card is in, or out.
func (c *caller) becomes(present bool) {
	c.t.Helper()
	for (c.wait().State&pcsclite.StatePresent != 0) != present {
		c.changed()
	}
	c.send(pcsclite.AppendRequest(nil, &pcsclite.StopWaiting{}))
	c.changed()
}

func (c *caller) connect(context uint32) uint32 {
	c.t.Helper()
	b := &pcsclite.Connect{Context: context, Share: pcsclite.Shared, Protocols: pcsclite.T0 | pcsclite.T1}
	copy(b.Reader[:], readerName)
	if call(c, b).RV != pcsclite.Success {
		c.t.Fatalf("connect: %x", b.RV)
	}
	return b.Card
}

var selectSimple = apdu.Select(apdu.SimpleAID).Append(nil)

func exchange(card uint32, command []byte) *pcsclite.Transmit {
	return &pcsclite.Transmit{Card: card, SendProtocol: pcsclite.T0, SendLength: uint32(len(command)), ReceiveLength: pcsclite.MaxTransfer, Data: command}
}

// works has an exchange that succeeds.
func (c *caller) works(card uint32) {
	c.t.Helper()
	tr := call(c, exchange(card, selectSimple))
	if tr.RV != pcsclite.Success || !bytes.HasSuffix(tr.Data, []byte{0x90, 0}) {
		c.t.Fatalf("exchange: %x % x", tr.RV, tr.Data)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCardMoves: a program sees the card go and come as its session moves.
func TestCardMoves(t *testing.T) {
	d := newCardDesk(t, simpleCards)
	c := dialCards(t, d)
	context := c.greet()
	if s := c.wait(); s.Name != readerName || s.State != pcsclite.StateAbsent {
		t.Errorf("without a terminal: %+v", s)
	}
	must(t, d.insert("one"))
	c.changed()
	card := c.connect(context)
	c.works(card)
	if tr := call(c, exchange(card, make([]byte, pcsclite.MaxTransfer))); tr.RV != pcsclite.NotTransacted {
		t.Errorf("more than an APDU: %x", tr.RV)
	}
	long := apdu.Command{INS: 0xA4, P1: 4, Data: make([]byte, 65535), Extended: true}.Append(nil)
	if tr := call(c, exchange(card, long)); tr.RV != pcsclite.Success || len(tr.Data) != 2 {
		t.Errorf("the longest APDU: %x % x", tr.RV, tr.Data)
	}
	must(t, d.remove())
	c.becomes(false)
	if st := call(c, &pcsclite.Status{Card: card}); st.RV != pcsclite.RemovedCard {
		t.Errorf("status after removal: %x", st.RV)
	}
	must(t, d.insert("one"))
	c.becomes(true)
	if tr := call(c, exchange(card, selectSimple)); tr.RV != pcsclite.RemovedCard {
		t.Errorf("an old handle: %x", tr.RV)
	}
	c.works(c.connect(context))
}

// TestBadPrograms: whoever says what must not be said loses its own connection
// and nothing else.
func TestBadPrograms(t *testing.T) {
	d := newCardDesk(t, simpleCards)
	must(t, d.insert("one"))
	good := dialCards(t, d)
	context := good.greet()
	good.becomes(true)
	card := good.connect(context)
	unknown := pcsclite.AppendRequest(nil, &pcsclite.ReaderStates{})
	unknown[4] = 0x77
	oversized := pcsclite.AppendRequest(nil, exchange(card, selectSimple))
	binary.NativeEndian.PutUint32(oversized[pcsclite.HeaderSize+12:], pcsclite.MaxTransfer+1)
	for name, b := range map[string][]byte{
		"unknown":         unknown,
		"oversized":       oversized,
		"another version": pcsclite.AppendRequest(nil, &pcsclite.Version{Major: 4, Minor: 3}),
		"no version":      pcsclite.AppendRequest(nil, &pcsclite.Establish{}),
		"noise":           bytes.Repeat([]byte{0xff}, 100),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialCards(t, d)
			c.send(b)
			c.ends()
		})
	}
	thief := dialCards(t, d)
	thief.greet()
	thief.send(pcsclite.AppendRequest(nil, exchange(card, selectSimple)))
	thief.ends()

	// One that reads nothing, and one that goes away in the middle.
	deaf := dialCards(t, d)
	_ = deaf.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // it is to be stopped by it
	states := bytes.Repeat(pcsclite.AppendRequest(nil, &pcsclite.ReaderStates{}), 1000)
	_, _ = deaf.conn.Write(append(pcsclite.AppendRequest(nil, &pcsclite.Version{Major: 4, Minor: 4}), bytes.Repeat(states, 100)...)) // cut short
	half := dialCards(t, d)
	half.send(unknown[:5])
	half.conn.Close()
	good.works(card)
}

func TestManyPrograms(t *testing.T) {
	d := newCardDesk(t, simpleCards)
	var all []*caller
	for range maxCardClients {
		c := dialCards(t, d)
		c.greet()
		all = append(all, c)
	}
	dialCards(t, d).ends()
	all[0].wait() // the others' places are free when it hears nothing of them
	for _, c := range all[1:] {
		c.conn.Close()
	}
	for limit := time.Now().Add(30 * time.Second); ; {
		c := dialCards(t, d)
		c.send(pcsclite.AppendRequest(nil, &pcsclite.Version{Major: 4, Minor: 4}))
		if _, err := io.ReadFull(c.conn, make([]byte, 12)); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("there is no room after they left")
		}
	}
}

// TestCardSocket: the socket is the user's, and takes the place of one that a
// media process left.
func TestCardSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	left.SetUnlinkOnClose(false)
	left.Close()
	c, err := newCards(path, slog.New(slog.DiscardHandler))
	must(t, err)
	c.socket.Close()
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := newCards(path, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file was taken for a socket that was left")
	}
}

// BenchmarkCardExchange is an APDU from a program to the terminal's end of the
// card streams and back, without a network.
func BenchmarkCardExchange(b *testing.B) {
	d := newCardDesk(b, simpleCards)
	must(b, d.insert("one"))
	c := dialCards(b, d)
	context := c.greet()
	c.becomes(true)
	card := c.connect(context)
	for b.Loop() {
		c.works(card)
	}
}
