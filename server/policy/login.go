package policy

import "fmt"

// Logins says who must log in with name and password before anything else:
// nobody, terminals without a card, those with one, or all.
type Logins string

// The zero value is LoginNever.
const (
	LoginNever Logins = "never"
	LoginBare  Logins = "bare" // instead of the "insert card" screen
	LoginCard  Logins = "card" // at each insertion
	LoginAll   Logins = "all"
)

// ParseLogins reads a Logins.
func ParseLogins(s string) (Logins, error) {
	switch l := Logins(s); l {
	case LoginNever, LoginBare, LoginCard, LoginAll:
		return l, nil
	}
	return "", fmt.Errorf("policy: %q is none of %q, %q, %q and %q", s, LoginNever, LoginBare, LoginCard, LoginAll)
}

// needs reports whether a token of that kind must log in.
func (l Logins) needs(kind string) bool {
	return l == LoginAll || l == LoginBare && kind == "pseudo" || l == LoginCard && kind != "pseudo"
}
