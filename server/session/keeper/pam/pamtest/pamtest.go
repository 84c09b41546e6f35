// Package pamtest has users in memory, behind the calls of PAM.
//
// Source: package pam. A Users is safe for concurrent use once made; what was
// called is recorded under its lock.
package pamtest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"

	"hotdesk/server/session/keeper/pam"
)

// A User is one that can log in.
type User struct {
	Password string
	Code     string // second factor, "" for none
	Expired  bool   // the password must be changed
	Locked   bool   // the account stage refuses
	Notice   string // said before the account is taken
}

// Users are the users, and what goes wrong.
type Users struct {
	Fail map[string]error // by call: "Establish", "OpenSession"

	mu    sync.Mutex
	users map[string]User
	calls []string
}

// New makes Users.
func New(users map[string]User) *Users { return &Users{users: maps.Clone(users)} }

// Calls are the calls so far.
func (u *Users) Calls() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.calls)
}

// Open is a pam.Opener.
func (u *Users) Open(r pam.Request, conv pam.Conversation) (pam.Stack, error) {
	return &stack{u, r, conv}, u.note("Start")
}

func (u *Users) note(call string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls = append(u.calls, call)
	return u.Fail[call]
}

type stack struct {
	u    *Users
	r    pam.Request
	conv pam.Conversation
}

var errWrong = pam.Refused{Err: errors.New("pamtest: wrong")}

func (s *stack) user() (User, bool) {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	u, ok := s.u.users[s.r.User]
	return u, ok
}

func (s *stack) ask(style pam.Style, text, want string) error {
	got, err := s.conv(style, text)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(want)) {
		return errWrong
	}
	return nil
}

func (s *stack) Authenticate() error {
	if err := s.u.note("Authenticate"); err != nil {
		return err
	}
	u, ok := s.user()
	err := s.ask(pam.Hidden, "Password:", u.Password)
	if err != nil || !ok {
		return errors.Join(err, errWrong)
	}
	if u.Code != "" {
		return s.ask(pam.Shown, "One-time code:", u.Code)
	}
	return nil
}

func (s *stack) Account() error {
	if err := s.u.note("Account"); err != nil {
		return err
	}
	u, _ := s.user()
	if u.Notice != "" {
		if _, err := s.conv(pam.Info, u.Notice); err != nil {
			return err
		}
	}
	switch {
	case u.Locked:
		return pam.Told{Text: "This account may not log in here, or not now.", Err: errors.New("pamtest: locked")}
	case u.Expired:
		return pam.ErrExpired
	}
	return nil
}

func (s *stack) ChangeExpired() error {
	if err := s.u.note("ChangeExpired"); err != nil {
		return err
	}
	if _, err := s.conv(pam.Info, "You must change your password."); err != nil {
		return err
	}
	first, err := s.conv(pam.Hidden, "New password:")
	if err != nil {
		return err
	}
	if err := s.ask(pam.Hidden, "Retype new password:", string(first)); err != nil {
		return pam.Told{Text: "The password was not changed.", Err: err}
	}
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	u := s.u.users[s.r.User]
	u.Password, u.Expired = string(first), false
	s.u.users[s.r.User] = u
	return nil
}

func (s *stack) User() (string, error)    { return s.r.User, s.u.note("User") }
func (s *stack) Establish() error         { return s.u.note("Establish") }
func (s *stack) OpenSession() error       { return s.u.note("OpenSession") }
func (s *stack) CloseSession() error      { return s.u.note("CloseSession") }
func (s *stack) DeleteCredentials() error { return s.u.note("DeleteCredentials") }
func (s *stack) End() error               { return s.u.note("End") }

func (s *stack) Env() (map[string]string, error) {
	return map[string]string{"FROM_PAM": s.r.User}, s.u.note("Env")
}
