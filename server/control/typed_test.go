package control

import (
	"slices"
	"testing"
	"time"

	"hotdesk/server/login"
)

// A login that comes to nothing leaves nothing of what was typed.
func TestFailedLoginIsForgotten(t *testing.T) {
	m, _ := login.New(time.Now(), false, 0, func(time.Time, string) time.Duration { return 0 })
	v := &visit{p: &presentation{t: &terminal{}}, m: m, typed: newTyped([]byte("secret")), before: []byte("secret")}
	typed, before := v.typed.password, v.before
	New(Config{}).visitDo(v, []any{login.Stop{}})
	if string(typed)+string(before) != string(make([]byte, 12)) {
		t.Errorf("%q and %q are still there", typed, before)
	}
}

// Which of a login's answers is the password that another host may ask for.
func TestWhichIsThePassword(t *testing.T) {
	type answer struct {
		text   string
		secret bool
	}
	code, shown := answer{"123", true}, answer{"123", false}
	old, weak, better := answer{"old", true}, answer{"weak", true}, answer{"better", true}
	for name, x := range map[string]struct {
		answers []answer
		want    string
	}{
		"nothing more":               {nil, "old"},
		"a second factor":            {[]answer{code}, "old"},
		"two of them":                {[]answer{code, shown}, ""},
		"a new one":                  {[]answer{better, better}, "better"},
		"after the old one":          {[]answer{old, better, better}, "better"},
		"after one that was weak":    {[]answer{weak, weak, better, better}, "better"},
		"and a second factor":        {[]answer{better, better, code}, "better"},
		"after a second factor":      {[]answer{code, better, better}, "better"},
		"not typed alike":            {[]answer{weak, better}, ""},
		"no secret":                  {[]answer{shown, shown}, ""},
		"nothing typed":              {[]answer{{"", true}, {"", true}}, ""},
		"with a question in between": {[]answer{better, shown, better}, ""},
	} {
		v := &visit{typed: newTyped([]byte("old"))}
		var kept [][]byte
		for _, a := range x.answers {
			v.asked([]byte(a.text), a.secret)
			kept = append(kept, v.before, v.typed.password)
		}
		if got := string(v.typed.password); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
		v.forget()
		for _, k := range kept {
			if slices.ContainsFunc(k, func(b byte) bool { return b != 0 }) {
				t.Errorf("%s: %q is still there", name, k)
			}
		}
	}
}
