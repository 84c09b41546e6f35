package controltest

import (
	"context"
	"encoding/json"
	"errors"
	"net"

	"hotdesk/protocol/rpc"
	"hotdesk/server/parent"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeper/pam"
)

// lobby is a keeper whose user logs in with the parent's Users.
func (p *Parent) lobby(s parent.Start) net.Conn {
	ours, theirs := net.Pipe()
	var conn *rpc.Conn
	var in *pam.Login
	kinds := map[pam.Style]client.PromptKind{
		pam.Hidden: client.PromptHidden, pam.Shown: client.PromptShown, pam.Problem: client.PromptProblem, pam.Info: client.PromptInfo,
	}
	conn = rpc.New(ours, func(ctx context.Context, op string, body json.RawMessage) (any, error) {
		switch op {
		case client.OpLogin:
			var err error
			in, err = pam.Begin(p.Users.Open, pam.Request{User: s.User}, func(style pam.Style, text string) ([]byte, error) {
				var r client.Reply
				err := conn.Call(ctx, client.OpPrompt, client.Prompt{Kind: kinds[style], Text: text}, &r)
				return r.Answer, err
			})
			if err != nil {
				return nil, err
			}
			user, err := in.Authenticate()
			if err != nil {
				_, guess := errors.AsType[pam.Refused](err)
				return client.LoggedIn{Error: err.Error(), Guess: guess}, nil
			}
			return client.LoggedIn{User: user}, nil
		case client.OpBegin:
			var b client.Begin
			if err := rpc.Decode(body, &b); err != nil {
				return nil, err
			}
			if _, err := in.Open(); err != nil {
				return nil, err
			}
			p.mu.Lock()
			p.begun = append(p.begun, b)
			p.mu.Unlock()
			p.Add(client.Status{Session: s.Session, Token: b.Token, User: s.User})
			return nil, nil
		}
		return nil, errors.New("not here: " + op)
	})
	go func() {
		_ = conn.Serve(context.Background())
		if in != nil {
			_ = in.Close()
		}
	}()
	return theirs
}

// Begun are the sessions that began after a login.
func (p *Parent) Begun() []client.Begin {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]client.Begin(nil), p.begun...)
}
