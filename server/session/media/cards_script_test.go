//go:build pcsc

package media

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ebfe/scard"

	"hotdesk/smartcard/apdu"
)

// A program is what the conformance test runs against pcscd and against
// media: it does what programs do with a card, and writes what comes of it. A
// line "!WORDS" asks whoever runs it to do something with the card; a line on
// in says that it is done.
type program struct {
	reader string
	in     *bufio.Scanner
	out    io.Writer
}

func (p *program) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// hands has something done to the card.
func (p *program) hands(what string) {
	p.say("!%s", what)
	if !p.in.Scan() {
		p.say("nobody does %s", what)
		os.Exit(1)
	}
}

// rv is how a return value is written.
func rv(err error) string {
	var code scard.Error
	if errors.As(err, &code) {
		return fmt.Sprintf("%08x", uint32(code))
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func (p *program) context(name string) *scard.Context {
	c, err := scard.EstablishContext()
	p.say("%s: establish: %s", name, rv(err))
	return c
}

func (p *program) connect(c *scard.Context, name string, mode scard.ShareMode, proto scard.Protocol) *scard.Card {
	card, err := c.Connect(p.reader, mode, proto)
	if err != nil {
		p.say("%s: connect mode %d protocol %d: %s", name, mode, proto, rv(err))
		return nil
	}
	p.say("%s: connect mode %d protocol %d: ok, protocol %d", name, mode, proto, card.ActiveProtocol())
	return card
}

func (p *program) status(name string, card *scard.Card) {
	st, err := card.Status()
	if err != nil {
		p.say("%s: status: %s", name, rv(err))
		return
	}
	p.say("%s: status: state %x protocol %d ATR %x", name, uint32(st.State)&0xffff, st.ActiveProtocol, st.Atr)
}

func (p *program) transmit(name string, card *scard.Card, command []byte) {
	b, err := card.Transmit(command)
	if len(b) > 40 {
		b = append(b[:20:20], b[len(b)-20:]...)
	}
	p.say("%s: transmit %x: %s %x", name, command[:min(len(command), 12)], rv(err), b)
}

// change waits for a change from a state, and returns the new one.
func (p *program) change(c *scard.Context, name string, from scard.StateFlag, timeout time.Duration) scard.StateFlag {
	st := []scard.ReaderState{{Reader: p.reader, CurrentState: from}}
	err := c.GetStatusChange(st, timeout)
	p.say("%s: change: %s %x ATR %x", name, rv(err), uint32(st[0].EventState)&0xffff, st[0].Atr)
	return st[0].EventState &^ scard.StateChanged
}

// settle waits until the reader says that it has, or has no card.
func (p *program) settle(c *scard.Context, want scard.StateFlag) {
	var state scard.StateFlag
	for state&want == 0 {
		st := []scard.ReaderState{{Reader: p.reader, CurrentState: state}}
		if err := c.GetStatusChange(st, -1); err != nil {
			p.say("settle: %s", rv(err))
			return
		}
		state = st[0].EventState &^ scard.StateChanged
	}
}

func (p *program) run() {
	selectPIV := apdu.Command{INS: 0xA4, P1: 4, Data: []byte{0xA0, 0, 0, 3, 8}, Le: 256}.Append(nil)
	certificate := apdu.Command{INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: []byte{0x5C, 3, 0x5F, 0xC1, 5}, Le: 65536, Extended: true}.Append(nil)

	a := p.context("a")
	p.connect(a, "a", scard.ShareShared, scard.ProtocolAny)
	none := p.connect(a, "a", scard.ShareDirect, scard.ProtocolUndefined)
	if none != nil {
		p.status("a direct", none)
		p.say("a direct: begin: %s", rv(none.BeginTransaction()))
		p.say("a direct: end: %s", rv(none.EndTransaction(scard.LeaveCard)))
		p.say("a direct: reconnect: %s", rv(none.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
		p.say("a direct: disconnect: %s", rv(none.Disconnect(scard.LeaveCard)))
	}
	state := p.change(a, "a", scard.StateUnaware, 0)
	p.change(a, "a", state, 50*time.Millisecond)
	p.hands("insert")
	p.settle(a, scard.StatePresent)
	p.change(a, "a", scard.StateUnaware, -1)

	// Modes and protocols.
	p.connect(a, "a", scard.ShareShared, scard.ProtocolT0)
	p.connect(a, "a", scard.ShareShared, scard.ProtocolUndefined)
	p.connect(a, "a", 9, scard.ProtocolAny)
	one := p.connect(a, "a", scard.ShareShared, scard.ProtocolAny)
	p.status("a", one)
	p.transmit("a", one, selectPIV)
	p.transmit("a", one, certificate)
	p.change(a, "a", scard.StateUnaware, 0)
	b := p.context("b")
	p.connect(b, "b", scard.ShareExclusive, scard.ProtocolAny)
	two := p.connect(b, "b", scard.ShareShared, scard.ProtocolT1)
	p.connect(b, "b", scard.ShareShared, scard.ProtocolT0)

	// Transactions.
	p.say("a: begin: %s", rv(one.BeginTransaction()))
	p.say("a: begin again: %s", rv(one.BeginTransaction()))
	p.transmit("a", one, selectPIV)
	began := make(chan error, 1)
	go func() { began <- two.BeginTransaction() }()
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.transmit("a", one, selectPIV)
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.say("b: begin: %s", rv(<-began))
	p.transmit("a", one, selectPIV)
	p.say("a: end without begin: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.say("a: end with reset: %s", rv(one.EndTransaction(scard.ResetCard)))
	p.say("a: reconnect: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.say("b: end with reset: %s", rv(two.EndTransaction(scard.ResetCard)))
	p.transmit("a", one, selectPIV)
	p.status("a", one)
	p.say("a: begin: %s", rv(one.BeginTransaction()))
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.say("a: reconnect: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.status("a", one)
	p.say("b: end: %s", rv(two.EndTransaction(scard.LeaveCard)))
	p.say("b: reconnect with reset: %s", rv(two.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.ResetCard)))
	p.say("b: end without begin: %s", rv(two.EndTransaction(scard.LeaveCard)))
	p.say("a: reconnect with power: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolT1, scard.UnpowerCard)))
	p.say("a: reconnect exclusively: %s", rv(one.Reconnect(scard.ShareExclusive, scard.ProtocolAny, scard.LeaveCard)))
	p.say("b: disconnect: %s", rv(two.Disconnect(scard.LeaveCard)))
	p.say("a: reconnect exclusively: %s", rv(one.Reconnect(scard.ShareExclusive, scard.ProtocolAny, scard.LeaveCard)))
	p.change(b, "b", scard.StateUnaware, 0)
	p.connect(b, "b", scard.ShareShared, scard.ProtocolAny)
	p.say("a: begin: %s", rv(one.BeginTransaction()))
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.say("a: reconnect shared: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.say("a: reconnect, bad: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, 7)))
	p.say("a: end, eject: %s", rv(one.EndTransaction(scard.EjectCard)))

	// Attributes and control.
	for _, id := range []scard.Attrib{scard.AttrAtrString, scard.AttrIccPresence, scard.AttrIccInterfaceStatus, 0x12345678} {
		v, err := one.GetAttrib(id)
		p.say("a: attribute %x: %s %x", uint32(id), rv(err), v)
	}
	p.say("a: set attribute: %s", rv(one.SetAttrib(scard.AttrAtrString, []byte{1})))
	got, err := one.Control(0x42000000+3400, []byte{0})
	p.say("a: features: %s %x", rv(err), got)

	// Powered down, and up again.
	p.say("a: disconnect, power: %s", rv(one.Disconnect(scard.UnpowerCard)))
	p.change(b, "b", scard.StateUnaware, 0)
	one = p.connect(a, "a", scard.ShareExclusive, scard.ProtocolAny)
	p.status("a", one)
	p.say("a: disconnect, reset: %s", rv(one.Disconnect(scard.ResetCard)))

	// An owner that goes away in its transaction.
	one = p.connect(a, "a", scard.ShareShared, scard.ProtocolAny)
	two = p.connect(b, "b", scard.ShareShared, scard.ProtocolAny)
	p.say("b: begin: %s", rv(two.BeginTransaction()))
	p.say("b: release: %s", rv(b.Release()))
	p.status("a", one)
	p.say("a: reconnect: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.say("a: begin: %s", rv(one.BeginTransaction()))

	// Waiting, and what ends it.
	b = p.context("b")
	waited := make(chan string, 1)
	wait := func(state scard.StateFlag) {
		started := make(chan struct{})
		go func() {
			close(started)
			st := []scard.ReaderState{{Reader: p.reader, CurrentState: state}}
			err := b.GetStatusChange(st, -1)
			waited <- fmt.Sprintf("%s %x", rv(err), uint32(st[0].EventState)&0xffff)
		}()
		<-started
	}
	state = p.change(b, "b", scard.StateUnaware, 0)
	wait(state)
	for done := false; !done; { // until it does wait
		_ = b.Cancel()
		select {
		case text := <-waited:
			p.say("b: cancelled: %s", text)
			done = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	wait(state)
	p.hands("remove")
	p.say("b: removed: %s", <-waited)
	two = p.connect(b, "b", scard.ShareShared, scard.ProtocolAny)
	if two != nil {
		p.say("b: connected without a card")
	}
	p.transmit("a", one, selectPIV)
	p.say("a: end: %s", rv(one.EndTransaction(scard.LeaveCard)))
	p.status("a", one)
	p.say("a: reconnect: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.hands("insert")
	p.settle(b, scard.StatePresent)
	p.status("a", one)
	p.say("a: reconnect: %s", rv(one.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard)))
	p.transmit("a", one, selectPIV)
	if os.Getenv("HOTDESK_LONG") != "" {
		measure(one, selectPIV)
	}
	p.say("a: disconnect: %s", rv(one.Disconnect(scard.LeaveCard)))
	p.say("a: release: %s", rv(a.Release()))
	p.say("b: release: %s", rv(b.Release()))
	p.say("end")
}

// measure tells on standard error what an exchange takes: for the reader of a
// log, nothing is decided by it.
func measure(card *scard.Card, command []byte) {
	took := make([]time.Duration, 1000)
	for i := range took {
		began := time.Now()
		if _, err := card.Transmit(command); err != nil {
			fmt.Fprintln(os.Stderr, "exchange:", err)
			return
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	fmt.Fprintf(os.Stderr, "exchange: median %v, p90 %v, worst %v of %d\n", took[len(took)/2], took[len(took)*9/10], took[len(took)-1], len(took))
}

// runProgram is a process that is the program.
func runProgram() {
	p := &program{reader: os.Getenv(scriptEnv), in: bufio.NewScanner(os.Stdin), out: os.Stdout}
	p.run()
}

// drive runs a program to its end: what it says, with its hands' doings.
func drive(in io.Writer, out io.Reader, hands func(what string) error) (said []string, err error) {
	for sc := bufio.NewScanner(out); sc.Scan(); {
		said = append(said, sc.Text())
		if what, ok := strings.CutPrefix(sc.Text(), "!"); ok {
			if err := hands(what); err != nil {
				return said, err
			}
			if _, err := io.WriteString(in, "done\n"); err != nil {
				return said, err
			}
		}
	}
	return said, nil
}
