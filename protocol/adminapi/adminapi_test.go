package adminapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const sample = `# made by hand
hotdesk-registry 1
token mondex.1 user=ann
token mondex.2 alias=mondex.1 note="lost \"twice\""
user ann groups=staff,sales
terminal 080020c0ffee name="Front desk" location="Hall 3"
policy closed order=10 token=mondex.* cards=registered
kiosk map command="xterm -e top" accounts=k1,k2
`

const canonical = `hotdesk-registry 1

# user: a person; fields: groups, disabled, note
user ann groups=staff,sales

# token: a card, or another token, that is registered; fields: user, alias, disabled, note
token mondex.1 user=ann
token mondex.2 alias=mondex.1 note="lost \"twice\""

# terminal: a terminal; fields: name, location, key, note
terminal 080020c0ffee name="Front desk" location="Hall 3"

# policy: a rule; of those that fit and say something of a matter the one of the lowest order decides it; fields: order, token, terminal, group, host, access, hours, hosts, cards, bare, terminal-keys, login-time, first, reattach, kiosk, choose, sessions, memory, processes, cpu-weight, idle, disconnected, removal, note
policy closed order=10 token=mondex.* cards=registered

# kiosk: what runs in a session without a login; fields: command, accounts, note
kiosk map command="xterm -e top" accounts=k1,k2
`

func TestText(t *testing.T) {
	records, err := ParseText([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(AppendText(nil, records)); got != canonical {
		t.Errorf("got\n%s\nwant\n%s", got, canonical)
	}
	slices.Reverse(records)
	if got := string(AppendText(nil, records)); got != canonical {
		t.Error("the order of records matters")
	}
	for _, c := range []struct{ text, want string }{
		{"", "empty"},
		{"token card.1", "line 1: a registry begins with"},
		{"hotdesk-registry 2", "later version"},
		{"hotdesk-registry 1\n\nshoe x", "line 3: there is no kind of record \"shoe\": it is user, token"},
		{"hotdesk-registry 1\ntoken", "KIND NAME"},
		{"hotdesk-registry 1\ntoken card", "KIND.ID"},
		{"hotdesk-registry 1\ntoken user.ann", "server alone"},
		{"hotdesk-registry 1\ntoken card.1 user", "FIELD=VALUE"},
		{"hotdesk-registry 1\ntoken card.1 colour=red", "no field \"colour\": it has user, alias"},
		{"hotdesk-registry 1\ntoken card.1 user=a user=b", "twice"},
		{"hotdesk-registry 1\ntoken card.1\ntoken card.1", "twice"},
		{"hotdesk-registry 1\ntoken card.1 note=\"x", "quotes"},
		{"hotdesk-registry 1\ntoken card.1 note=\"x\"y", "space"},
		{"hotdesk-registry 1\ntoken card.1 note=\"x\\ny\"", "cannot be printed"},
		{"hotdesk-registry 1\ntoken card.1 note=", "empty"},
		{"hotdesk-registry 1\ntoken card.1 disabled=no", "it is yes"},
		{"hotdesk-registry 1\ntoken card.1 alias=card.1", "itself"},
		{"hotdesk-registry 1\ntoken card.1 alias=card.2", "not registered"},
		{"hotdesk-registry 1\ntoken card.1 alias=card.2\ntoken card.2 alias=card.3\ntoken card.3", "name card.3"},
		{"hotdesk-registry 1\nuser -x", "login name"},
		{"hotdesk-registry 1\nterminal 1", "12 lower-case hex"},
		{"hotdesk-registry 1\npolicy p order=010", "0 to 9999"},
		{"hotdesk-registry 1\npolicy p token=*****", "at most four"},
		{"hotdesk-registry 1\npolicy p cards=some", "any, registered, self, none"},
		{"hotdesk-registry 1\nkiosk k", "command="},
		{"hotdesk-registry 1\ntoken card." + strings.Repeat("1", MaxName), "at most"},
		{"hotdesk-registry 1\ntoken card.1 note=\xff", "UTF-8"},
	} {
		_, err := ParseText([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(canonical))
	f.Add([]byte("hotdesk-registry 1\ntoken card.1 note=\"\\u00fc \\t\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, err := ParseText(text)
		if err != nil {
			if records != nil {
				t.Error("records with an error")
			}
			return
		}
		out := AppendText(nil, records)
		again, err := ParseText(out)
		if err != nil || !slices.EqualFunc(records, again, Record.Equal) {
			t.Errorf("%q became %q: %v", text, out, err)
		}
	})
}

func TestDiff(t *testing.T) {
	from, err := ParseText([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	to := slices.Clone(from)
	to = slices.DeleteFunc(to, func(r Record) bool { return r.Kind == KindKiosk })
	to[0] = Record{Kind: KindUser, Name: "ann", Fields: map[string]string{"groups": "staff"}}
	to = append(to, Record{Kind: KindUser, Name: "bob"})
	Sort(to)
	edits := Diff(from, to)
	if got := Apply(from, edits); len(edits) != 3 || !slices.EqualFunc(got, to, Record.Equal) {
		t.Errorf("%+v gives %+v", edits, got)
	}
	const want = "- user ann groups=staff,sales\n+ user ann groups=staff\n+ user bob\n- kiosk map command=\"xterm -e top\" accounts=k1,k2\n"
	if got := DiffText(from, to); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := Diff(from, from); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestFew(t *testing.T) {
	long := strings.Repeat("x", maxFew+1)
	for _, c := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"north"}, "north"},
		{[]string{"north", "s*"}, "north, s*"},
		{[]string{long}, long},
		{[]string{long, "south"}, long + " and 1 more"},
		{slices.Repeat([]string{strings.Repeat("h", 38)}, 64), strings.Repeat(strings.Repeat("h", 38)+", ", 2) + strings.Repeat("h", 38) + " and 61 more"},
	} {
		if got := Few(c.names); got != c.want {
			t.Errorf("%d names: %q, want %q", len(c.names), got, c.want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "x", true}, {"x", "x", true}, {"x", "xy", false}, {"x*", "xy", true}, {"*y", "xy", true}, {"*", "", true},
		{"a*b*c", "a-b-c", true}, {"a*b*c", "abc", true}, {"a*b*c", "acb", false}, {"ab*ba", "aba", false}, {"*a*", "bab", true}, {"*a*", "b", false},
	} {
		if got := Matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestTyped(t *testing.T) {
	records, err := ParseText([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	get := func(k Kind, n string) Record {
		r, ok := Find(records, k, n)
		if !ok {
			t.Fatal(k, n)
		}
		return r
	}
	if got := get(KindToken, "mondex.2").Token(); got.Alias != "mondex.1" || got.Disabled {
		t.Errorf("%+v", got)
	}
	if got := get(KindUser, "ann").User(); !slices.Equal(got.Groups, []string{"staff", "sales"}) {
		t.Errorf("%+v", got)
	}
	if got := get(KindPolicy, "closed").Policy(); got.Order != 10 || got.Says["cards"] != "registered" || got.Token != "mondex.*" {
		t.Errorf("%+v", got)
	}
	if got := get(KindTerminal, "080020c0ffee").Terminal(); got.Name != "Front desk" {
		t.Errorf("%+v", got)
	}
	if got := get(KindKiosk, "map").Kiosk(); got.Command != "xterm -e top" || len(got.Accounts) != 2 {
		t.Errorf("%+v", got)
	}
	if _, ok := Find(records, KindUser, "zoe"); ok {
		t.Error("zoe")
	}
}

const joinLine = "hotdesk-join-1 192.0.2.7:7444 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f AAECAwQFBgcICQoLDA0ODw 1800000000"

func TestJoin(t *testing.T) {
	j, err := ParseJoin(" " + joinLine + "\n")
	if err != nil || j.Addr.Port() != 7444 || j.Secret[15] != 15 || j.Expires.Unix() != 1800000000 {
		t.Fatalf("%+v, %v", j, err)
	}
	if got := string(j.AppendText(nil)); got != joinLine {
		t.Error(got)
	}
	if s := fmt.Sprintf("%v %+v %#v", j, j, j); strings.Contains(s, "0xf,") || strings.Contains(s, "15]") || strings.Count(s, "secret") != 3 {
		t.Errorf("the secret shows in %s", s)
	}
	words := strings.Fields(joinLine)
	for i := range words {
		for _, wrong := range []string{"", "x", words[i] + "0", strings.Repeat("1", 600)} {
			w := slices.Clone(words)
			w[i] = wrong
			if i == 4 && wrong == words[i]+"0" {
				continue // another time
			}
			if _, err := ParseJoin(strings.Join(w, " ")); err == nil || !strings.Contains(err.Error(), "setup invite") {
				t.Errorf("word %d %q: %v", i, wrong, err)
			}
		}
	}
}

func FuzzJoin(f *testing.F) {
	f.Add(joinLine)
	f.Add(strings.Replace(joinLine, "192.0.2.7", "[2001:db8::1]", 1))
	f.Fuzz(func(t *testing.T, line string) {
		j, err := ParseJoin(line)
		if err != nil {
			return
		}
		again, err := ParseJoin(string(j.AppendText(nil)))
		if err != nil || again != j {
			t.Errorf("%q became %+v, %v", line, again, err)
		}
	})
}
