package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"slices"
	"strings"
	"time"

	"hotdesk/protocol/rpc"
	"hotdesk/server/session/client"
	"hotdesk/server/session/keeper/pam"
	"hotdesk/server/session/keeperapi"
	"hotdesk/server/session/xsession"

	"golang.org/x/sys/unix"
)

// LoginTime bounds a login, from the keeper's start to the session's.
const LoginTime = 5 * time.Minute

// A lobby is a keeper whose user has not logged in yet. It has one connection,
// and ends with it.
type lobby struct {
	start keeperapi.Start
	open  pam.Opener
	log   *slog.Logger
	conn  *rpc.Conn
	ctx   context.Context // of the connection
	hang  context.CancelFunc

	tries   net.Conn // to whom counts them; nil: nobody does
	tried   bool     // a try was asked for
	tooMany bool     // and refused

	login *pam.Login
	user  xsession.User
	begin chan client.Begin // capacity 1
	ready chan error        // capacity 1: what came of it
	told  bool              // ready has it
	asked bool
	ended chan struct{} // closed when the connection is no more
}

// wait takes the first connection of l and returns when its user has logged in
// and the gateway wants the session. The caller says what came of it: begun.
// With an error nothing is left open.
func wait(ctx context.Context, l net.Listener, start keeperapi.Start, open pam.Opener, tries net.Conn, log *slog.Logger) (_ *lobby, _ client.Begin, err error) {
	ctx, cancel := context.WithTimeout(ctx, LoginTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if u, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
			_ = u.SetDeadline(time.Unix(1, 0))
		}
	})
	conn, err := l.Accept()
	if !stop() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, client.Begin{}, fmt.Errorf("keeper: nobody came to log in: %w", err)
	}
	if err := keeperapi.CheckPeer(conn); err != nil {
		conn.Close()
		return nil, client.Begin{}, err
	}
	b := &lobby{start: start, open: open, tries: tries, log: log, begin: make(chan client.Begin, 1), ready: make(chan error, 1), ended: make(chan struct{})}
	b.ctx, b.hang = context.WithCancel(context.WithoutCancel(ctx))
	b.conn = rpc.New(conn, b.handle)
	go func() {
		defer close(b.ended)
		_ = b.conn.Serve(b.ctx) // whatever it was: nobody is there any more
	}()
	select {
	case begin := <-b.begin:
		return b, begin, nil
	case <-b.ended:
		err = errors.New("keeper: the login was given up")
	case <-ctx.Done():
		err = fmt.Errorf("keeper: the login took too long: %w", ctx.Err())
	}
	return nil, client.Begin{}, errors.Join(err, b.close())
}

// begun tells the gateway that the session runs, or why not: once.
func (b *lobby) begun(err error) {
	if !b.told {
		b.told = true
		b.ready <- err
	}
}

// close ends the connection and what the login holds.
func (b *lobby) close() error {
	b.hang()
	<-b.ended // a module that waits for an answer has none now
	if b.login == nil {
		return nil
	}
	return b.login.Close()
}

// logIn waits for the session's user and opens the user's session with the
// login modules. It returns the control socket.
func (k *keeper) logIn(ctx context.Context) (_ net.Listener, err error) {
	l, err := listen(keeperapi.Socket(k.Runtime, k.Start.Session))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	k.sayReady("")
	open := k.Login
	if open == nil {
		open = pam.Open
	}
	if k.Net != nil { // modules may have to ask the network who a user is
		inner := open
		open = func(r pam.Request, conv pam.Conversation) (pam.Stack, error) { // on the login's own thread
			if err := unix.Setns(int(k.Net.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, fmt.Errorf("keeper: the host's network: %w", err)
			}
			return inner(r, conv)
		}
	}
	if k.Tries != nil {
		defer k.Tries.Close()
		_ = k.Tries.SetDeadline(time.Now().Add(LoginTime)) // a try must not wait for ever
	}
	b, begin, err := wait(ctx, l, k.Start, open, k.Tries, k.log)
	if err != nil {
		return nil, err
	}
	k.lobby, k.user = b, b.user
	k.Start.Token, k.Start.User = begin.Token, b.user.Name
	k.Start.Width, k.Start.Height, k.Start.Layout = begin.Width, begin.Height, begin.Layout
	k.Start.Lang, k.Start.Desktop = begin.Lang, begin.Desktop
	k.env, err = b.login.Open()
	if err != nil {
		return nil, errors.Join(err, k.logOut(err))
	}
	return l, nil
}

// logOut tells the gateway of a session that did not come to be, and closes it
// with the login modules.
func (k *keeper) logOut(err error) error {
	if err != nil {
		k.lobby.begun(err)
	}
	select { // the gateway closes once it has read its answer
	case <-k.lobby.ended:
	case <-time.After(tellTime):
	}
	return k.lobby.close()
}

// neverBegan ends a keeper whose user did not get a session: that is not a
// session that failed, and the gateway has told whoever had to know.
func (k *keeper) neverBegan(dir string, err error) error {
	if !k.ready {
		return err
	}
	return k.removeOwn(dir)
}

// handle runs on one goroutine, a request after the other.
func (b *lobby) handle(ctx context.Context, op string, body json.RawMessage) (any, error) {
	switch {
	case op == client.OpLogin && !b.asked:
		b.asked = true
		return b.authenticate(ctx), nil
	case op == client.OpBegin && b.user.Name != "" && cap(b.begin) > len(b.begin):
		var begin client.Begin
		if err := rpc.Decode(body, &begin); err != nil {
			return nil, err
		}
		check := keeperapi.Start{Session: b.start.Session, Token: begin.Token, Width: begin.Width, Height: begin.Height, Layout: begin.Layout, Lang: begin.Lang, Desktop: begin.Desktop}
		if err := check.Check(); err != nil {
			return nil, err
		}
		b.begin <- begin
		select {
		case err := <-b.ready:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("keeper: unknown request %.40q of a login", op)
}

// authenticate takes the user through the modules.
func (b *lobby) authenticate(ctx context.Context) client.LoggedIn {
	var err error
	b.login, err = pam.Begin(b.open, pam.Request{
		Service: b.start.Service, User: b.start.User, Terminal: string(b.start.Terminal), Addr: b.start.Addr,
	}, b.converse(ctx))
	var name string
	if err == nil {
		name, err = b.login.Authenticate()
	}
	switch {
	case b.tooMany: // whatever the modules made of it
		err = pam.Told{Text: "Too many wrong passwords for this name. Try again in a minute, or where you have logged in before.", Err: errTooMany}
	case err == nil && b.tried && b.tries != nil:
		_ = keeperapi.Say(b.tries, keeperapi.WasRight) // else the try counts
	}
	if err == nil {
		b.user, err = allowed(name, b.start.Group, b.start.Kiosks, b.start.LeastUID)
	}
	if err == nil {
		return client.LoggedIn{User: b.user.Name}
	}
	in := client.LoggedIn{Error: "The login failed. Ask the people who run this system.", Detail: err.Error()}
	step := ""
	if failed, ok := errors.AsType[pam.Failed](err); ok {
		step = failed.Step + ": "
	}
	if told, ok := errors.AsType[pam.Told](err); ok {
		in.Error, in.Detail = told.Text, step+fmt.Sprint(told.Err)
	} else if refused, ok := errors.AsType[pam.Refused](err); ok {
		in.Guess = true
		in.Error, in.Detail = refused.Error(), step+fmt.Sprint(refused.Err)
	}
	in.Detail = strings.ToValidUTF8(in.Detail[:min(len(in.Detail), client.MaxPrompt)], "?")
	b.log.Warn("login failed", "session", b.start.Session, "terminal", b.start.Terminal, "addr", b.start.Addr, "error", in.Detail)
	return in
}

// converse passes what the modules say to the gateway.
func (b *lobby) converse(ctx context.Context) pam.Conversation {
	kinds := map[pam.Style]client.PromptKind{
		pam.Hidden: client.PromptHidden, pam.Shown: client.PromptShown, pam.Problem: client.PromptProblem, pam.Info: client.PromptInfo,
	}
	return func(style pam.Style, text string) ([]byte, error) {
		var r client.Reply
		err := b.conn.Call(ctx, client.OpPrompt, client.Prompt{Kind: kinds[style], Text: text[:min(len(text), client.MaxPrompt)]}, &r)
		if err == nil && len(r.Answer) > client.MaxReply {
			err = errors.New("keeper: too long an answer")
		}
		if err == nil && len(r.Answer) > 0 && !b.mayTry() {
			err = errTooMany
		}
		if err != nil {
			clear(r.Answer)
			return nil, err
		}
		return r.Answer, nil
	}
}

var errTooMany = errors.New("keeper: too many tries of this user's password")

// mayTry asks, before the user's first answer, whether there may be one more try
// of this user's password: the gateway's word that it has waited is not enough.
func (b *lobby) mayTry() bool {
	if !b.tried {
		b.tried = true
		b.tooMany = b.tries != nil && (keeperapi.Say(b.tries, keeperapi.MayTry) != nil || !keeperapi.Hear(b.tries, keeperapi.DoTry))
	}
	return !b.tooMany
}

// allowed returns a user who has logged in, if that user may have a session:
// not one of the kiosks' accounts, whose files and processes go when a kiosk
// begins.
func allowed(name, group, kiosks string, least uint32) (xsession.User, error) {
	u, err := xsession.LookupUser(name)
	if err == nil && (u.UID < least || u.UID == 0) {
		err = fmt.Errorf("keeper: uid %d belongs to the system", u.UID)
	}
	var in bool
	if err == nil && kiosks != "" {
		if in, err = memberOf(u, kiosks); in {
			err = fmt.Errorf("keeper: %s is an account of kiosks, being in group %s, and nobody logs in as one", name, kiosks)
		}
	}
	if err == nil && group != "" {
		if in, err = memberOf(u, group); err == nil && !in {
			err = fmt.Errorf("keeper: %s is not in group %s", name, group)
		}
	}
	if err != nil {
		return xsession.User{}, pam.Told{Text: "This account may not have a session here.", Err: err}
	}
	return u, nil
}

// memberOf reports whether a user is in a group of that name.
func memberOf(u xsession.User, group string) (bool, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(append(slices.Clone(u.Groups), u.GID), func(id uint32) bool { return fmt.Sprint(id) == g.Gid }), nil
}
