package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"hotdesk/groupmgr/balance"
	"hotdesk/groupmgr/locate"
	"hotdesk/groupmgr/lookup"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// asking is one lookup under way.
type asking struct {
	ask     Ask
	id      uint64 // of its tokenQ
	ticket  int    // of its tokenQ
	rounds  int    // of questions so far
	machine *lookup.Lookup
	total   map[string]int // sessions of the hosts that answered
}

func (e *Engine) ask(now time.Time, a Ask) Output {
	switch a.Lookup.Want {
	case local.WantNew:
		return answer(a, e.fresh(now, a.Lookup))
	case local.WantHost:
		return answer(a, e.other(now, a.Lookup))
	case local.WantPlace:
		return answer(a, e.place(now, a.Lookup))
	case local.WantSession:
		return answer(a, e.chosen(now, a.Lookup))
	}
	if len(e.lookups) >= MaxLookups {
		return answer(a, local.Answer{Where: local.Refused, Reason: "the server is overloaded, please try again"})
	}
	var ask []lookup.Ask
	for _, r := range e.table.Rows() {
		if r.Trusted && !r.Self && !r.Down {
			ask = append(ask, lookup.Ask{Host: r.Host.Name, Suspect: r.Suspect})
		}
	}
	ticket := 1
	if c, ok := e.claims[a.Lookup.Token]; ok && now.Sub(c.at) < claim {
		ticket = min(c.ticket+1, group.MaxTicket)
	}
	e.count.Lookups++
	l := &asking{ask: a, id: e.rnd.Uint64(), ticket: ticket, total: map[string]int{}, machine: lookup.New(now, e.cfg.Host, kept(a.Lookup, e.cfg.Host, e.own(now, a.Lookup.Token, true)), ask)}
	e.lookups = append(e.lookups, l)
	return e.drive(now, l)
}

// tokenQ answers a question of a trusted host.
func (e *Engine) tokenQ(now time.Time, p Packet, q group.TokenQ) Output {
	r := group.TokenR{To: q.Host, ID: q.ID, Token: q.Token, Total: 1 + e.total(now), Found: e.own(now, q.Token, true)}
	// Whoever has just started knows nothing until its gateway has come.
	r.Asking = !e.greeted && now.Before(e.start.Add(restart))
	if len(r.Found) == 0 {
		if host := e.promised(now, q.Token); host != "" {
			r.Placed = host
		}
	}
	for _, l := range e.lookups {
		if l.ask.Lookup.Token == q.Token && q.Ticket > 0 && cmp.Or(cmp.Compare(l.ticket, q.Ticket), cmp.Compare(e.cfg.Host, q.Host)) < 0 {
			r.Asking = true
		}
	}
	if c, ok := e.claims[q.Token]; ok || len(e.claims) < maxClaims {
		if now.Sub(c.at) >= claim {
			c.ticket = 0
		}
		e.claims[q.Token] = claimed{max(c.ticket, q.Ticket), now}
	}
	r.Stamp = e.table.Stamp(now)
	return e.speak(now, Datagram{From: e.direct(p), To: p.From, Data: e.sign(r.Append(nil))})
}

func answer(a Ask, v local.Answer) Output { return Output{Answers: []Answered{{a.ID, v}}} }

// drive sends what a lookup wants sent and ends it when it has settled.
func (e *Engine) drive(now time.Time, l *asking) Output {
	var out Output
	hosts := l.machine.Tick(now)
	if len(hosts) > 0 {
		if l.rounds++; l.rounds == knockRound {
			out.Knock = e.knock(now, l)
		}
	}
	for _, host := range hosts {
		row, ok := e.table.Find(host)
		if !ok {
			continue
		}
		q := group.TokenQ{Stamp: e.table.Stamp(now), ID: l.id, Token: l.ask.Lookup.Token, Ticket: l.ticket}
		out.Send = append(out.Send, Datagram{To: e.at(address(row)), Data: e.sign(q.Append(nil))})
	}
	if !l.machine.Settled() {
		return out
	}
	e.lookups = slices.DeleteFunc(e.lookups, func(o *asking) bool { return o == l })
	if _, found := l.machine.Best(); !found && slices.ContainsFunc(slices.Concat(l.machine.Missing(), l.machine.Undecided()), func(h string) bool { return e.leaving[h].After(now) }) {
		e.held = append(e.held, held{ask: l.ask}) // it said goodbye meanwhile (invariant 7)
		return out
	}
	for _, host := range l.machine.Missing() {
		e.table.Suspect(host)
	}
	l.machine.Own(now, e.cfg.Host, kept(l.ask.Lookup, e.cfg.Host, e.own(now, l.ask.Lookup.Token, true)))
	v := e.decide(now, l)
	for _, c := range l.machine.All() {
		if c.Host != e.cfg.Host && len(v.Others) < local.MaxOthers {
			v.Others = append(v.Others, local.Elsewhere{Host: c.Host, Session: c.Session.ID, Connected: c.Session.State == group.Connected, Last: c.Last.UnixMilli()})
		}
	}
	out.add(answer(l.ask, v))
	return out
}

// address is where a host is best reached from here: the interface that was
// heard last, else its primary address.
func address(r member.Row) netip.Addr {
	best, at := r.Host.Addr, time.Time{}
	for i, f := range r.Host.Interfaces {
		if i < len(r.LastPkt) && r.LastPkt[i].After(at) {
			best, at = f.IP, r.LastPkt[i]
		}
	}
	return best
}

// decide is figure 9b from step 919 on.
func (e *Engine) decide(now time.Time, l *asking) local.Answer {
	q := l.ask.Lookup
	rows := e.table.Rows()
	ways := locate.Reach(now, rows, q.Addr, e.cfg.Down)
	if best, found := l.machine.Best(); found {
		switch {
		case best.Host != e.cfg.Host:
			return e.there(now, q, best.Host, best.Session.ID, ways)
		case best.Session.ID == "":
			return local.Answer{Where: local.New, Host: best.Host}
		}
		return local.Answer{Where: local.Here, Session: best.Session.ID, Host: best.Host}
	}
	// What was promised a moment ago holds, as long as that host can keep it.
	host := cmp.Or(e.promised(now, q.Token), l.machine.Placed())
	if row, ok := e.table.Find(host); ok && host != "" && takes(row) && allows(q, host) {
		if !row.Self {
			return e.there(now, q, host, "", ways)
		}
		e.keepPromise(now, q.Token, host)
		return local.Answer{Where: local.New, Host: host}
	}
	var why string
	host, why = e.balance.Place(now, e.candidates(now, q, rows, ways, l.total))
	if host == "" {
		return refuse(q, why)
	}
	e.keepPromise(now, q.Token, host)
	if host == e.cfg.Host {
		return local.Answer{Where: local.New, Host: host}
	}
	return e.there(now, q, host, "", ways)
}

// candidates are the hosts that a terminal can reach, with what they have to
// give. total is what some have said of their sessions just now.
func (e *Engine) candidates(now time.Time, q local.Lookup, rows []member.Row, ways map[string]netip.Addr, total map[string]int) []balance.Candidate {
	var all []balance.Candidate
	for _, r := range rows {
		if _, reached := ways[r.Host.Name]; !r.Self && (!reached || !r.Trusted || r.Host.Control == 0 || r.Suspect) {
			continue
		}
		c := balance.Candidate{Name: r.Host.Name, Self: r.Self, CPUs: r.Host.CPUs, Load: r.Host.Load, State: r.Host.State, Heard: r.Told, Barred: !allows(q, r.Host.Name)}
		if n, ok := total[c.Name]; ok { // newer than its host message
			c.Load.Sessions, c.Heard = n, now
		}
		if r.Self {
			c.Load.Sessions, c.Heard = e.total(now), now
		}
		all = append(all, c)
	}
	return all
}

// allows reports whether whoever asks may have a new session on a host.
func allows(q local.Lookup, host string) bool {
	if i := slices.IndexFunc(q.Access, func(a local.Access) bool { return adminapi.Matches(a.Host, host) }); i >= 0 && q.Access[i].Deny {
		return false
	}
	return len(q.Hosts) == 0 || slices.ContainsFunc(q.Hosts, func(p string) bool { return adminapi.Matches(p, host) })
}

// kept is what a host has found for whoever asks: a session that is only
// promised, to somebody with other rights a moment ago, is none for one who may
// have none there.
func kept(q local.Lookup, host string, found []group.Found) []group.Found {
	if allows(q, host) {
		return found
	}
	return slices.DeleteFunc(found, func(f group.Found) bool { return f.State == group.Starting })
}

// refuse answers who gets no session, and says where there might be one.
func refuse(q local.Lookup, why string) local.Answer {
	if len(q.Hosts) > 0 {
		why = fmt.Sprintf("you may have a session on %s: %s", adminapi.Few(q.Hosts), why)
	}
	return local.Answer{Where: local.Refused, Reason: why}
}

// takes reports whether a host takes new sessions, as far as its last words go.
func takes(r member.Row) bool {
	full := r.Host.Load.Limit > 0 && r.Host.Load.Sessions >= r.Host.Load.Limit
	return !r.Down && !r.Suspect && r.Host.State == group.Online && !full && (r.Self || r.Host.Control != 0)
}

func (e *Engine) there(now time.Time, q local.Lookup, host string, session alp.SessionID, ways map[string]netip.Addr) local.Answer {
	row, ok := e.table.Find(host)
	way, reached := ways[host]
	switch {
	case !ok || !reached:
		return local.Answer{Where: local.Unreachable, Session: session, Host: host,
			Reason: fmt.Sprintf("your session runs on %s, which cannot be reached from here: go to a terminal near it", host)}
	case row.Host.Control == 0:
		return local.Answer{Where: local.Unreachable, Session: session, Host: host,
			Reason: fmt.Sprintf("your session runs on %s, whose server is not running: wait a moment, then try again", host)}
	}
	proof := group.Redirect{Stamp: e.table.Stamp(now), To: host, Terminal: q.Terminal, Token: cmp.Or(q.Presented, q.Token), Session: session, User: q.User, Proof: q.Proven, Another: q.Another}
	if session == "" && proof.Token != q.Token {
		proof.As = q.Token
	}
	return local.Answer{Where: local.There, Session: session, Host: host,
		Target: netip.AddrPortFrom(way, uint16(row.Host.Control)), Props: proof.Sign(e.cfg.Ring, e.cfg.Alg)}
}

// Verify judges the proof that a terminal brought from another host.
func (e *Engine) Verify(now time.Time, v local.Verify) local.Verified {
	r, err := group.ParseRedirect(v.Props, e.cfg.Ring)
	no := func(why string) local.Verified { return local.Verified{Reason: why} }
	switch {
	case err != nil:
		return no(err.Error())
	case r.To != e.cfg.Host:
		return no(fmt.Sprintf("the proof is for host %s", r.To))
	case r.Terminal != v.Terminal:
		return no("the proof is for another terminal")
	case r.Token != v.Token:
		return no("the proof is for another token")
	}
	offset := time.Duration(0) // of a host not heard yet, only the signature is known
	if row, ok := e.table.Find(r.Host); ok {
		offset = time.Duration(row.TimeOff) * time.Second
	}
	if r.Expired(now.Add(offset)) {
		return no("the proof is too old")
	}
	if r.Session != "" {
		return local.Verified{OK: true, Session: r.Session, User: r.User, Proven: r.Proof}
	}
	// A new one, unless another terminal with this token was faster.
	token := cmp.Or(r.As, r.Token)
	if found := e.own(now, token, true); len(found) > 0 && !r.Another {
		return local.Verified{OK: true, Session: found[0].ID, New: found[0].ID != "", User: r.User, Proven: r.Proof}
	}
	if self, _ := e.table.Find(e.cfg.Host); !takes(self) {
		return no("this host takes no new sessions by now")
	}
	e.keepPromise(now, token, e.cfg.Host)
	return local.Verified{OK: true, User: r.User, Proven: r.Proof, Another: r.Another}
}
