package engine

import (
	"fmt"
	"time"

	"hotdesk/groupmgr/balance"
	"hotdesk/groupmgr/locate"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// fresh answers a user who chose a session on this host in place of one that
// cannot be reached: nobody is asked whether there is one.
func (e *Engine) fresh(now time.Time, q local.Lookup) local.Answer {
	self, _ := e.table.Find(e.cfg.Host)
	load := self.Host.Load
	load.Sessions = e.total(now)
	_, why := e.balance.Place(now, []balance.Candidate{{Name: e.cfg.Host, Self: true, CPUs: self.Host.CPUs, Load: load, State: self.Host.State, Heard: now}})
	if why != "" {
		return local.Answer{Where: local.Refused, Reason: why}
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
		if !r.Self && reached && r.Trusted && !r.Down && !r.Suspect && r.Host.Control != 0 && r.Host.State == group.Online {
			hosts = append(hosts, r.Host.Name)
		}
	}
	if len(hosts) == 0 {
		return local.Answer{Where: local.Refused, Reason: fmt.Sprintf("%s is %s, and no other server can be reached from here", e.cfg.Host, e.state)}
	}
	return e.there(now, q, hosts[e.rnd.IntN(len(hosts))], "", ways)
}
