package adminapi

import (
	"strings"
	"testing"
	"time"
)

func TestMatters(t *testing.T) {
	for _, c := range []struct {
		field, value, wrong string
	}{
		{"hours", "mon-fri/08:00-18:00,sat/09:00-24:00", ""},
		{"hours", "mon-fri 08:00-18:00", "hours are"},
		{"hours", "mon/8:00-18:00", "hours are"},
		{"hours", "moon/08:00-18:00", "hours are"},
		{"hours", "mon/08:00-25:00", "hours are"},
		{"hours", strings.Repeat("mon/08:00-09:00,", 64) + "tue/08:00-09:00", "at most"},
		{"first", "pin,login", ""}, {"first", "none", ""}, {"reattach", "login", ""},
		{"first", "none,login", "it is none"}, {"first", "login,pin", "it is none"}, {"first", "pin,piv", "it is none"},
		{"disconnected", "15m", ""}, {"disconnected", "never", ""}, {"disconnected", "15", "a time"}, {"disconnected", "-1m", "a time"}, {"disconnected", "9999h", "a time"},
		{"removal", "end:30s", ""}, {"removal", "lock", ""}, {"removal", "end:", "a time"}, {"removal", "burn", "it is detach"},
		{"sessions", "3", ""}, {"sessions", "0", "1 to 64"}, {"sessions", "65", "1 to 64"}, {"sessions", "03", "1 to 64"},
		{"idle", "lock:10m", ""}, {"idle", "never", ""}, {"idle", "10m", "as lock:10m"}, {"idle", "end:never", "as lock:10m"}, {"idle", "burn:1m", "as lock:10m"}, {"idle", "end:1", "a time"},
		{"memory", "64", ""}, {"memory", "host", ""}, {"memory", "63", "64 to"}, {"memory", "2G", "or host"}, {"memory", "99999999", "64 to"},
		{"processes", "32", ""}, {"processes", "0", "32 to"}, {"cpu-weight", "10000", ""}, {"cpu-weight", "10001", "1 to 10000"},
		{"hosts", "north,so*", ""}, {"access", "deny", ""}, {"access", "no", "it is"}, {"cards", "self", ""}, {"bare", "login", ""}, {"choose", "yes", ""},
	} {
		err := Record{KindPolicy, "r", map[string]string{c.field: c.value}}.Check()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s=%.40s: %v", c.field, c.value, err)
		}
	}
}

func FuzzHours(f *testing.F) {
	f.Add("mon-fri/08:00-18:00,sat/09:00-12:00")
	f.Add("fri/22:00-06:00")
	f.Add("sat-sun/00:00-24:00")
	f.Fuzz(func(t *testing.T, s string) {
		spans, err := ParseHours(s)
		if (err == nil) != (len(spans) > 0) || len(spans) > MaxList {
			t.Fatalf("%d spans, %v", len(spans), err)
		}
		in := 0
		for m := range 7 * 24 * 60 {
			if Within(spans, time.Date(2026, 3, 1, 0, m, 0, 0, time.UTC)) {
				in++
			}
		}
		if err == nil && in == 0 {
			t.Fatalf("%q is never", s)
		}
	})
}
