package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"hotdesk/protocol/alp"
	"hotdesk/protocol/rpc"
)

// Requests on the first connection to a keeper whose Start asked for a login.
// OpPrompt comes from the keeper, while OpLogin is under way. When OpBegin is
// answered, the session runs and the keeper takes connections as any other;
// when the connection ends before, the keeper does too, without a session.
const (
	OpLogin  = "login"  // nothing -> LoggedIn
	OpBegin  = "begin"  // Begin -> nothing
	OpPrompt = "prompt" // Prompt -> Reply
)

// Bounds of a login, in bytes.
const (
	MaxPrompt = 512
	MaxReply  = 512
)

// LoggedIn is what came of a login: a user, or an error for the user.
type LoggedIn struct {
	User  string `json:"user,omitempty"` // by the name that the modules gave
	Error string `json:"error,omitempty"`
	Guess bool   `json:"guess,omitempty"` // the answers were wrong
	// Detail is which step failed and how, for the log of whoever runs the
	// host. What the user typed is not in it.
	Detail string `json:"detail,omitempty"`
}

// Begin opens the session of the user who has logged in.
type Begin struct {
	Token   alp.Token `json:"token"`
	Width   int       `json:"width,omitempty"`
	Height  int       `json:"height,omitempty"`
	Layout  string    `json:"layout,omitempty"`
	Lang    string    `json:"lang,omitempty"`    // LANG, "" for the system's
	Desktop string    `json:"desktop,omitempty"` // file in /usr/share/xsessions without its ending, "" for the default
}

// PromptKind is how a prompt is meant. Only ever appended to.
type PromptKind string

const (
	PromptHidden  PromptKind = "hidden"  // a question; the answer is not to be shown
	PromptShown   PromptKind = "shown"   // a question
	PromptProblem PromptKind = "problem" // an error message; no answer
	PromptInfo    PromptKind = "info"    // any other message; no answer
)

// A Prompt is something that the login modules say.
type Prompt struct {
	Kind PromptKind `json:"kind"`
	Text string     `json:"text"`
}

// Reply is the user's answer. Whoever gets it wipes it; to write it is to wipe
// it.
type Reply struct {
	Answer []byte `json:"answer,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r Reply) MarshalJSON() ([]byte, error) {
	type plain Reply
	b, err := json.Marshal(plain(r))
	clear(r.Answer)
	return b, err
}

// A Lobby is a connection to a keeper that waits for its user to log in. It is
// safe for concurrent use.
type Lobby struct{ conn *rpc.Conn }

// NewLobby makes a Lobby over an open connection; ask is called for each
// prompt, one at a time, and must return when its context ends. Serve must run
// for calls to be answered.
func NewLobby(conn net.Conn, ask func(context.Context, Prompt) (Reply, error)) *Lobby {
	return &Lobby{rpc.New(conn, func(ctx context.Context, op string, body json.RawMessage) (any, error) {
		if op != OpPrompt {
			return nil, fmt.Errorf("client: unknown request %.40q", op)
		}
		var p Prompt
		if err := rpc.Decode(body, &p); err != nil {
			return nil, err
		}
		if len(p.Text) > MaxPrompt {
			return nil, errors.New("client: too long a prompt")
		}
		return ask(ctx, p)
	})}
}

// Serve reads until the connection ends.
func (l *Lobby) Serve(ctx context.Context) error { return l.conn.Serve(ctx) }

// Close ends the connection, and with it a keeper whose session has not begun.
func (l *Lobby) Close() error { return l.conn.Close() }

// Login takes the user through the modules.
func (l *Lobby) Login(ctx context.Context) (LoggedIn, error) {
	var in LoggedIn
	err := l.conn.Call(ctx, OpLogin, nil, &in)
	if err == nil && (in.User == "") == (in.Error == "") {
		err = errors.New("client: the keeper says neither who has logged in nor why not")
	}
	return in, err
}

// Begin opens the session; when it returns, the session runs.
func (l *Lobby) Begin(ctx context.Context, b Begin) error {
	return l.conn.Call(ctx, OpBegin, b, nil)
}
