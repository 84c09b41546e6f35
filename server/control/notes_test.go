package control

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := &Server{log: slog.New(slog.NewTextHandler(&log, nil)), notes: notes{burst: 1000, rate: 1}}
		one := &terminal{id: "020000000001", notes: notes{burst: 3, rate: 2}}
		two := &terminal{id: "020000000002", notes: notes{burst: 3, rate: 2}}
		count := func(what string) int { return strings.Count(log.String(), what) }
		for range 100 {
			s.say(one, slog.LevelInfo, "flood")
		}
		s.say(two, slog.LevelWarn, "beside it")
		if count("flood") != 3 || count("beside it") != 1 || count("unlogged") != 0 {
			t.Errorf("logged:\n%s", &log)
		}
		time.Sleep(600 * time.Millisecond) // of the bubble: one more line
		for range 100 {
			s.say(one, slog.LevelInfo, "flood")
		}
		if count("flood") != 4 || count("unlogged=97") != 1 {
			t.Errorf("after half a second, logged:\n%s", &log)
		}
		time.Sleep(time.Hour)
		for range 5000 {
			s.say(&terminal{id: "020000000003", notes: notes{burst: 1, rate: 1}}, slog.LevelInfo, "many")
		}
		if n := count("many"); n != 1000 {
			t.Errorf("%d lines of many terminals, want 1000", n)
		}
	})
}
