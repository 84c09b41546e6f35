package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/server/proof"
)

// View is what the registry says, from this host's copy. It answers from memory.
type View interface {
	Token(alp.Token) (adminapi.Token, bool)
	User(name string) (adminapi.User, bool)
	Terminal(alp.TerminalID) (adminapi.Terminal, bool)
	Kiosk(name string) (adminapi.Kiosk, bool)
	// Policies are all rules, those of the lowest order first.
	Policies() []adminapi.Policy
}

// Cards says which cards get a session.
type Cards string

const (
	CardsAny        Cards = "any"        // every card; also the zero value
	CardsRegistered Cards = "registered" // those that have a record
	CardsSelf       Cards = "self"       // others are registered by their users, who log in
	CardsNone       Cards = "none"
)

// An about is a request with all that is known of it.
type about struct {
	Request
	c          Config
	as         alp.Token // whose sessions are meant
	owner      string
	user       string // who has logged in, or the owner
	groups     []string
	registered bool // the token has a record
	disabled   bool // it, or its user, is out of use
	said       map[string]adminapi.Ground
	access     []local.Access // of this host and the others, as the rules follow each other
	kiosk      func(string) (adminapi.Kiosk, bool)
}

// about looks up what the registry says of a request.
func (c Config) about(v View, r Request) *about {
	a := &about{Request: r, c: c, as: r.Token, said: map[string]adminapi.Ground{}}
	a.kiosk = func(string) (adminapi.Kiosk, bool) { return adminapi.Kiosk{}, false }
	if v != nil {
		a.lookUp(v)
	} else {
		a.user = r.User
	}
	a.defaults()
	return a
}

func (a *about) lookUp(v View) {
	a.kiosk = v.Kiosk
	for range 2 { // an alias is of a token that is none
		t, ok := v.Token(a.as)
		if !ok {
			break
		}
		a.registered = true
		a.disabled = a.disabled || t.Disabled
		if t.User != "" {
			a.owner = t.User
		}
		if t.Alias == "" {
			break
		}
		a.as = t.Alias
	}
	a.user = a.owner
	if a.User != "" {
		a.user = a.User
	}
	if a.user != "" {
		u, _ := v.User(a.user)
		a.disabled = a.disabled || u.Disabled
		a.groups = u.Groups
	}
	for _, p := range v.Policies() {
		if !adminapi.Matches(p.Token, string(a.Token)) || !adminapi.Matches(p.Terminal, string(a.Terminal)) ||
			p.Group != "" && !slices.Contains(a.groups, p.Group) {
			continue
		}
		if access := p.Says["access"]; access != "" {
			a.allow(cmp.Or(p.Host, "*"), access == "deny")
		}
		if !adminapi.Matches(p.Host, a.c.Host) {
			continue
		}
		for matter, value := range p.Says {
			if _, ok := a.said[matter]; !ok {
				a.said[matter] = adminapi.Ground{Matter: matter, Value: value, Rule: p.Name}
			}
		}
	}
}

// allow notes what a rule says of the hosts of a pattern, where none before it
// does. Of more than fit the host that is chosen judges.
func (a *about) allow(host string, deny bool) {
	known := func(x local.Access) bool { return x.Host == host || x.Host == "*" }
	if len(a.access) < local.MaxHosts && !slices.ContainsFunc(a.access, known) {
		a.access = append(a.access, local.Access{Host: host, Deny: deny})
	}
}

// someHost reports whether the rules leave any host that may be used.
func (a *about) someHost() bool {
	n := len(a.access)
	return n == 0 || a.access[n-1] != local.Access{Host: "*", Deny: true} || slices.ContainsFunc(a.access, func(x local.Access) bool { return !x.Deny })
}

// defaults fill in what no rule says.
func (a *about) defaults() {
	kind, _, _ := strings.Cut(string(a.Token), ".")
	need := func(use proof.Use) string {
		n := Need{Proof: proof.None, Login: kind != "pseudo" && a.c.Login.needs(kind)}
		if a.c.Proof != nil && kind != "pseudo" {
			n.Proof = a.c.Proof(a.Token, use)
		}
		return n.String()
	}
	bare := a.c.Bare
	switch {
	case a.c.Login.needs("pseudo"):
		bare = bareLogin
	case bare != BareSession:
		bare = BareCard
	}
	cards := a.c.Cards
	if cards == "" {
		cards = CardsAny
	}
	removal, disconnected := "detach", "never"
	if a.kioskName() != "" { // the next one begins clean
		removal, disconnected = "end", "5m"
	}
	for matter, value := range map[string]string{
		"access": "allow", "cards": string(cards), "bare": string(bare), "first": need(proof.First), "reattach": need(proof.Reattach),
		"terminal-keys": string(KeysHost), "choose": "no", "idle": "never", "disconnected": disconnected, "removal": removal,
	} {
		if _, ok := a.said[matter]; !ok {
			a.said[matter] = adminapi.Ground{Matter: matter, Value: value}
		}
	}
}

func (a *about) value(matter string) string { return a.said[matter].Value }

// kioskName is the kiosk that the rules want, "" for none: a rule may say so
// before another says which.
func (a *about) kioskName() string {
	if name := a.value("kiosk"); name != "no" {
		return name
	}
	return ""
}

// by names a check and the rule that decided the matter.
func (a *about) by(check, matter string) string {
	if rule := a.said[matter].Rule; rule != "" {
		return check + ":" + rule
	}
	return check
}

// open reports whether the time is one of those that the rules allow.
func (a *about) open() bool {
	hours := a.value("hours")
	if hours == "" {
		return true
	}
	spans, err := adminapi.ParseHours(hours)
	return err == nil && adminapi.Within(spans, a.Now)
}

// first reports whether a login is needed for a new session.
func (a *about) first() bool { return needOf(a.value("first")).Login }

// needOf reads what a rule needs. A value of a later version needs all that
// there is.
func needOf(s string) Need {
	kind, login, _ := strings.Cut(s, ",")
	switch {
	case s == "login":
		return Need{Proof: proof.None, Login: true}
	case slices.Contains(proof.Kinds, proof.Kind(kind)) && (login == "" || login == "login"):
		return Need{Proof: proof.Kind(kind), Login: login != ""}
	}
	return Need{Proof: proof.PIV, Login: true}
}

// settle takes over what the rules say beside the outcome.
func (a *about) settle() Decision {
	d := Decision{Token: a.as, User: a.user, Owner: a.owner, Groups: a.groups, Choose: a.value("choose") == "yes"}
	d.Keys = Keys(a.value("terminal-keys"))
	d.First, d.Reattach = needOf(a.value("first")), needOf(a.value("reattach"))
	if strings.HasPrefix(string(a.Token), "pseudo.") { // there is no card to prove anything
		d.First.Proof, d.Reattach.Proof = proof.None, proof.None
	}
	if name := a.kioskName(); name != "" {
		if k, ok := a.kiosk(name); ok {
			d.Kiosk = &k
			d.First.Login, d.Reattach.Login = false, false // nobody's session, and nobody's password
		}
	}
	if slices.ContainsFunc(a.access, func(x local.Access) bool { return x.Deny }) {
		d.Access = a.access
	}
	if hosts := a.value("hosts"); hosts != "" {
		d.Hosts = strings.Split(hosts, ",")
		d.Hosts = d.Hosts[:min(len(d.Hosts), local.MaxHosts)] // more are of a later version
		if !slices.ContainsFunc(d.Hosts, func(h string) bool { return adminapi.Matches(h, a.c.Host) }) {
			d.NotHere = fmt.Sprintf("You may have a session on %s, and not on this server.", adminapi.Few(d.Hosts))
		}
	}
	d.Most, _ = strconv.Atoi(a.value("sessions")) // 0 where no rule says anything
	memory, _ := strconv.Atoi(a.value("memory"))  // 0 where it is the host that says it
	d.Limits.Memory = int64(memory) << 20
	d.Limits.Processes, _ = strconv.Atoi(a.value("processes"))
	d.Limits.CPUWeight, _ = strconv.Atoi(a.value("cpu-weight"))
	d.LoginWithin, _ = adminapi.ParseTime(a.value("login-time"))
	d.Disconnected, _ = adminapi.ParseTime(a.value("disconnected"))
	if word, after, ok := strings.Cut(a.value("idle"), ":"); ok {
		d.Idle.After, _ = adminapi.ParseTime(after)
		d.Idle.Detach, d.Idle.End = word == "detach", word == "end"
		d.Idle.Lock = !d.Idle.Detach && !d.Idle.End // what a later version says too
		if d.Idle.Lock && d.Kiosk != nil {          // nobody could unlock it
			d.Idle.Lock, d.Idle.End = false, true
		}
	}
	switch word, after, _ := strings.Cut(a.value("removal"), ":"); word {
	case "lock": // of a kiosk: nobody could unlock it
		d.Removal.Lock, d.Removal.End = d.Kiosk == nil, d.Kiosk != nil
	case "end":
		d.Removal.End = true
		d.Removal.After, _ = adminapi.ParseTime(after) // none: at once
	}
	for _, m := range adminapi.Matters {
		if g, ok := a.said[m.Name]; ok {
			d.Grounds = append(d.Grounds, g)
		}
	}
	return d
}

// Explain is a decision as an admin reads it.
func (d Decision) Explain(r Request) adminapi.Explanation {
	return adminapi.Explanation{
		Token: d.Token, Terminal: r.Terminal, User: d.User, Groups: d.Groups,
		Outcome: d.Outcome.String(), Decided: d.Module, Reason: d.Reason, Grounds: d.Grounds,
	}
}
