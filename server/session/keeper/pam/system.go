//go:build pam

package pam

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	library "github.com/msteinert/pam/v2"

	"golang.org/x/sys/unix"
)

// Open starts a transaction with the system's modules.
func Open(r Request, conv Conversation) (Stack, error) {
	s := &system{conv: conv}
	var err error
	if s.t, err = library.Start(r.Service, r.User, s); err != nil {
		return nil, fmt.Errorf("pam: service %s: %w", r.Service, err)
	}
	for item, value := range map[library.Item]string{library.Tty: r.Terminal, library.Rhost: r.Addr, library.Ruser: ""} {
		if value == "" {
			continue
		}
		if err := s.t.SetItem(item, value); err != nil {
			_ = s.t.End()
			return nil, fmt.Errorf("pam: %w", err)
		}
	}
	return s, nil
}

// system is a transaction of the library.
type system struct {
	t    *library.Transaction
	conv Conversation
	last []byte // answer, which the library may not have copied yet
}

// RespondPAM is called by modules, on the thread of the call that they are in.
func (s *system) RespondPAM(style library.Style, text string) (string, error) {
	text = strings.ToValidUTF8(text, "?")
	text = strings.TrimSpace(text[:min(len(text), MaxMessage)])
	ours := map[library.Style]Style{
		library.PromptEchoOff: Hidden, library.PromptEchoOn: Shown, library.ErrorMsg: Problem, library.TextInfo: Info,
	}[style]
	if ours == 0 {
		return "", fmt.Errorf("pam: a message of style %d", style)
	}
	answer, err := s.conv(ours, text)
	if err == nil && len(answer) > MaxAnswer {
		err = errors.New("pam: too long an answer")
	}
	// The library wants a string, and copies that for the modules once this has
	// returned: the copy is theirs to wipe. The string is the answer itself, which
	// nobody has when the modules say more, or the call is over.
	s.wipe()
	s.last = answer
	return unsafe.String(unsafe.SliceData(answer), len(answer)), err
}

func (s *system) wipe() {
	clear(s.last)
	s.last = nil
}

func (s *system) Authenticate() error { return s.plain(s.t.Authenticate(library.DisallowNullAuthtok)) }

func (s *system) Account() error {
	err := s.t.AcctMgmt(library.DisallowNullAuthtok)
	s.wipe()
	if errors.Is(err, library.ErrNewAuthtokReqd) {
		return ErrExpired
	}
	err = s.plain(err)
	if refused, ok := errors.AsType[Refused](err); ok { // the password was right
		err = Told{notNow, refused.Err}
	}
	return err
}

func (s *system) ChangeExpired() error {
	return s.plain(s.t.ChangeAuthTok(library.ChangeExpiredAuthtok))
}

func (s *system) User() (string, error) { return s.t.GetItem(library.User) }

func (s *system) Establish() error { return s.plain(s.t.SetCred(library.EstablishCred)) }

// OpenSession keeps Go from undoing what pam_limits sets: programs that it
// starts get the soft limit of open files that it found at its own start,
// unless the limit was set through it.
func (s *system) OpenSession() error {
	if err := s.plain(s.t.OpenSession(0)); err != nil {
		return err
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("pam: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("pam: %w", err)
	}
	return nil
}

func (s *system) Env() (map[string]string, error) { return s.t.GetEnvList() }

func (s *system) CloseSession() error { return s.plain(s.t.CloseSession(0)) }

func (s *system) DeleteCredentials() error { return s.plain(s.t.SetCred(library.DeleteCred)) }

func (s *system) End() error {
	defer s.wipe()
	return s.t.End()
}

// plain says for the user what PAM's error means. The call that it is of is over.
func (s *system) plain(err error) error {
	s.wipe()
	var code library.Error
	if err == nil || !errors.As(err, &code) {
		return err
	}
	text := "The login modules failed. Ask the people who run this system."
	switch code {
	case library.ErrAuth, library.ErrUserUnknown, library.ErrMaxtries, library.ErrCredInsufficient:
		return Refused{err}
	case library.ErrAcctExpired:
		text = "This account has expired. Ask the people who run this system."
	case library.ErrPermDenied:
		text = notNow
	case library.ErrAuthtok, library.ErrAuthtokRecovery, library.ErrAuthtokLockBusy, library.ErrTryAgain, library.ErrAuthtokDisableAging:
		text = "The password was not changed."
	case library.ErrAuthinfoUnavail:
		text = "The service that knows the users does not answer. Try again in a moment."
	}
	return Told{text, err}
}

const notNow = "This account may not log in here, or not now."
