package alp

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Commands about the card that a terminal has presented.
const (
	CmdControlSmartCard = "controlSmartCard" // gateway: the card, or the person, is to answer
	CmdInfoSmartCard    = "infoSmartCard"    // terminal: answer to each controlSmartCard
	CmdCardRulesInf     = "cardRulesInf"     // gateway: the rules that name cards from now on (ours)
)

// Bounds of what goes to a card and comes from it: the short form of APDUs.
// What is longer travels as a chain, and back by GET RESPONSE.
const (
	MaxTag       = 32  // bytes
	MaxCardData  = 255 // bytes of a command
	MaxCardReply = 256 // bytes of an answer, without its status
	NonceSize    = 32  // bytes
	MaxPurpose   = 16  // bytes
	MaxRulesName = 16  // bytes of the version of a list of naming rules
	MaxRulesList = 1000
)

// ControlSmartCard is controlSmartCard: an APDU for the card, or (ours) the
// question for the PIN, which the terminal asks and gives to the card itself.
type ControlSmartCard struct {
	TokenSeq int    // the presentation that it belongs to (ours)
	Tag      string // of the answer
	PIN      bool   // command=pinReq (ours), else apduInf
	CLA, INS byte
	P1, P2   byte
	Data     []byte // tdata, at most MaxCardData
	Le       int    // rlen, 0 to MaxCardReply
	Purpose  string // what for, where the card is to authenticate itself (ours)
	Nonce    []byte // the same: NonceSize bytes (ours)
	Time     int64  // Unix seconds of the server (ours)
}

// InfoSmartCard is infoSmartCard.
type InfoSmartCard struct {
	Tag    string
	OK     bool   // apdu_result=1: the card answered
	Data   []byte // rec_data
	Status uint16
	Cause  string // why not, where not OK (ours)
}

// CardRules is cardRulesInf: a list for package identity, and its version.
type CardRules struct {
	Version string // letters and digits
	List    string
}

// Message builds the line.
func (c ControlSmartCard) Message() Message {
	m := Message{Command: CmdControlSmartCard}
	m.Add("tag", c.Tag)
	m.Add("command", pick(c.PIN, "pinReq", "apduInf"))
	if !c.PIN {
		m.Add("head", hex.EncodeToString([]byte{c.CLA, c.INS, c.P1, c.P2}))
		m.Add("tdata", hex.EncodeToString(c.Data))
		m.AddInt("rlen", c.Le)
	}
	m.AddInt("tokenSeq", c.TokenSeq)
	if len(c.Nonce) > 0 {
		m.Add("purpose", c.Purpose)
		m.Add("nonce", hex.EncodeToString(c.Nonce))
		m.Add("time", strconv.FormatInt(c.Time, 10))
	}
	return m
}

// ParseControlSmartCard reads a controlSmartCard.
func ParseControlSmartCard(m Message) (ControlSmartCard, error) {
	p := reader{m: m, command: CmdControlSmartCard}
	c := ControlSmartCard{
		Tag:      p.tag(),
		PIN:      p.either("command", "pinReq", "apduInf"),
		TokenSeq: p.int("tokenSeq", 0, 1<<31-1),
	}
	if !c.PIN {
		if h := p.hex("head", 4, 4); len(h) == 4 {
			c.CLA, c.INS, c.P1, c.P2 = h[0], h[1], h[2], h[3]
		}
		c.Data = p.hex("tdata", 0, MaxCardData)
		c.Le = p.int("rlen", 0, MaxCardReply)
	}
	if m.Get("nonce") != "" {
		c.Nonce = p.hex("nonce", NonceSize, NonceSize)
		c.Purpose = p.text("purpose", MaxPurpose)
		t, err := strconv.ParseInt(m.Get("time"), 10, 64)
		if err != nil || t < 0 {
			p.failf("time %q", m.Get("time"))
		}
		c.Time = t
		if c.Purpose == "" || !only(c.Purpose, isTokenByte) {
			p.failf("purpose %q", c.Purpose)
		}
	}
	return done(c, p)
}

// Message builds the line.
func (i InfoSmartCard) Message() Message {
	m := Message{Command: CmdInfoSmartCard}
	m.Add("tag", i.Tag)
	m.Add("apdu_result", pick(i.OK, "1", "0"))
	if !i.OK {
		m.Add("cause", i.Cause)
		return m
	}
	m.Add("rec_data", hex.EncodeToString(i.Data))
	m.AddInt("rec_len", len(i.Data))
	m.Add("status", fmt.Sprintf("%04x", i.Status))
	return m
}

// ParseInfoSmartCard reads an infoSmartCard.
func ParseInfoSmartCard(m Message) (InfoSmartCard, error) {
	p := reader{m: m, command: CmdInfoSmartCard}
	i := InfoSmartCard{Tag: p.tag(), OK: m.Get("apdu_result") == "1"}
	if !i.OK {
		i.Cause = p.text("cause", MaxText)
		return done(i, p)
	}
	i.Data = p.hex("rec_data", 0, MaxCardReply)
	if p.int("rec_len", 0, MaxCardReply) != len(i.Data) {
		p.failf("rec_len %q for %d bytes", m.Get("rec_len"), len(i.Data))
	}
	if s := p.hex("status", 2, 2); len(s) == 2 {
		i.Status = uint16(s[0])<<8 | uint16(s[1])
	}
	return done(i, p)
}

// Message builds the line.
func (c CardRules) Message() Message {
	m := Message{Command: CmdCardRulesInf}
	m.Add("version", c.Version)
	m.Add("rules", c.List)
	return m
}

// ParseCardRules reads a cardRulesInf. What the list says is package
// identity's.
func ParseCardRules(m Message) (CardRules, error) {
	p := reader{m: m, command: CmdCardRulesInf}
	c := CardRules{Version: p.text("version", MaxRulesName), List: p.text("rules", MaxRulesList)}
	if c.Version == "" || !only(c.Version, isTokenByte) {
		p.failf("version %q", c.Version)
	}
	return done(c, p)
}

func (p *reader) tag() string {
	t := p.text("tag", MaxTag)
	if t == "" || !only(t, isTokenByte) {
		p.failf("tag %q", t)
	}
	return t
}
