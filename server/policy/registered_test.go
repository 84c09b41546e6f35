package policy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/proof"
)

var update = flag.Bool("update", false, "write POLICY.md anew")

// office are the records that the table's rules are added to.
const office = `hotdesk-registry 1
user ann groups=staff
user ben groups=students
user eve disabled=yes
token card.1 user=ann
token card.2 alias=card.1
token card.3 disabled=yes
token card.4 user=eve
token card.5 alias=card.3
token pseudo.0800200000dd disabled=yes
kiosk web command="firefox --kiosk" accounts=kiosk1,kiosk2
`

// A line of the table: rules, who comes, and what they get.
type line struct {
	part     string // begins a part of the page
	what     string
	rules    string // "" for the ones of the line before
	token    alp.Token
	terminal alp.TerminalID // "": 080020000001
	user     string         // who has logged in
	at       string         // weekday and time of the day
	conf     Config

	want string // outcome
	by   string
	also string // what is said beside
}

const unit = alp.TerminalID("080020000001")

var none = "-"

var table = []line{
	{part: "Which cards", what: "Where no rule says anything, every card gets a session", rules: none, token: "card.9", want: "session", by: "Card"},
	{what: "and a terminal without a card asks for one", token: "pseudo.080020000001", want: "insert card", by: "InsertCard"},
	{what: "Registered cards only: one that is", rules: "closed cards=registered", token: "card.1", want: "session", by: "Card:closed", also: "user ann"},
	{what: "one that is not", token: "card.9", want: "denied", by: "Registered:closed"},
	{what: "an alias opens the other's sessions", token: "card.2", want: "session", by: "Card:closed", also: "as card.1 user ann"},
	{what: "a disabled card", token: "card.3", want: "denied", by: "Disabled"},
	{what: "a card of a disabled user", token: "card.4", want: "denied", by: "Disabled", also: "user eve"},
	{what: "an alias of a disabled card", token: "card.5", want: "denied", by: "Disabled"},
	{what: "No cards at all", rules: "bare-only cards=none", token: "card.1", want: "denied", by: "Cards:bare-only", also: "user ann"},
	{what: "One kind of card in a closed house", rules: "a token=guest.* cards=any\nb cards=registered", token: "guest.7", want: "session", by: "Card:a"},
	{what: "another kind", token: "card.9", want: "denied", by: "Registered:b"},

	{part: "Self-registration", what: "A card that nobody knows: its user logs in", rules: "own cards=self", token: "card.9", want: "login", by: "Self:own"},
	{what: "and has bound it then", token: "card.9", user: "ben", want: "session", by: "Card:own", also: "user ben enroll"},
	{what: "From then on it needs no login", token: "card.1", want: "session", by: "Card:own", also: "user ann"},
	{what: "unless a rule asks for one", rules: "own cards=self first=login reattach=login", token: "card.1", want: "login", by: "Login:own", also: "user ann first login reattach login"},
	{what: "Another's card", token: "card.1", user: "ben", want: "denied", by: "Owner", also: "user ben first login reattach login"},
	{what: "A disabled user binds no card", rules: "own cards=self", token: "card.9", user: "eve", want: "denied", by: "Disabled", also: "user eve"},

	{part: "Terminals without a card", what: "A session of the terminal's own", rules: "free bare=session", token: "pseudo.080020000001", want: "session", by: "Pseudo:free"},
	{what: "in one room only", rules: "room terminal=0800200000* bare=session", token: "pseudo.080020000099", terminal: "080020000099", want: "session", by: "Pseudo:room"},
	{what: "and not in another", token: "pseudo.080020010001", terminal: "080020010001", want: "insert card", by: "InsertCard"},
	{what: "Login without a card: the session is the user's", rules: "nscm bare=login", token: "pseudo.080020000001", want: "login", by: "Login:nscm"},
	{what: "who has logged in", token: "pseudo.080020000001", user: "ann", want: "session", by: "Pseudo:nscm", also: "user ann"},
	{what: "A terminal out of service", token: "pseudo.0800200000dd", terminal: "0800200000dd", want: "denied", by: "Disabled"},
	{what: "Another terminal's name", token: "pseudo.080020000002", want: "denied", by: "Pseudo"},
	{what: "The flag -login bare, where no rule says anything", rules: none, conf: Config{Login: LoginBare}, token: "pseudo.080020000001", want: "login", by: "Login"},
	{what: "and a rule against it", rules: "free bare=session", conf: Config{Login: LoginBare}, token: "pseudo.080020000001", want: "session", by: "Pseudo:free"},

	{part: "Who may use what", what: "One group at these terminals", rules: "a group=staff access=allow\nb terminal=080020* access=deny", token: "card.1", want: "session", by: "Card", also: "user ann"},
	{what: "and no other", token: "card.9", want: "denied", by: "Access:b"},
	{what: "A user who logs in is of a group too", rules: "a bare=login\nb group=students access=deny", token: "pseudo.080020000001", user: "ben", want: "denied", by: "Access:b", also: "user ben"},
	{what: "On this host sessions for staff only", rules: "a group=staff hosts=*\nb hosts=south", token: "card.1", want: "session", by: "Card", also: "user ann hosts *"},
	{what: "Others get a new one on another host, and have what is theirs wherever it is", token: "card.9", want: "session", by: "Card", also: "hosts south not here"},
	{what: "A rule for this host: there are others", rules: "a host=nor* access=deny", token: "card.9", want: "elsewhere", by: "Access:a", also: "not here there session"},
	{what: "before a login", token: "pseudo.080020000001", conf: Config{Login: LoginBare}, want: "elsewhere", by: "Access:a", also: "not here there login"},
	{what: "and without a card", token: "pseudo.080020000001", want: "elsewhere", by: "Access:a", also: "not here there insert card"},
	{what: "One host for a group, and none for others", rules: "a group=staff host=south access=allow\nb access=deny", token: "card.1", want: "elsewhere", by: "Access:b", also: "user ann not here there session"},
	{what: "who have none", token: "card.9", want: "denied", by: "Access:b"},
	{what: "Other reasons come first", rules: "a host=nor* access=deny\nb cards=none", token: "card.9", want: "denied", by: "Cards:b"},
	{what: "for another one", rules: "a host=sou* access=deny", token: "card.9", want: "session", by: "Card"},

	{part: "Hours", what: "Within them", rules: "day hours=mon-fri/08:00-18:00,sat/09:00-12:00", token: "card.9", at: "wed 17:59", want: "session", by: "Card"},
	{what: "over", token: "card.9", at: "wed 18:00", want: "denied", by: "Hours:day"},
	{what: "on another day", token: "card.9", at: "sat 12:00", want: "denied", by: "Hours:day"},
	{what: "Past midnight", rules: "night hours=fri/22:00-06:00", token: "card.9", at: "sat 05:59", want: "session", by: "Card"},
	{what: "but not before", token: "card.9", at: "fri 05:59", want: "denied", by: "Hours:night"},
	{what: "One group at any hour", rules: "a group=staff hours=mon-sun/00:00-24:00\nb hours=mon/08:00-18:00", token: "card.1", at: "sun 03:00", want: "session", by: "Card", also: "user ann"},

	{part: "Proof", what: "A PIN for a new session, none to see it again", rules: "pin token=piv.* first=pin", token: "piv.01", want: "session", by: "Card", also: "first pin"},
	{what: "Hot-desk authentication: nothing at first, the user's password at every re-attach", rules: "rha reattach=login", token: "card.1", want: "session", by: "Card", also: "user ann reattach login"},
	{what: "Card and password", rules: "both first=piv,login reattach=piv-card,login", token: "piv.01", want: "login", by: "Login:both", also: "first piv,login reattach piv-card,login"},
	{what: "The flag -login card", rules: none, conf: Config{Login: LoginCard}, token: "card.9", want: "login", by: "Login", also: "first login reattach login"},
	{what: "and a group that need not", rules: "a group=staff first=none reattach=none", conf: Config{Login: LoginCard}, token: "card.1", want: "session", by: "Card", also: "user ann"},
	{what: "The flag -proof-rules", rules: none, conf: Config{Proof: func(alp.Token, proof.Use) proof.Kind { return proof.PIN }}, token: "piv.01", want: "session", by: "Card", also: "first pin reattach pin"},
	{what: "A terminal has no card to ask", rules: "a bare=session\nb first=pin reattach=pin", token: "pseudo.080020000001", want: "session", by: "Pseudo:a"},

	{part: "Terminals", what: "Its key is registered when its first session is shown", rules: "lobby terminal=080020* terminal-keys=pin", token: "pseudo.080020000001", want: "insert card", by: "InsertCard", also: "terminal-keys pin"},
	{what: "of those elsewhere each host remembers it", token: "pseudo.0a0020000001", terminal: "0a0020000001", want: "insert card", by: "InsertCard"},
	{what: "Registered keys only, but for one room", rules: "a terminal=0800200000* terminal-keys=none\nb terminal-keys=registered", token: "pseudo.080020000001", want: "insert card", by: "InsertCard", also: "terminal-keys none"},
	{what: "A login screen gives way when nobody comes for so long", rules: "hall terminal=080020* login-time=30s", token: "card.9", want: "session", by: "Card", also: "login-time 30s"},

	{part: "Kiosks", what: "A terminal without a card runs a kiosk", rules: "hall terminal=080020* bare=session kiosk=web", token: "pseudo.080020000001", want: "session", by: "Pseudo:hall", also: "kiosk web disconnected 5m0s removal end"},
	{what: "that is not there", rules: "hall bare=session kiosk=nosuch", token: "pseudo.080020000001", want: "denied", by: "Kiosk:hall", also: "disconnected 5m0s removal end"},
	{what: "A visitor's card runs one, for a while after its removal", rules: "v token=visitor.* kiosk=web removal=end:1m", token: "visitor.1", want: "session", by: "Card", also: "kiosk web disconnected 5m0s removal end 1m0s"},
	{what: "Nobody logs in to one", rules: "hall terminal=080020* bare=login first=login kiosk=web", token: "pseudo.080020000001", want: "session", by: "Pseudo:hall", also: "kiosk web disconnected 5m0s removal end"},
	{what: "and nobody could unlock it", rules: "v token=visitor.* kiosk=web removal=lock reattach=login", token: "visitor.1", want: "session", by: "Card", also: "kiosk web disconnected 5m0s removal end"},
	{what: "not either when nobody types", rules: "v token=visitor.* kiosk=web idle=lock:10m", token: "visitor.1", want: "session", by: "Card", also: "kiosk web disconnected 5m0s idle end 10m0s removal end"},
	{what: "The screen that asks for a card stays", rules: "v kiosk=web", token: "pseudo.080020000001", want: "insert card", by: "InsertCard", also: "kiosk web disconnected 5m0s removal end"},
	{what: "A kiosk for all but one group", rules: "a group=staff kiosk=no\nb kiosk=web", token: "card.1", want: "session", by: "Card", also: "user ann"},
	{what: "One that only some hosts run", rules: "v token=visitor.* kiosk=web hosts=south", token: "visitor.1", want: "session", by: "Card", also: "hosts south not here kiosk web disconnected 5m0s removal end"},

	{part: "Sessions", what: "Several, on any hosts, one chosen at card-in", rules: "many choose=yes sessions=3", token: "card.1", want: "session", by: "Card", also: "user ann choose most 3"},
	{what: "Ended when shown nowhere for so long", rules: "times disconnected=8h", token: "card.9", want: "session", by: "Card", also: "disconnected 8h0m0s"},
	{what: "never, for one group", rules: "a group=staff disconnected=never\nb disconnected=8h", token: "card.1", want: "session", by: "Card", also: "user ann"},
	{what: "Locked when nobody has typed for so long", rules: "times idle=lock:10m", token: "card.9", want: "session", by: "Card", also: "idle lock 10m0s"},
	{what: "Taken off the screen then", rules: "times idle=detach:90s", token: "card.9", want: "session", by: "Card", also: "idle detach 1m30s"},
	{what: "Ended then, but not for one group", rules: "a group=staff idle=never\nb idle=end:1h", token: "card.9", want: "session", by: "Card", also: "idle end 1h0m0s"},
	{what: "which is this one", token: "card.1", want: "session", by: "Card", also: "user ann"},
	{what: "Locked by the card's removal", rules: "a removal=lock", token: "card.9", want: "session", by: "Card", also: "removal lock"},
	{what: "Ended by it", rules: "a removal=end", token: "card.9", want: "session", by: "Card", also: "removal end"},

	{part: "What sessions may use", what: "Memory, processes and share of the processors, by group", rules: "a group=staff memory=host processes=host cpu-weight=200\nb memory=2048 processes=500", token: "card.9", want: "session", by: "Card", also: "memory 2048 MiB processes 500"},
	{what: "as the host's flags say, and more of the processors", token: "card.1", want: "session", by: "Card", also: "user ann cpu-weight 200"},
	{what: "A user who logs in has the limits of the user's groups", rules: "nscm bare=login\ns group=students memory=512", token: "pseudo.080020000001", user: "ben", want: "session", by: "Pseudo:nscm", also: "user ben memory 512 MiB"},

	{part: "What no rule allows", what: "Names that the server makes itself", rules: "all cards=any bare=session access=allow", token: "user.root", want: "denied", by: "Token"},
	{what: "", token: "auth.x", want: "denied", by: "Token"},
	{what: "", token: "escape.x", want: "denied", by: "Token"},
	{what: "A card that cannot be read", token: "card.0000000000000000", want: "denied", by: "Token"},
	{what: "No name", token: "card.a b", want: "denied", by: "Token"},
	{what: "", token: alp.Token("card." + strings.Repeat("1", alp.MaxToken)), want: "denied", by: "Token"},
	{what: "No terminal", token: "card.1", terminal: "x", want: "denied", by: "Token", also: "user ann"},
}

// also is what a decision says beside its outcome.
func also(d Decision, presented alp.Token) string {
	var s []string
	say := func(on bool, format string, a ...any) {
		if on {
			s = append(s, fmt.Sprintf(format, a...))
		}
	}
	say(d.Token != presented && d.Outcome != Denied, "as %s", d.Token)
	say(d.User != "", "user %s", d.User)
	say(d.Enroll, "enroll")
	say(d.Hosts != nil, "hosts %s", strings.Join(d.Hosts, ","))
	say(d.NotHere != "", "not here")
	say(d.There != 0, "there %s", d.There)
	say(d.Keys != KeysHost, "terminal-keys %s", d.Keys)
	say(d.First.String() != "none", "first %s", d.First)
	say(d.Reattach.String() != "none", "reattach %s", d.Reattach)
	say(d.Kiosk != nil, "kiosk %s", func() string {
		if d.Kiosk == nil {
			return ""
		}
		return d.Kiosk.Name
	}())
	say(d.Choose, "choose")
	say(d.Most > 0, "most %d", d.Most)
	say(d.Limits.Memory > 0, "memory %d MiB", d.Limits.Memory>>20)
	say(d.Limits.Processes > 0, "processes %d", d.Limits.Processes)
	say(d.Limits.CPUWeight > 0, "cpu-weight %d", d.Limits.CPUWeight)
	say(d.LoginWithin > 0, "login-time %v", d.LoginWithin)
	say(d.Disconnected > 0, "disconnected %v", d.Disconnected)
	say(d.Idle.Lock, "idle lock %v", d.Idle.After)
	say(d.Idle.Detach, "idle detach %v", d.Idle.After)
	say(d.Idle.End, "idle end %v", d.Idle.After)
	say(d.Removal.Lock, "removal lock")
	say(d.Removal.End && d.Removal.After == 0, "removal end")
	say(d.Removal.After > 0, "removal end %v", d.Removal.After)
	return strings.Join(s, " ")
}

// moment is a time of one week, "wed 17:59".
func moment(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		s = "wed 12:00"
	}
	day, at, _ := strings.Cut(s, " ")
	hm, err := time.Parse("15:04", at)
	if err != nil {
		t.Fatal(err)
	}
	sunday := time.Date(2026, 3, 1, hm.Hour(), hm.Minute(), 0, 0, time.UTC)
	return sunday.AddDate(0, 0, strings.Index("sun mon tue wed thu fri sat", day)/4)
}

const head = `# Policy, by example

Made from the table of ` + "`registered_test.go`" + ` by ` + "`go test ./server/policy -update`" + `; each line is a test.
What the matters of a rule are says ` + "`hotdesk help`" + ` (policy add). Of the rules that fit, the one of the lowest order
decides a matter. ` + "`hotdesk policy explain TOKEN TERMINAL`" + ` says the same of a running system.

The registry of the examples, besides the rules, on the host north:

`

// The table, each line a test, and the page that is made of it.
func TestTable(t *testing.T) {
	var page bytes.Buffer
	page.WriteString(head)
	for l := range strings.Lines(office) {
		if !strings.HasPrefix(l, "hotdesk-registry") {
			page.WriteString("    " + l)
		}
	}
	var rules string
	for _, c := range table {
		if c.rules != "" {
			rules = c.rules
		}
		if c.terminal == "" {
			c.terminal = unit
		}
		var text strings.Builder
		text.WriteString(office)
		if rules != none {
			for r := range strings.SplitSeq(rules, "\n") {
				text.WriteString("policy " + r + "\n")
			}
		}
		all, err := adminapi.ParseText([]byte(text.String()))
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		c.conf.Host = "north"
		r := Request{Token: c.token, Terminal: c.terminal, User: c.user, Now: moment(t, c.at)}
		d := c.conf.Decide(records(all), r)
		if got := also(d, c.token); d.Outcome.String() != c.want || d.Module != c.by || got != c.also {
			t.Errorf("%s (%s): %v by %s: %q, want %s by %s: %q", c.what, c.token, d.Outcome, d.Module, got, c.want, c.by, c.also)
		}
		if x := d.Explain(r); x.Outcome != c.want || x.Decided != c.by || len(x.Grounds) < 8 {
			t.Errorf("%s: explained as %+v", c.what, x)
		}
		if c.part != "" {
			fmt.Fprintf(&page, "\n## %s\n\n| rules | who comes | gets | decided by | and |\n|---|---|---|---|---|\n", c.part)
		}
		shown := ""
		if c.rules != "" && c.rules != none {
			shown = "`" + strings.ReplaceAll(c.rules, "\n", "`, `") + "`"
		}
		who := string(c.token)
		if len(who) > 40 {
			who = who[:20] + "..."
		}
		if c.terminal != unit {
			who += " at " + string(c.terminal)
		}
		if c.user != "" {
			who += ", " + c.user + " logged in"
		}
		if c.at != "" {
			who += ", " + c.at
		}
		if c.what != "" {
			who = c.what + ": " + who
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", shown, who, c.want, c.by, c.also)
	}
	if *update {
		if err := os.WriteFile("POLICY.md", page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, _ := os.ReadFile("POLICY.md"); !bytes.Equal(old, page.Bytes()) {
		t.Error("POLICY.md is not what the table says: run go test ./server/policy -update and look at the difference")
	}
}

func TestNeedOfALaterVersion(t *testing.T) {
	if n := needOf("face"); !n.Login || n.Proof != proof.PIV {
		t.Errorf("%+v", n)
	}
	if d := (Config{}).Decide(nil, Request{Token: "card.1", Terminal: unit}); d.Outcome != Session || d.Token != "card.1" {
		t.Errorf("without a registry: %+v", d)
	}
}
