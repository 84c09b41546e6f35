package alp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Commands of the control connection, with sender and moment.
const (
	CmdInfoReq       = "infoReq"          // terminal: token inserted, removed or presented again
	CmdConnRsp       = "connRsp"          // terminal: after each connInf
	CmdKeepAliveReq  = "keepAliveReq"     // terminal: every 20 s connected, 40 s otherwise
	CmdDiscReq       = "discReq"          // terminal: it leaves
	CmdDiscRsp       = "discRsp"          // terminal: answer to discInf
	CmdConnInf       = "connInf"          // gateway: answer to infoReq, or a new attachment
	CmdKeepAliveCnf  = "keepAliveCnf"     // gateway: answer to keepAliveReq
	CmdDiscInf       = "discInf"          // gateway: the session is no longer yours
	CmdRedirectInf   = "redirectInf"      // gateway: present the token at another host
	CmdProtocolError = "protocolErrorInf" // gateway: a line could not be understood
	CmdNoticeInf     = "noticeInf"        // gateway: something to be read over the picture (ours)
)

// Bounds of what a terminal says of itself.
const (
	MinSide = 64   // smallest screen side, pixels
	MaxSide = 8192 // largest screen side, pixels
	MaxATR  = 33   // bytes, ISO 7816-3 section 8.2.1
	MaxText = 256  // bytes of a free text: firmware, cause, message

	MaxLayout = 32 // bytes of the name of a keyboard layout
	MaxHost   = 64 // bytes of a host's name
)

// Identity is what every message of a terminal carries (alp.md section 2,
// common keys).
type Identity struct {
	Firmware string     // fw
	Hardware string     // hw
	Terminal TerminalID // sn; namespace=IEEE802
	Port     int        // pn: ALRP port, 1 where the terminal is native
}

// InfoReq is infoReq: a token came or went.
type InfoReq struct {
	Identity
	Remove    bool   // event=remove, else insert
	Connected bool   // state=connected: media still runs (or ran) for Session and Gen
	Type, ID  string // token type and id
	ATR       []byte // atr, of a card
	Redirect  bool   // cause=redirect, else insert
	Props     string // redirectProps: the proof that the redirecting host gave
	Width     int    // startRes, pixels
	Height    int
	TokenSeq  int // raised at each presentation

	Rules   string    // rules: version of the naming rules that named the card (ours)
	Layout  string    // kbd: keyboard layout, "us" when absent (ours)
	Session SessionID // session: the one still shown, when Connected; else the one that was shown for this token until its media was lost (ours)
	Gen     uint64    // gen: its attachment (ours)

	// Failed is the server that a redirect named and that did not answer, when
	// an insertion is made at another because of that. Circle: servers sent the
	// terminal round. Whoever hears it does not send the terminal there again
	// unasked (ours).
	Failed netip.AddrPort
	Circle bool
	Lost   Lost // of an insertion (ours)
}

// Lost is a session that was shown for the token until its server stopped
// answering. The zero value is none.
type Lost struct {
	Session SessionID     // lostSession
	Host    string        // lostHost: as connInf named it
	Ago     time.Duration // lostAgo: whole seconds since
}

// Token is the name that the request presents.
func (r InfoReq) Token() Token { return Token(r.Type + "." + r.ID) }

// ConnInf is connInf: the answer to a presentation.
type ConnInf struct {
	TokenSeq int
	Allowed  bool
	Token    Token
	Module   string // which rule decided
	Cause    string // why it was denied, for the user (ours)
	OSD      int    // on-screen code to show when denied, alp.md section 10 (ours)

	// Media, when allowed (ours). Ticket is empty where the attachment Gen
	// that the terminal still has goes on; MediaPort and MediaCert then are
	// too, and not on the line.
	MediaPort int
	MediaCert [32]byte // SHA-256 of the certificate of the media end
	Ticket    []byte   // TicketSize bytes, or none
	Gen       uint64
	Session   SessionID
	Host      string // where the session is, for the user; may be empty (ours)
}

// TicketSize is the length of a media ticket in bytes.
const TicketSize = 32

// DiscInf is discInf: the terminal no longer has the session of TokenSeq.
type DiscInf struct {
	TokenSeq int
	Cause    string // for the user
	OSD      int
}

// RedirectInf is redirectInf: present the token again at that host.
type RedirectInf struct {
	TokenSeq int
	Addr     netip.Addr // authipa
	Port     int        // authport: the control port there
	Props    string     // redirectProps, to be handed over as it is
}

// NoticeInf is noticeInf: a text for the user, over the picture of tokenSeq.
// Where there is no picture yet it waits for one, at another server too. A
// later one takes its place; an empty text takes it away.
type NoticeInf struct {
	TokenSeq int
	Seconds  int // how long it stays, 0: until the card is pulled
	Text     string
}

// MaxNotice bounds NoticeInf.Seconds.
const MaxNotice = 24 * 60 * 60

// Message builds the line.
func (r InfoReq) Message() Message {
	m := Message{Command: CmdInfoReq}
	m.Add("_", "1")
	m.Add("event", pick(r.Remove, "remove", "insert"))
	m.Add("fw", r.Firmware)
	m.Add("hw", r.Hardware)
	m.Add("namespace", "IEEE802")
	m.Add("id", r.ID)
	m.AddInt("pn", r.Port)
	m.Add("sn", string(r.Terminal))
	m.Add("state", pick(r.Connected, "connected", "disconnected"))
	m.Add("type", r.Type)
	if !r.Remove {
		if len(r.ATR) > 0 {
			m.Add("atr", hex.EncodeToString(r.ATR))
		}
		m.Add("cause", pick(r.Redirect, "redirect", "insert"))
		m.Add("initState", "1")
		m.Add("startRes", fmt.Sprintf("%dx%d", r.Width, r.Height))
	}
	m.AddInt("tokenSeq", r.TokenSeq)
	if r.Redirect && !r.Remove {
		m.Add("redirectProps", r.Props)
	}
	if r.Layout != "" && !r.Remove {
		m.Add("kbd", r.Layout)
	}
	if r.Rules != "" && !r.Remove {
		m.Add("rules", r.Rules)
	}
	if r.Session != "" {
		m.Add("session", string(r.Session))
		m.Add("gen", strconv.FormatUint(r.Gen, 10))
	}
	if r.Remove {
		return m
	}
	if r.Failed.IsValid() {
		m.Add("failed", r.Failed.String())
	}
	if r.Circle {
		m.Add("circle", "true")
	}
	if r.Lost.Session != "" {
		m.Add("lostSession", string(r.Lost.Session))
		m.Add("lostHost", r.Lost.Host)
		m.AddInt("lostAgo", int(r.Lost.Ago/time.Second))
	}
	return m
}

// ParseInfoReq reads an infoReq. What counts only at an insertion is empty at a
// removal.
func ParseInfoReq(m Message) (InfoReq, error) {
	p := reader{m: m, command: CmdInfoReq}
	r := InfoReq{
		Identity:  p.identity(),
		Remove:    p.either("event", "remove", "insert"),
		Connected: p.either("state", "connected", "disconnected"),
		Type:      m.Get("type"),
		ID:        m.Get("id"),
	}
	if !r.Token().Valid() || strings.Contains(r.Type, ".") {
		p.failf("token %q", r.Token())
	}
	if m.Get("tokenSeq") != "" || !r.Remove {
		r.TokenSeq = p.int("tokenSeq", 0, 1<<31-1)
	}
	if m.Get("session") != "" {
		if r.Session = SessionID(m.Get("session")); !r.Session.Valid() {
			p.failf("session %q", r.Session)
		}
		r.Gen = p.uint64("gen")
	}
	if r.Remove {
		return done(r, p)
	}
	r.ATR = p.hex("atr", 0, MaxATR)
	r.Rules = p.text("rules", MaxRulesName)
	r.Width, r.Height = p.size("startRes")
	if r.Redirect = m.Get("cause") == "redirect"; r.Redirect {
		r.Props = m.Get("redirectProps")
	}
	if r.Layout = p.text("kbd", MaxLayout); !only(r.Layout, func(c byte) bool { return c >= 'a' && c <= 'z' }) {
		p.failf("kbd %q", r.Layout)
	}
	if v := m.Get("failed"); v != "" {
		var err error
		if r.Failed, err = netip.ParseAddrPort(v); err != nil || !r.Failed.Addr().Is4() {
			p.failf("failed %q", v)
		}
	}
	r.Circle = m.Get("circle") == "true"
	if v := m.Get("lostSession"); v != "" {
		if r.Lost.Session = SessionID(v); !r.Lost.Session.Valid() {
			p.failf("lostSession %q", v)
		}
		r.Lost.Host = p.text("lostHost", MaxHost)
		r.Lost.Ago = time.Duration(p.int("lostAgo", 0, 1<<31-1)) * time.Second
	}
	return done(r, p)
}

// State is what a terminal's messages other than infoReq say: connRsp,
// keepAliveReq, discReq and discRsp.
type State struct {
	Identity
	Connected bool   // state=connected
	Cause     string // of discReq
}

// ParseState reads a connRsp, keepAliveReq, discReq or discRsp. What they
// carry beside is statistics that nobody needs.
func ParseState(m Message) (State, error) {
	p := reader{m: m, command: m.Command}
	s := State{
		Identity:  p.identity(),
		Connected: p.either("state", "connected", "disconnected"),
		Cause:     p.text("cause", MaxText),
	}
	switch m.Command {
	case CmdConnRsp, CmdKeepAliveReq, CmdDiscReq, CmdDiscRsp:
	default:
		p.failf("command")
	}
	return done(s, p)
}

// ConnRsp is the terminal's answer to a connInf.
func (id Identity) ConnRsp(allowed, connected bool) Message {
	m := Message{Command: CmdConnRsp}
	m.Add("_", "1")
	m.Add("access", pick(allowed, "allowed", "denied"))
	return id.common(m, connected)
}

// KeepAliveReq is the terminal's sign of life.
func (id Identity) KeepAliveReq(connected bool) Message {
	m := Message{Command: CmdKeepAliveReq}
	m.Add("_", "1")
	return id.common(m, connected)
}

// DiscReq tells that the terminal leaves; cause is redirect or
// keepAliveExpiry.
func (id Identity) DiscReq(cause string) Message {
	m := Message{Command: CmdDiscReq}
	m.Add("_", "1")
	m.Add("cause", cause)
	m = id.common(m, false)
	m.Add("type", "unknown")
	return m
}

// DiscRsp answers a discInf.
func (id Identity) DiscRsp() Message {
	m := Message{Command: CmdDiscRsp}
	m.Add("_", "1")
	return id.common(m, false)
}

func (id Identity) common(m Message, connected bool) Message {
	m.Add("fw", id.Firmware)
	m.Add("hw", id.Hardware)
	m.AddInt("pn", id.Port)
	m.Add("sn", string(id.Terminal))
	m.Add("namespace", "IEEE802")
	m.Add("state", pick(connected, "connected", "disconnected"))
	return m
}

// KeepAliveCnf is the gateway's answer to keepAliveReq.
func KeepAliveCnf() Message { return Message{Command: CmdKeepAliveCnf} }

// ProtocolErrorInf tells a peer what could not be understood.
func ProtocolErrorInf(cause string) Message {
	return Message{Command: CmdProtocolError, Keys: []Pair{{"cause", cause[:min(len(cause), MaxText)]}}}
}

// Message builds the line.
func (c ConnInf) Message() Message {
	m := Message{Command: CmdConnInf}
	m.Add("useReal", "true")
	m.Add("encUpType", "none")
	m.AddInt("tokenSeq", c.TokenSeq)
	m.Add("module", c.Module)
	m.Add("access", pick(c.Allowed, "allowed", "denied"))
	m.Add("token", string(c.Token))
	m.Add("encDownType", "none")
	if !c.Allowed {
		m.Add("cause", c.Cause)
		m.AddInt("osd", c.OSD)
		return m
	}
	if len(c.Ticket) > 0 {
		m.AddInt("mediaPort", c.MediaPort)
		m.Add("mediaCert", hex.EncodeToString(c.MediaCert[:]))
		m.Add("ticket", hex.EncodeToString(c.Ticket))
	}
	m.Add("gen", strconv.FormatUint(c.Gen, 10))
	if c.Session != "" {
		m.Add("session", string(c.Session))
	}
	if c.Host != "" {
		m.Add("host", c.Host)
	}
	return m
}

// ParseConnInf reads a connInf.
func ParseConnInf(m Message) (ConnInf, error) {
	p := reader{m: m, command: CmdConnInf}
	c := ConnInf{
		TokenSeq: p.int("tokenSeq", 0, 1<<31-1),
		Allowed:  p.either("access", "allowed", "denied"),
		Token:    Token(p.text("token", MaxToken)),
		Module:   p.text("module", MaxText),
	}
	if !c.Allowed {
		c.Cause = p.text("cause", MaxText)
		if m.Get("osd") != "" {
			c.OSD = p.int("osd", 0, 99)
		}
		return done(c, p)
	}
	if m.Get("ticket") != "" {
		c.MediaPort = p.int("mediaPort", 1, 65535)
		copy(c.MediaCert[:], p.hex("mediaCert", len(c.MediaCert), len(c.MediaCert)))
		c.Ticket = p.hex("ticket", TicketSize, TicketSize)
	}
	c.Gen = p.uint64("gen")
	c.Session = SessionID(m.Get("session"))
	if c.Session != "" && !c.Session.Valid() {
		p.failf("session %q", c.Session)
	}
	c.Host = p.text("host", MaxHost)
	return done(c, p)
}

// Message builds the line.
func (d DiscInf) Message() Message {
	m := Message{Command: CmdDiscInf}
	m.Add("access", "denied")
	m.AddInt("tokenSeq", d.TokenSeq)
	m.Add("cause", d.Cause)
	m.AddInt("osd", d.OSD)
	return m
}

// ParseDiscInf reads a discInf.
func ParseDiscInf(m Message) (DiscInf, error) {
	p := reader{m: m, command: CmdDiscInf}
	d := DiscInf{Cause: p.text("cause", MaxText)}
	if m.Get("tokenSeq") != "" {
		d.TokenSeq = p.int("tokenSeq", 0, 1<<31-1)
	}
	if m.Get("osd") != "" {
		d.OSD = p.int("osd", 0, 99)
	}
	return done(d, p)
}

// Message builds the line. Addr must be IPv4.
func (r RedirectInf) Message() Message {
	m := Message{Command: CmdRedirectInf}
	a := r.Addr.As4()
	m.Add("authipa", hex.EncodeToString(a[:]))
	m.AddInt("authport", r.Port)
	m.AddInt("tokenSeq", r.TokenSeq)
	m.Add("redirectProps", r.Props)
	return m
}

// ParseRedirectInf reads a redirectInf.
func ParseRedirectInf(m Message) (RedirectInf, error) {
	p := reader{m: m, command: CmdRedirectInf}
	r := RedirectInf{Port: p.int("authport", 1, 65535), Props: m.Get("redirectProps")}
	if a := p.hex("authipa", 4, 4); len(a) == 4 {
		r.Addr = netip.AddrFrom4([4]byte(a))
	}
	if m.Get("tokenSeq") != "" {
		r.TokenSeq = p.int("tokenSeq", 0, 1<<31-1)
	}
	return done(r, p)
}

// Message builds the line.
func (n NoticeInf) Message() Message {
	m := Message{Command: CmdNoticeInf}
	m.AddInt("tokenSeq", n.TokenSeq)
	m.AddInt("seconds", n.Seconds)
	m.Add("text", n.Text)
	return m
}

// ParseNoticeInf reads a noticeInf.
func ParseNoticeInf(m Message) (NoticeInf, error) {
	p := reader{m: m, command: CmdNoticeInf}
	return done(NoticeInf{
		TokenSeq: p.int("tokenSeq", 0, 1<<31-1),
		Seconds:  p.int("seconds", 0, MaxNotice),
		Text:     p.text("text", MaxText),
	}, p)
}

func pick(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// reader collects the first thing that is wrong with a message.
type reader struct {
	m       Message
	command string
	err     error
}

func done[T any](v T, p reader) (T, error) {
	var zero T
	if p.m.Command != p.command {
		return zero, fmt.Errorf("alp: %q is not %s", p.m.Command, p.command)
	}
	if p.err != nil {
		return zero, p.err
	}
	return v, nil
}

func (p *reader) failf(format string, a ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("alp: "+p.command+": bad "+format, a...)
	}
}

func (p *reader) identity() Identity {
	id := Identity{
		Firmware: p.text("fw", MaxText),
		Hardware: p.text("hw", MaxText),
		Terminal: TerminalID(p.m.Get("sn")),
		Port:     p.int("pn", 1, 65535),
	}
	if !id.Terminal.Valid() {
		p.failf("sn %q", id.Terminal)
	}
	return id
}

func (p *reader) either(key, yes, no string) bool {
	v := p.m.Get(key)
	if v != yes && v != no {
		p.failf("%s %q", key, v)
	}
	return v == yes
}

func (p *reader) text(key string, most int) string {
	v := p.m.Get(key)
	if len(v) > most {
		p.failf("%s of %d bytes, at most %d", key, len(v), most)
		return ""
	}
	return v
}

func (p *reader) int(key string, least, most int) int {
	v, err := strconv.Atoi(p.m.Get(key))
	if err != nil || v < least || v > most {
		p.failf("%s %q", key, p.m.Get(key))
		return 0
	}
	return v
}

func (p *reader) uint64(key string) uint64 {
	s := p.m.Get(key)
	if s == "" {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		p.failf("%s %q", key, s)
	}
	return v
}

func (p *reader) hex(key string, least, most int) []byte {
	s := p.m.Get(key)
	if len(s) > 2*most || len(s) < 2*least {
		p.failf("%s of %d digits", key, len(s))
		return nil
	}
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		p.failf("%s %q", key, s)
		return nil
	}
	return b
}

func (p *reader) size(key string) (w, h int) {
	first, _, _ := strings.Cut(p.m.Get(key), ":")
	ws, hs, ok := strings.Cut(first, "x")
	w, err1 := strconv.Atoi(ws)
	h, err2 := strconv.Atoi(hs)
	if !ok || err1 != nil || err2 != nil || w < MinSide || w > MaxSide || h < MinSide || h > MaxSide {
		p.failf("%s %q", key, p.m.Get(key))
		return 0, 0
	}
	return w, h
}
