package group

import (
	"strconv"
	"time"

	"hotdesk/protocol/alp"
)

// MaxAgo bounds how long ago a session may have been connected: ten years.
const MaxAgo = 10 * 365 * 24 * time.Hour

// MaxTicket bounds a ticket.
const MaxTicket = 1 << 20

// TokenQ asks a TRUSTED host for the sessions of a token.
//
// Ticket orders those who ask for one token at the same time, as in Ricart and
// Agrawala, "An Optimal Algorithm for Mutual Exclusion in Computer Networks",
// 1981: it is one more than that of any question for the token that the asker
// had heard when it began. The lower ticket, then the lower name, goes first.
type TokenQ struct {
	Stamp
	ID     uint64 // id: random, comes back in the answers
	Token  alp.Token
	Ticket int // ticket: 0 from a host that does not say (ours)
}

// SessionState is what a session is doing, as far as the group needs it.
type SessionState string

// States of a session in a tokenR.
const (
	Starting     SessionState = "starting" // promised to a terminal and not yet made; it has no id
	Connected    SessionState = "connected"
	Disconnected SessionState = "disconnected"
)

// Found is one session of a tokenR.
type Found struct {
	ID    alp.SessionID // empty where Starting
	State SessionState
	Ago   time.Duration // ago: time since its last connection, in whole milliseconds, so that no two clocks are compared
}

// TokenR answers a TokenQ, also where there is no session.
type TokenR struct {
	Stamp
	To    string // to: the host that asked
	ID    uint64 // id, of the question
	Token alp.Token
	Found []Found // latest connection first

	Total  int    // total: all its sessions and the promised ones, and 1, so that 0 says nothing (ours)
	Asking bool   // asking=1: we ask for it too and go first; ask again in a moment (ours)
	Placed string // placed: the host to which we sent a new session of it just now (ours)
}

// Append writes the message, unsigned, its end included.
func (q TokenQ) Append(b []byte) []byte {
	m := alp.Message{Command: CmdTokenQ}
	m.Add("host", q.Host)
	m.Add("time", strconv.FormatInt(q.Time, 10))
	m.Add("id", hex16(q.ID))
	m.Add("token", string(q.Token))
	if q.Ticket > 0 {
		m.AddInt("ticket", q.Ticket)
	}
	q.Stamp.add(&m)
	return m.Append(b)
}

// ParseTokenQ reads a tokenQ.
func ParseTokenQ(data []byte) (TokenQ, error) {
	f := read(data, CmdTokenQ)
	if f.err != nil {
		return TokenQ{}, f.err
	}
	return done(TokenQ{Stamp: f.stamp(), ID: f.hex64("id"), Token: f.token(), Ticket: f.count("ticket", MaxTicket)}, f)
}

// Append writes the message, unsigned, its end included.
func (r TokenR) Append(b []byte) []byte {
	m := alp.Message{Command: CmdTokenR}
	m.Add("host", r.Host)
	m.Add("time", strconv.FormatInt(r.Time, 10))
	m.Add("to", r.To)
	m.Add("id", hex16(r.ID))
	m.Add("token", string(r.Token))
	m.AddInt("sessions", len(r.Found))
	for _, s := range r.Found {
		id := string(s.ID)
		if id == "" {
			id = "new"
		}
		m.Add("session", id)
		m.Add("state", string(s.State))
		m.Add("ago", strconv.FormatInt(s.Ago.Milliseconds(), 10))
	}
	if r.Total > 0 {
		m.AddInt("total", r.Total)
	}
	if r.Asking {
		m.Add("asking", "1")
	}
	if r.Placed != "" {
		m.Add("placed", r.Placed)
	}
	r.Stamp.add(&m)
	return m.Append(b)
}

// ParseTokenR reads a tokenR.
func ParseTokenR(data []byte) (TokenR, error) {
	f := read(data, CmdTokenR)
	if f.err != nil {
		return TokenR{}, f.err
	}
	r := TokenR{Stamp: f.stamp(), To: f.name("to"), ID: f.hex64("id"), Token: f.token(), Total: f.count("total", MaxCount), Asking: f.count("asking", 1) == 1, Placed: f.m.Get("placed")}
	if r.Placed != "" && !ValidName(r.Placed) {
		f.fail("placed %q", r.Placed)
	}
	ends := true // the last session has all its fields
	for _, p := range f.m.Keys {
		n := len(r.Found)
		switch p.Key {
		case "session":
			if n == MaxFound || !ends {
				f.fail("session %q: more than %d, or one without its end", p.Value, MaxFound)
				return TokenR{}, f.err
			}
			s := Found{ID: alp.SessionID(p.Value)}
			if p.Value == "new" {
				s.ID = ""
			} else if !s.ID.Valid() {
				f.fail("session %q", p.Value)
			}
			r.Found, ends = append(r.Found, s), false
		case "state":
			s := SessionState(p.Value)
			if n == 0 || ends || s != Connected && s != Disconnected && s != Starting || (s == Starting) != (r.Found[n-1].ID == "") {
				f.fail("state %q", p.Value)
				return TokenR{}, f.err
			}
			r.Found[n-1].State = s
		case "ago":
			if n == 0 || ends || r.Found[n-1].State == "" || p.Value == "" {
				f.fail("ago %q", p.Value)
				return TokenR{}, f.err
			}
			r.Found[n-1].Ago = time.Duration(f.parseUint("ago", p.Value, uint64(MaxAgo.Milliseconds()))) * time.Millisecond
			ends = true
		}
	}
	if n := f.count("sessions", MaxFound); n != len(r.Found) || !ends {
		f.fail("sessions %d, but %d came", n, len(r.Found))
	}
	return done(r, f)
}
