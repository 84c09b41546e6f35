package adminapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotdesk/protocol/alp"
)

// conditions are the fields of a rule that say whom it is for.
var conditions = []Field{
	{"order", "0 to 9999, 5000 if not given", order},
	{"token", "which tokens: a name, * for any bytes in it, as piv.*", pattern},
	{"terminal", "which terminals: an id, * for any bytes in it", pattern},
	{"group", "users of which group: those who have logged in, or whose card it is", word},
	{"host", "on which hosts: a name, * for any bytes in it", pattern},
}

// Matters are what rules decide. package policy of the server says what each
// does, and what is done where no rule says anything.
var Matters = []Field{
	{"access", "deny: no session, neither an old one nor a new one; with host=, on these hosts: others are gone to; allow", oneOf("allow", "deny")},
	{"hours", "when, by the host's clock: DAYS/HH:MM-HH:MM,... as mon-fri/08:00-18:00,sat/09:00-12:00", checkHours},
	{"hosts", "which hosts may give a new session: NAME,NAME, with * for any bytes; one that exists is shown wherever it is", list(pattern)},
	{"cards", "any: every card gets a session; registered: cards with a record; self: others too, once their user has logged in, which registers them; none: no card does", oneOf("any", "registered", "self", "none")},
	{"bare", "what a terminal without a card gets: session; card, the screen that asks for one; login, the login screen", oneOf("session", "card", "login")},
	{"terminal-keys", "how a terminal proves that it is the one of its id: none, its word is taken for it, unless the registry has its key; host, whoever showed a key there first, until the server program is restarted; pin, the same for the whole group and for good, its key being registered when its first session is shown; registered, terminals whose key is in the registry alone", oneOf("none", "host", "pin", "registered")},
	{"login-time", "how long a login waits for its user: a question for its answer and, where a card has brought it, the login screen; 10s to 1h", checkLoginTime},
	{"first", "what is to be proven before a session is made: none, or login, pin, piv-card, piv, simple, or one of the last four and login: pin,login", checkNeed},
	{"reattach", "the same, before a session is shown again", checkNeed},
	{"kiosk", "the kiosk whose command is the session; no: none", word},
	{"choose", "yes: who has several sessions, on whichever hosts, chooses one at card-in, and by hot key; no: the latest is shown", oneOf("yes", "no")},
	{"sessions", "how many sessions a user, or a card that is nobody's, may have on this host: 1 to 64", number(1, MaxUserSessions)},
	{"memory", fmt.Sprintf("most memory of a session's programs, in MiB, %d to %d, never beyond the host's -session-memory; host: as that says", MinMemory, MaxMemory), amount(MinMemory, MaxMemory)},
	{"processes", fmt.Sprintf("most processes and threads of a session, %d to %d, never beyond the host's -session-processes; host: as that says", MinProcesses, MaxProcesses), amount(MinProcesses, MaxProcesses)},
	{"cpu-weight", fmt.Sprintf("a session's share when the processors are busy, 1 to %d, 100 is everybody's, never beyond the host's -session-cpu-weight; host: as that says", MaxCPUWeight), amount(1, MaxCPUWeight)},
	{"idle", "what becomes of a session that is shown while nobody types: lock:TIME, and its user logs in to see it again; detach:TIME, off the screen; end:TIME; never", checkIdle},
	{"disconnected", "time after which a session that is shown nowhere ends, as 8h; never", checkTime},
	{"removal", "what becomes of a session whose card is pulled: detach; lock, and its user logs in to see it again; end; end:TIME, that time after", checkRemoval},
}

// Bounds of times in rules.
const (
	MinTime = time.Second
	MaxTime = 366 * 24 * time.Hour
	// MaxUserSessions bounds what a rule may allow.
	MaxUserSessions = 64
)

// Bounds of what a session may use: with less no desktop starts.
const (
	MinMemory    = 64 // MiB
	MaxMemory    = 1 << 24
	MinProcesses = 32
	MaxProcesses = 1 << 22 // the kernel's own (proc(5): pid_max)
	MaxCPUWeight = 10000
)

// ParseTime reads a time of a rule; zero stands for never.
func ParseTime(s string) (time.Duration, error) {
	if s == "never" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < MinTime || d > MaxTime {
		return 0, fmt.Errorf("a time as 90s, 15m or 8h, or never")
	}
	return d, nil
}

func checkTime(s string) error { _, err := ParseTime(s); return err }

// Bounds of login-time: a password takes a while to be typed.
const (
	MinLoginTime = 10 * time.Second
	MaxLoginTime = time.Hour
)

func checkLoginTime(s string) error {
	if d, err := ParseTime(s); err != nil || d < MinLoginTime || d > MaxLoginTime {
		return fmt.Errorf("a time from %v to %v, as 45s", MinLoginTime, MaxLoginTime)
	}
	return nil
}

func checkIdle(s string) error {
	word, after, ok := strings.Cut(s, ":")
	if s == "never" {
		return nil
	}
	if !ok || oneOf("lock", "detach", "end")(word) != nil || after == "never" {
		return fmt.Errorf("it is never, or lock, detach or end with a time, as lock:10m")
	}
	return checkTime(after)
}

func checkRemoval(s string) error {
	if after, ok := strings.CutPrefix(s, "end:"); ok {
		return checkTime(after)
	}
	return oneOf("detach", "lock", "end", "end:TIME")(s)
}

// number accepts those of a range, as they are written without need.
func number(least, most int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most || strconv.Itoa(n) != s {
			return fmt.Errorf("a number from %d to %d", least, most)
		}
		return nil
	}
}

// amount accepts what a session may use, and that the host is to say it.
func amount(least, most int) func(string) error {
	within := number(least, most)
	return func(s string) error {
		if s == "host" {
			return nil
		}
		if err := within(s); err != nil {
			return fmt.Errorf("%w, or host", err)
		}
		return nil
	}
}

func checkNeed(s string) error {
	proof, login, both := strings.Cut(s, ",")
	card := oneOf("pin", "piv-card", "piv", "simple")
	switch {
	case !both && (s == "none" || s == "login" || card(s) == nil), both && card(proof) == nil && login == "login":
		return nil
	}
	return fmt.Errorf("it is none, login, pin, piv-card, piv or simple, or one of the last four and login, as pin,login")
}

// A Span is a part of the week.
type Span struct {
	Days     [7]bool // by time.Weekday
	From, To int     // minutes of the day; To is not in it
}

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseHours reads the hours of a rule. A span that ends before it begins goes
// on past midnight, and its days are those on which it begins.
func ParseHours(s string) ([]Span, error) {
	bad := fmt.Errorf("hours are DAYS/HH:MM-HH:MM,... with days %s, as mon-fri/08:00-18:00,sat/09:00-12:00", strings.Join(days, " "))
	var all []Span
	for part := range strings.SplitSeq(s, ",") {
		if len(all) == MaxList {
			return nil, fmt.Errorf("%d parts; at most %d", len(all)+1, MaxList)
		}
		on, at, ok := strings.Cut(part, "/")
		first, last, ranged := strings.Cut(on, "-")
		if !ranged {
			last = first
		}
		from, to, ok2 := strings.Cut(at, "-")
		d, e := slices.Index(days, first), slices.Index(days, last)
		x, err1 := time.Parse("15:04", from)
		y, err2 := time.Parse("15:04", strings.Replace(to, "24:00", "00:00", 1))
		if !ok || !ok2 || d < 0 || e < 0 || err1 != nil || err2 != nil || len(from) != 5 || len(to) != 5 {
			return nil, bad
		}
		p := Span{From: x.Hour()*60 + x.Minute(), To: y.Hour()*60 + y.Minute()}
		for ; ; d = (d + 1) % 7 {
			p.Days[d] = true
			if d == e {
				break
			}
		}
		all = append(all, p)
	}
	return all, nil
}

func checkHours(s string) error { _, err := ParseHours(s); return err }

// Within reports whether a moment is in one of the spans, by its own clock.
func Within(spans []Span, now time.Time) bool {
	at := now.Hour()*60 + now.Minute()
	today, yesterday := now.Weekday(), (now.Weekday()+6)%7
	return slices.ContainsFunc(spans, func(p Span) bool {
		if p.From < p.To {
			return p.Days[today] && p.From <= at && at < p.To
		}
		return p.Days[today] && p.From <= at || p.Days[yesterday] && at < p.To
	})
}

// A Ground is one matter of an explanation: what was decided, and by which
// rule, "" where none says anything of it.
type Ground struct {
	Matter string `json:"matter"`
	Value  string `json:"value"`
	Rule   string `json:"rule,omitempty"`
}

// Explanation is what would happen if a token came to a terminal now.
type Explanation struct {
	Token    alp.Token      `json:"token"` // whose sessions are meant
	Terminal alp.TerminalID `json:"terminal"`
	User     string         `json:"user,omitempty"` // whose it is, or who was assumed to have logged in
	Groups   []string       `json:"groups,omitempty"`
	Outcome  string         `json:"outcome"`
	Decided  string         `json:"decided"` // by which check, and rule
	Reason   string         `json:"reason,omitempty"`
	Place    string         `json:"place,omitempty"` // the host that a new session would be made on, where that is known
	Grounds  []Ground       `json:"grounds"`
}
