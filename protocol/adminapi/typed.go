package adminapi

import (
	"fmt"
	"strconv"
	"strings"

	"hotdesk/protocol/alp"
)

// Token is a registered token, as the gateway uses it.
type Token struct {
	Token    alp.Token
	User     string    // "" where nobody's
	Alias    alp.Token // whose sessions it opens, "" for its own
	Disabled bool
}

// User is a registered user.
type User struct {
	Name     string
	Groups   []string
	Disabled bool
}

// Terminal is a terminal that an admin knows.
type Terminal struct {
	ID             alp.TerminalID
	Name, Location string
	Key            string // hash of the only key that it has, in hex; "" for any
}

// Policy is one rule.
type Policy struct {
	Name            string
	Order           int
	Token, Terminal string            // patterns, "" for any
	Group           string            // "" for any user, and none
	Host            string            // pattern: on which hosts it counts
	Says            map[string]string // of Matters: what the rule says
}

// Kiosk is a session without a login.
type Kiosk struct {
	Name, Command string
	Accounts      []string
}

// Each of the functions below reads a record that Check took.

func (r Record) Token() Token {
	return Token{alp.Token(r.Name), r.Fields["user"], alp.Token(r.Fields["alias"]), r.Fields["disabled"] != ""}
}

func (r Record) User() User {
	return User{r.Name, items(r.Fields["groups"]), r.Fields["disabled"] != ""}
}

func (r Record) Terminal() Terminal {
	return Terminal{alp.TerminalID(r.Name), r.Fields["name"], r.Fields["location"], r.Fields["key"]}
}

func (r Record) Policy() Policy {
	n, err := strconv.Atoi(r.Fields["order"])
	if err != nil {
		n = 5000
	}
	f := r.Fields
	says := map[string]string{}
	for _, m := range Matters {
		if v := f[m.Name]; v != "" {
			says[m.Name] = v
		}
	}
	return Policy{r.Name, n, f["token"], f["terminal"], f["group"], f["host"], says}
}

func (r Record) Kiosk() Kiosk {
	return Kiosk{r.Name, r.Fields["command"], items(r.Fields["accounts"])}
}

func items(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// maxFew bounds what Few says of names, but for the first, in bytes.
const maxFew = 120

// Few is the beginning of a list, for a text in which something follows: at least
// the first name, and how many more there are.
func Few(names []string) string {
	n, size := 0, 0
	for n < len(names) && (n == 0 || size+len(names[n]) <= maxFew) {
		size += len(names[n]) + len(", ")
		n++
	}
	text := strings.Join(names[:n], ", ")
	if n < len(names) {
		text += fmt.Sprintf(" and %d more", len(names)-n)
	}
	return text
}

// Matches reports whether a name fits a pattern, in which * stands for any
// bytes; the empty one fits all.
func Matches(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return name == pattern
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		_, after, ok := strings.Cut(name, part)
		if !ok {
			return false
		}
		name, rest = after, more
	}
}
