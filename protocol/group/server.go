package group

import (
	"net/netip"
	"strings"

	"hotdesk/protocol/alp"
)

// QuestionSize is the least length of a serverQ that Append writes: no serverR
// is longer (invariant 3), so a forged question gains its sender nothing.
const QuestionSize = 224

// ServerQ is a terminal's broadcast question for a server.
type ServerQ struct {
	Hardware string         // hw: at most alp.MaxText bytes
	Terminal alp.TerminalID // sn
	ID       uint64         // id: random, comes back in the answers
}

// ServerR is a group manager's answer: connect there.
type ServerR struct {
	Addr     netip.Addr     // authipa: on the subnet of the terminal
	Port     int            // authport: control port
	Terminal alp.TerminalID // sn, of the question
	ID       uint64         // id, of the question
	Host     string         // host: for the screen and the log
}

// Append writes the message, its end included, padded to QuestionSize.
func (q ServerQ) Append(b []byte) []byte {
	m := alp.Message{Command: CmdServerQ}
	m.Add("_", "1")
	m.Add("hw", q.Hardware)
	m.Add("sn", string(q.Terminal))
	m.Add("namespace", "IEEE802")
	m.Add("id", hex16(q.ID))
	m.Add("pad", "")
	if n := QuestionSize - len(m.Append(nil)); n > 0 {
		m.Keys[len(m.Keys)-1].Value = strings.Repeat("x", n)
	}
	return m.Append(b)
}

// ParseServerQ reads a serverQ.
func ParseServerQ(data []byte) (ServerQ, error) {
	f := read(data, CmdServerQ)
	if f.err != nil {
		return ServerQ{}, f.err
	}
	q := ServerQ{Hardware: f.m.Get("hw"), Terminal: f.terminal("sn"), ID: f.hex64("id")}
	if len(q.Hardware) > alp.MaxText {
		f.fail("hw of %d bytes", len(q.Hardware))
	}
	return done(q, f)
}

// Append writes the message, its end included. The caller checks that it is
// not longer than the question.
func (r ServerR) Append(b []byte) []byte {
	m := alp.Message{Command: CmdServerR}
	m.Add("_", "1")
	m.Add("authipa", Hex8(r.Addr))
	m.AddInt("authport", r.Port)
	m.Add("sn", string(r.Terminal))
	m.Add("id", hex16(r.ID))
	m.Add("host", r.Host)
	return m.Append(b)
}

// ParseServerR reads a serverR.
func ParseServerR(data []byte) (ServerR, error) {
	f := read(data, CmdServerR)
	if f.err != nil {
		return ServerR{}, f.err
	}
	r := ServerR{
		Addr:     f.addr("authipa", f.m.Get("authipa")),
		Port:     f.count("authport", 65535),
		Terminal: f.terminal("sn"),
		ID:       f.hex64("id"),
		Host:     f.name("host"),
	}
	if r.Port == 0 {
		f.fail("no authport")
	}
	return done(r, f)
}
