package app

import (
	"fmt"
	"testing"
	"time"

	"hotdesk/groupmgr/member"
)

// A stranger who says a new name every quarter of a second, for ever, fills
// neither the log nor the place of what is to be said of hosts that are known.
func TestStrangersHideNothing(t *testing.T) {
	d := newNoticed()
	now := time.Unix(1700000000, 0)
	lines, left := 0, 0
	for i := range 4 * 600 {
		now = now.Add(250 * time.Millisecond)
		ok, more := d.tell(now, member.Notice{Kind: member.Refused, Host: fmt.Sprint("made-up-", i)})
		if left += more; ok {
			lines++
		}
		if i%400 == 399 {
			for _, k := range []member.Kind{member.Down, member.Trusted, member.Stopped, member.Duplicate} {
				if ok, _ := d.tell(now, member.Notice{Kind: k, Host: fmt.Sprint("south", i)}); !ok {
					t.Errorf("%q is not logged", k)
				}
			}
		}
	}
	if lines > 11*maxStrange || lines < maxStrange || lines+left+d.left != 4*600 {
		t.Errorf("%d lines in ten minutes, %d are said to be left out", lines, left)
	}
	if n := len(d.strange); n > maxStrange {
		t.Errorf("%d are remembered", n)
	}
}

// TestNotices: which of two notices a moment apart are logged.
func TestNotices(t *testing.T) {
	at := func(k member.Kind, host string) member.Notice { return member.Notice{Kind: k, Host: host} }
	for _, x := range []struct {
		first, then member.Notice
		after       time.Duration
		want        bool
	}{
		{at(member.Untrusted, "a"), at(member.Untrusted, "a"), time.Second, false},
		{at(member.Untrusted, "a"), at(member.Untrusted, "a"), noticePeriod, true},
		{at(member.Untrusted, "a"), at(member.Untrusted, "b"), time.Second, true},
		{at(member.Untrusted, "a"), at(member.Refused, "a"), time.Second, true},
		{at(member.Duplicate, "a"), at(member.Duplicate, "a"), time.Second, false},
		{at(member.Full, "a"), at(member.Full, "b"), time.Second, false},
		{at(member.Down, "a"), at(member.Down, "a"), time.Second, true},
		{at(member.Trusted, "a"), at(member.Trusted, "a"), time.Second, true},
	} {
		d, now := newNoticed(), time.Unix(1700000000, 0)
		if ok, _ := d.tell(now, x.first); !ok {
			t.Errorf("%+v is not logged", x.first)
		}
		if ok, _ := d.tell(now.Add(x.after), x.then); ok != x.want {
			t.Errorf("%+v, %v after %+v: %v", x.then, x.after, x.first, ok)
		}
	}
}
