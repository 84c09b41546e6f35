// Package pam takes a user through the system's login modules: one transaction
// from authentication to the end of the session, on one thread.
//
// Source: pam(3) and the manual pages of its calls; the order of the calls is
// pam_authenticate, pam_acct_mgmt, pam_chauthtok where a password has expired,
// then pam_setcred, pam_open_session, and at the end pam_close_session,
// pam_setcred(PAM_DELETE_CRED), pam_end.
//
// Invariants:
//  1. All calls of a Login are made on one thread that does nothing else, and
//     never at the same time.
//  2. Any step that fails ends the transaction; nothing comes after it but the
//     undoing of the steps before.
//  3. What was opened is closed, once, whatever happens in between.
//
// Modules that change only the thread they are called on (pam_namespace,
// pam_selinux's context of the next program) change nothing for the session:
// its programs are started by another thread. PAM_XDISPLAY is not set: the
// session is opened before its X server is started, since that runs with what
// the modules gave.
//
// The real modules need cgo and the build tag pam; without it Open says so.
// Errors tell the user; Refused tells wrong answers from the rest. A Login is
// safe for concurrent use. Limit: MaxAnswer.
package pam

import (
	"errors"
	"runtime"
	"sync"
)

// MaxAnswer bounds an answer, in bytes (PAM_MAX_RESP_SIZE).
const MaxAnswer = 512

// MaxMessage bounds what a module says, in bytes; the rest is cut off.
const MaxMessage = 512

// Style is how a message of a module is meant.
type Style int

const (
	Hidden  Style = iota + 1 // a question; the answer is not shown
	Shown                    // a question
	Problem                  // an error message
	Info                     // any other message
)

// A Conversation shows a message of a module to the user. The answer to a
// question is the callee's and is wiped by it.
type Conversation func(style Style, text string) (answer []byte, err error)

// A Request says who wants to log in from where.
type Request struct {
	Service  string // the file in /etc/pam.d
	User     string
	Terminal string // PAM_TTY
	Addr     string // PAM_RHOST: of the terminal
}

// A Stack is a PAM transaction. Its calls are those of pam(3).
type Stack interface {
	Authenticate() error
	Account() error // ErrExpired: the password must be changed
	ChangeExpired() error
	User() (string, error)
	Establish() error
	OpenSession() error
	Env() (map[string]string, error)
	CloseSession() error
	DeleteCredentials() error
	End() error
}

// An Opener starts a transaction.
type Opener func(Request, Conversation) (Stack, error)

// ErrExpired is Account's answer where the password is right but too old.
var ErrExpired = errors.New("pam: the password has expired")

// Refused is the error of a login whose answers were wrong: guesses look so.
type Refused struct{ Err error }

func (r Refused) Error() string {
	return "The name or the password is not right."
}
func (r Refused) Unwrap() error { return r.Err }

// Told is an error with its words for the user.
type Told struct {
	Text string
	Err  error
}

func (t Told) Error() string { return t.Text }
func (t Told) Unwrap() error { return t.Err }

// Failed says which step an error is of.
type Failed struct {
	Step string
	Err  error
}

func (f Failed) Error() string { return "pam: " + f.Step + ": " + f.Err.Error() }
func (f Failed) Unwrap() error { return f.Err }

// A Login is one transaction under way.
type Login struct {
	calls chan func()

	mu   sync.Mutex // held over a call
	over bool       // calls is closed

	// What follows is the thread's.
	stack  Stack
	opened bool
	creds  bool
}

// Begin starts a transaction on a thread of its own. Close must be called.
func Begin(open Opener, r Request, conv Conversation) (*Login, error) {
	l := &Login{calls: make(chan func())}
	go func() {
		// Never unlocked: the thread ends with its goroutine, and with it what
		// modules did to it.
		runtime.LockOSThread()
		for call := range l.calls {
			call()
		}
	}()
	err := l.do(func() (err error) {
		l.stack, err = open(r, conv)
		return err
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

var errOver = errors.New("pam: the login is over")

func (l *Login) do(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return errOver
	}
	return l.call(f)
}

// call runs f on the thread. mu is held.
func (l *Login) call(f func() error) error {
	done := make(chan error, 1)
	l.calls <- func() { done <- f() }
	return <-done
}

// Authenticate asks the user all that the modules want to know and returns who
// it is, by the name that the modules give. A password that has expired is
// changed on the way.
func (l *Login) Authenticate() (user string, err error) {
	err = l.do(func() error {
		if err := l.stack.Authenticate(); err != nil {
			return Failed{"authentication", err}
		}
		err := l.stack.Account()
		if errors.Is(err, ErrExpired) {
			if err := l.stack.ChangeExpired(); err != nil {
				return Failed{"change of the password", err}
			}
			err = l.stack.Account()
		}
		if err != nil {
			return Failed{"account", err}
		}
		user, err = l.stack.User()
		if err == nil && user == "" {
			err = errors.New("pam: the modules name no user")
		}
		return err
	})
	return user, err
}

// Open establishes credentials, opens the session and returns its environment.
func (l *Login) Open() (env map[string]string, err error) {
	err = l.do(func() error {
		if err := l.stack.Establish(); err != nil {
			return Failed{"credentials", err}
		}
		l.creds = true
		if err := l.stack.OpenSession(); err != nil {
			return Failed{"session", err}
		}
		l.opened = true
		env, err = l.stack.Env()
		return err
	})
	return env, err
}

// Close undoes what was done, in the opposite order, and ends the transaction
// and its thread. A second call does nothing.
func (l *Login) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	l.over = true
	defer close(l.calls)
	return l.call(func() error {
		if l.stack == nil {
			return nil
		}
		var errs []error
		if l.opened {
			errs = append(errs, l.stack.CloseSession())
		}
		if l.creds {
			errs = append(errs, l.stack.DeleteCredentials())
		}
		return errors.Join(append(errs, l.stack.End())...)
	})
}
