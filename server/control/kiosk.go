package control

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/greeter"
)

// A pool remembers the accounts as which no kiosk would start, and since when:
// what one has left could not be ended or removed, say. Another takes their
// place as long as there is one. It is the owner's.
type pool map[string]time.Time

// poolLife is how long an account is remembered.
const poolLife = 24 * time.Hour

// pick is the first of those accounts that is free and has no trouble, else the
// one whose trouble is oldest.
func (p pool) pick(accounts []string, taken func(string) bool) (name string, ok bool) {
	for _, a := range accounts {
		if taken(a) {
			continue
		}
		if !ok || p[a].Before(p[name]) {
			name, ok = a, true
		}
	}
	return name, ok
}

// failed notes trouble with an account and reports whether that is news.
func (p pool) failed(name string, now time.Time) (news bool) {
	for a, at := range p {
		if now.Sub(at) > poolLife {
			delete(p, a)
		}
	}
	_, known := p[name]
	p[name] = now
	return !known
}

// worked forgets it, and reports whether there was any.
func (p pool) worked(name string) (news bool) {
	_, news = p[name]
	delete(p, name)
	return news
}

// kioskAccount is whom p's kiosk runs as, one of its accounts that has no
// session. ok is false where there is none, and the screen says so.
func (s *Server) kioskAccount(p *presentation, k *adminapi.Kiosk) (name string, ok bool) {
	if s.conf.Local { // all run as the caller
		return s.conf.User, true
	}
	if name, ok := s.pool.pick(k.Accounts, s.busy()); ok {
		return name, true
	}
	why := fmt.Sprintf("All %d places of %s on this server are taken. Try again when somebody has finished, or ask your administrator.", len(k.Accounts), k.Name)
	if len(k.Accounts) == 0 {
		why = fmt.Sprintf("%s has no accounts to run as. Ask your administrator to name some.", k.Name)
	}
	s.say(p.t, slog.LevelWarn, "no kiosk", "token", p.token, "kiosk", k.Name, "accounts", len(k.Accounts))
	s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: why})
	return "", false
}

// busy tells which users have a session here.
func (s *Server) busy() func(user string) bool {
	users := map[string]bool{}
	for _, row := range s.table.All() {
		users[row.User] = true
	}
	return func(user string) bool { return users[user] }
}

// kioskStarted is what came of the start of a kiosk as an account.
func (s *Server) kioskStarted(account string, err error) {
	switch {
	case err != nil && s.pool.failed(account, time.Now()):
		s.log.Warn("account of a kiosk does not start, and is taken last from now on", "account", account, "err", err)
	case err == nil && s.pool.worked(account):
		s.log.Info("account of a kiosk starts again", "account", account)
	}
}

// anotherAccount has p's kiosk started as another account, once, and reports
// whether there is one without trouble.
func (s *Server) anotherAccount(p *presentation) bool {
	d := s.says(p)
	if d.Kiosk == nil || p.second || !p.current() {
		return false
	}
	name, ok := s.pool.pick(d.Kiosk.Accounts, s.busy())
	if _, trouble := s.pool[name]; !ok || trouble {
		return false
	}
	p.second = true
	s.start(p)
	return true
}

// outsider reports whether a session is none of the kiosk that p is to have,
// and says so: a kiosk asks for no password, and the session is somebody's.
func (s *Server) outsider(p *presentation, id alp.SessionID) bool {
	d := s.says(p)
	row, ok := s.table.Get(id)
	if !ok || d.Kiosk == nil || s.conf.Local || p.user == row.User && p.user != "" || slices.Contains(d.Kiosk.Accounts, row.User) {
		return false
	}
	s.say(p.t, slog.LevelWarn, "session is none of the kiosk", "token", p.token, "session", id, "kiosk", d.Kiosk.Name)
	s.screen(p, greeter.Screen{Kind: greeter.Denied, Text: "This terminal is for visitors, and your card has a session elsewhere. Use another terminal for it."})
	return true
}
