package engine

import (
	"fmt"
	"time"

	"hotdesk/groupmgr/locate"
	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// fresh answers a user who chose a session on this host in place of one that
// cannot be reached: nobody is asked whether there is one.
func (e *Engine) fresh(now time.Time, q local.Lookup) local.Answer {
	self, _ := e.table.Find(e.cfg.Host)
	if _, why := e.balance.Place(now, e.candidates(now, q, []member.Row{self}, nil, nil)); why != "" {
		return refuse(q, why)
	}
	e.keepPromise(now, q.Token, e.cfg.Host)
	return local.Answer{Where: local.New, Host: e.cfg.Host}
}

// other answers a terminal without a session that cannot stay: with any host
// that works, so that many are spread. Nothing is promised to it.
func (e *Engine) other(now time.Time, q local.Lookup) local.Answer {
	rows := e.table.Rows()
	ways := locate.Reach(now, rows, q.Addr, e.cfg.Down)
	var hosts []string
	for _, r := range rows {
		_, reached := ways[r.Host.Name]
		if !r.Self && reached && r.Trusted && !r.Down && !r.Suspect && r.Host.Control != 0 && r.Host.State == group.Online && allows(q, r.Host.Name) {
			hosts = append(hosts, r.Host.Name)
		}
	}
	if len(hosts) == 0 {
		return refuse(q, fmt.Sprintf("%s is %s, and no other server can be reached from here", e.cfg.Host, e.state))
	}
	return e.there(now, q, hosts[e.rnd.IntN(len(hosts))], "", ways)
}

// chosen answers a user who chose one of the sessions that a lookup has named:
// nobody is asked for the latest.
func (e *Engine) chosen(now time.Time, q local.Lookup) local.Answer {
	if row, ok := e.table.Find(q.Host); !ok || !row.Trusted || row.Self {
		return local.Answer{Where: local.Refused, Reason: fmt.Sprintf("there is no server %s any more: tell your administrator", q.Host)}
	}
	rows := e.table.Rows()
	return e.there(now, q, q.Host, q.Session, locate.Reach(now, rows, q.Addr, e.cfg.Down))
}

// place answers for somebody who is still to log in: with the host that a new
// session would be made on. Nothing is promised to it: that may be hours away.
func (e *Engine) place(now time.Time, q local.Lookup) local.Answer {
	rows := e.table.Rows()
	ways := locate.Reach(now, rows, q.Addr, e.cfg.Down)
	host, why := e.balance.Pick(now, e.candidates(now, q, rows, ways, nil))
	switch host {
	case "":
		return refuse(q, why)
	case e.cfg.Host:
		return local.Answer{Where: local.New, Host: host}
	}
	return e.there(now, q, host, "", ways)
}
