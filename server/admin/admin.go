// Package admin is the gateway's end of the admin API: HTTP on a unix socket,
// for root and for those whom root has allowed; and of what the hosts of a group
// ask each other for their admins, over TLS with the group's certificates.
//
// Source: design section 5; protocol/adminapi for paths, bodies and errors.
//
// Invariants:
//  1. Who asks is what the kernel says (SO_PEERCRED), never what a request says.
//  2. Whatever changes something is in the audit, done or refused, with who.
//  3. A body is read up to its bound and no further; unknown fields are errors.
//  4. Another host of the group may read what this one is like and do, and has a
//     session end, be detached or told something; no more (see ServePeers). One
//     that does not answer is named, and waited for PeerWithin at most.
//  5. A registry that is away makes changes of it fail, and nothing else.
//
// A Server is safe for concurrent use; Serve is its life. Limits: MaxConns, and
// those of adminapi.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/control"
	"hotdesk/server/registry"
)

const (
	// MaxConns bounds the connections. For one more, one that has said nothing
	// makes room; where all have, it waits.
	MaxConns = 64
	// MaxHeader bounds the head of a request, in bytes.
	MaxHeader = 16 << 10

	headTime  = 5 * time.Second
	bodyTime  = 60 * time.Second
	idleTime  = 2 * time.Minute
	groupTime = 5 * time.Second // for the group manager
	endTime   = 2 * time.Second // for answers that are under way at the end
)

// Desk is the terminals and sessions of this host.
type Desk interface {
	Sessions(context.Context) ([]adminapi.Session, error)
	Terminals(context.Context) ([]adminapi.TerminalState, error)
	End(context.Context, alp.SessionID) error
	Detach(ctx context.Context, id alp.SessionID, why string) (was bool, err error)
	Message(ctx context.Context, id alp.SessionID, text string) (was bool, err error)
	Lock(context.Context, alp.SessionID) (was bool, err error)
	ForgetKey(context.Context, alp.TerminalID, string) (was bool, err error)
	TakeLogin(context.Context, adminapi.PeerLogin) error
	Explain(context.Context, alp.Token, alp.TerminalID, string) adminapi.Explanation
}

// Config is what a Server works with.
type Config struct {
	Host     string
	Allow    Allow
	Desk     Desk
	Registry *registry.Registry // nil: there is none
	// Adopt makes this host the registry at its next start; nil: it is, or cannot.
	Adopt    func() (next string, err error)
	Audit    *audit.Log
	AuditDir string                                  // where that is; "": it cannot be read
	Dial     DialPeer                                // to other hosts; nil: this one only
	Group    func(context.Context) (net.Conn, error) // to the group manager
	Cert     func() (authority string, until time.Time)
	// Sign renews the certificate of a host with that name and key; nil: the
	// authority's key is on another host.
	Sign    func(ctx context.Context, name string, public []byte) ([]byte, error)
	Version string
	Log     *slog.Logger // nil: silent
}

// A Server answers admins.
type Server struct {
	conf Config
	mux  *http.ServeMux
}

// New makes a Server.
func New(conf Config) *Server {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{conf: conf, mux: http.NewServeMux()}
	s.routes()
	return s
}

// Serve answers on ln until ctx ends. It closes ln.
func (s *Server) Serve(ctx context.Context, ln *net.UnixListener) error {
	srv := &http.Server{
		Handler:           s.mux,
		MaxHeaderBytes:    MaxHeader,
		ReadHeaderTimeout: headTime,
		ReadTimeout:       bodyTime,
		IdleTimeout:       idleTime,
		ErrorLog:          slog.NewLogLogger(s.conf.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*peerConn); ok {
				ctx = context.WithValue(ctx, peerKey{}, p.peer)
			}
			return ctx
		},
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if srv.Shutdown(within) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(newListener(ln, s.conf.Allow, s.conf.Log))
	if stop() {
		srv.Close()
		return fmt.Errorf("admin: %w", err)
	}
	<-done
	return nil
}

// A handler answers a request with a value for JSON, a text, or an error.
type handler func(r *http.Request) (any, error)

// text is an answer that is no JSON.
type text string

// handle adds a path that changes nothing.
func (s *Server) handle(pattern string, h handler) {
	method, path, _ := cutSpace(pattern)
	s.mux.HandleFunc(method+" "+adminapi.Prefix+path, func(w http.ResponseWriter, r *http.Request) {
		limit := int64(adminapi.MaxBody)
		if path == "/registry/import" || path == "/registry/diff" {
			limit = adminapi.MaxText
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		out, err := h(r)
		s.answer(w, out, err)
	})
}

func (s *Server) answer(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		var e adminapi.Error
		e, status = fault(err)
		out = e
	}
	if t, ok := out.(text); ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, string(t)) // a caller that has gone needs no answer
		return
	}
	b, err := json.Marshal(out)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","text":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// fault turns an error into what the caller is told.
func fault(err error) (adminapi.Error, int) {
	if e, ok := errors.AsType[adminapi.Error](err); ok {
		return e, statusOf(e.Code)
	}
	code := adminapi.CodeInternal
	_, invalid := errors.AsType[adminapi.Invalid](err)
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case invalid:
		code = adminapi.CodeInvalid
	case large:
		code = adminapi.CodeTooLarge
	case errors.Is(err, registry.ErrConflict), errors.Is(err, registry.ErrDiverged), errors.Is(err, control.ErrNoLogins):
		code = adminapi.CodeConflict
	case errors.Is(err, registry.ErrNoRevision), errors.Is(err, control.ErrNoSession):
		code = adminapi.CodeNotFound
	case errors.Is(err, registry.ErrAway), errors.Is(err, control.ErrKeeper), errors.Is(err, control.ErrStopped), errors.Is(err, context.DeadlineExceeded):
		code = adminapi.CodeAway
	}
	return adminapi.Error{Code: code, Text: err.Error()}, statusOf(code)
}

func statusOf(c adminapi.Code) int {
	switch c {
	case adminapi.CodeInvalid:
		return http.StatusBadRequest
	case adminapi.CodeDenied:
		return http.StatusForbidden
	case adminapi.CodeNotFound:
		return http.StatusNotFound
	case adminapi.CodeConflict:
		return http.StatusConflict
	case adminapi.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case adminapi.CodeNotYet:
		return http.StatusNotImplemented
	case adminapi.CodeAway:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// decode reads a body strictly; an empty one leaves out as it is.
func decode(r *http.Request, out any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(out)
	if err == io.EOF {
		return nil
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return err
	}
	if err == nil && d.More() {
		err = errors.New("more than one value")
	}
	if err != nil {
		return adminapi.Invalid{Text: "the body is not what this path takes: " + err.Error()}
	}
	return nil
}

// note writes what an admin did, or wanted to, into the audit.
func (s *Server) note(r *http.Request, err error, e audit.Entry) { s.noteOf(who(r), err, e) }

func (s *Server) noteOf(who string, err error, e audit.Entry) {
	e.Who = who
	if err != nil {
		e.What, e.Text = audit.Refuse, e.Text+": "+err.Error()
	}
	if err := s.conf.Audit.Add(e); err != nil {
		s.conf.Log.Error("audit cannot be written", "err", err)
	}
	s.conf.Log.Info("admin", "who", e.Who, "what", e.Text, "session", e.Session)
}
