package engine

import (
	"slices"
	"time"

	"hotdesk/groupmgr/member"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

// tally counts what goes out.
func (e *Engine) tally(out Output) Output {
	for _, d := range out.Send {
		e.count.Sent++
		e.count.SentBytes += uint64(len(d.Data))
	}
	return out
}

// Status is how this group manager does.
func (e *Engine) Status(now time.Time) local.Status {
	s := local.Status{
		Host: e.cfg.Host, Addr: e.about.Addr.String(), Port: int(e.cfg.Port), State: e.State(), Gateway: e.control,
		Alg: string(e.cfg.Alg), Broadcast: !e.cfg.NoBroadcast, Counters: e.count,
	}
	if e.cfg.Multicast.IsValid() {
		s.Multicast = e.cfg.Multicast.String()
	}
	for i, k := range e.cfg.Ring {
		s.Keys = append(s.Keys, local.Key{ID: k.ID(), Signs: i == 0})
	}
	rows := e.table.Rows()
	peer := func(addr, shown string, configured bool) {
		p := local.Peer{Addr: shown, LastSeen: -1, Configured: configured}
		for _, r := range rows {
			if r.Trusted && !r.Self && (r.From.String() == addr || slices.ContainsFunc(r.Host.Interfaces, func(i group.Interface) bool { return i.IP.String() == addr })) {
				p.Host, p.LastSeen = r.Host.Name, since(now, r.LastSeen)
			}
		}
		if len(s.Peers) < local.MaxListed {
			s.Peers = append(s.Peers, p)
		}
	}
	for _, p := range e.cfg.Peers {
		peer(p.Addr().String(), p.String(), true)
	}
	for _, p := range e.Learned(now) {
		peer(p.Addr().String(), p.String(), false)
	}
	for _, r := range rows {
		if r.Trusted && !r.Self {
			s.Trusted++
		}
		if r.Down {
			s.Down++
		}
		if r.Suspect {
			s.Suspect++
		}
		if !r.Trusted && len(s.Untrusted) < local.MaxListed {
			s.Untrusted = append(s.Untrusted, other(now, r, r.Why))
		}
		if r.Duplicate != "" && len(s.Duplicates) < local.MaxListed {
			s.Duplicates = append(s.Duplicates, other(now, r, r.Duplicate))
		}
	}
	return s
}

func other(now time.Time, r member.Row, why string) local.Other {
	from := r.From
	if r.Self {
		from = r.Host.Addr
	}
	return local.Other{Host: r.Host.Name, From: from.String(), LastSeen: since(now, r.LastSeen), Why: why}
}
