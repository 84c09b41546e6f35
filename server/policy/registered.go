package policy

import (
	"slices"
	"strings"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
)

// View is what the registry says, from this host's copy. It answers from memory.
type View interface {
	Token(alp.Token) (adminapi.Token, bool)
	User(name string) (adminapi.User, bool)
	Terminal(alp.TerminalID) (adminapi.Terminal, bool)
	// Policies are all rules, those of the lowest order first.
	Policies() []adminapi.Policy
}

// Cards says which cards get a session.
type Cards string

const (
	CardsAny        Cards = "any"        // every card; also the zero value
	CardsRegistered Cards = "registered" // those that have a record
	CardsNone       Cards = "none"
)

// With returns the policy and the request of a token at a terminal, with what
// the registry says of both. v may be nil: nothing is registered then. The
// token of the request is the one whose sessions are meant, which is another
// where the one that was presented is its alias.
//
// Of the rules that fit and say something of a matter, the one of the lowest
// order decides that matter; where none does, c does.
func (c Config) With(v View, token alp.Token, terminal alp.TerminalID) (Config, Request) {
	r := Request{Token: token, Terminal: terminal}
	if v == nil {
		return c, r
	}
	var user string
	for range 2 { // an alias is of a token that is none
		t, ok := v.Token(r.Token)
		if !ok {
			break
		}
		r.Registered = true
		r.Disabled = r.Disabled || t.Disabled
		if t.User != "" {
			user = t.User
		}
		if t.Alias == "" {
			break
		}
		r.Token = t.Alias
	}
	var groups []string
	if user != "" {
		u, _ := v.User(user)
		r.Disabled = r.Disabled || u.Disabled
		groups = u.Groups
	}
	bare := Bare("")
	cards := Cards("")
	for _, p := range v.Policies() {
		if !adminapi.Matches(p.Token, string(token)) || !adminapi.Matches(p.Terminal, string(terminal)) || p.Group != "" && !slices.Contains(groups, p.Group) {
			continue
		}
		if bare == "" {
			bare = Bare(p.Bare)
		}
		if cards == "" {
			if cards = Cards(p.Cards); cards != "" {
				r.Rule = p.Name
			}
		}
	}
	if bare != "" {
		c.Bare = bare
	}
	if cards != "" {
		c.Cards = cards
	}
	return c, r
}

// admit is what the registry has against a token, if anything.
func (c Config) admit(r Request) (Decision, bool) {
	pseudo := strings.HasPrefix(string(r.Token), "pseudo.")
	switch {
	case r.Disabled && pseudo:
		return denied("Disabled", "This terminal has been taken out of service. Ask your administrator."), true
	case r.Disabled:
		return denied("Disabled", "This card has been disabled. Ask your administrator."), true
	case !pseudo && c.Cards == CardsNone:
		return denied(module("Cards", r.Rule), "Cards are not taken here."), true
	case !pseudo && c.Cards == CardsRegistered && !r.Registered:
		return denied(module("Registered", r.Rule), "This card is not registered. Ask your administrator to register it."), true
	}
	return Decision{}, false
}

func module(name, rule string) string {
	if rule == "" {
		return name
	}
	return name + ":" + rule
}
