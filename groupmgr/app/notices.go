package app

import (
	"time"

	"hotdesk/groupmgr/member"
)

// One notice of a kind about a host is logged in noticePeriod, and about all
// those whose names strangers may have made up at most maxStrange: others' noise
// must neither fill the disk nor hide what is to be said of hosts that are known.
const (
	noticePeriod = time.Minute
	maxNoticed   = 256
	maxStrange   = 32
)

// notSent is a notice of ours, about whoever is to be answered.
const notSent member.Kind = "message not sent"

// A noticed is what was logged lately. It reads no clock.
type noticed struct {
	known   map[string]time.Time // when, by kind and host
	strange map[string]time.Time
	left    int // of strange ones, that found no place
}

func newNoticed() noticed {
	return noticed{known: map[string]time.Time{}, strange: map[string]time.Time{}}
}

// tell says whether a notice is to be logged, and how many strange ones were not,
// since one was, that should have been.
func (d *noticed) tell(now time.Time, n member.Notice) (ok bool, left int) {
	key := string(n.Kind) + " " + n.Host
	told, most := d.known, maxNoticed
	switch n.Kind {
	case member.Trusted, member.Down:
		delete(told, key) // each time
	case member.Full:
		key = string(n.Kind)
		fallthrough
	case member.Appeared, member.Untrusted, member.Refused, notSent:
		told, most = d.strange, maxStrange
	}
	if at, ok := told[key]; ok && now.Sub(at) < noticePeriod {
		return false, 0
	}
	if len(told) >= most {
		for k, at := range told {
			if now.Sub(at) >= noticePeriod {
				delete(told, k)
			}
		}
	}
	if len(told) >= most {
		if most == maxStrange {
			d.left++
		}
		return false, 0
	}
	told[key] = now
	if most == maxStrange {
		left, d.left = d.left, 0
	}
	return true, left
}
