package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
)

// What other hosts of the group may ask of this one: what it knows, and what an
// admin there does to a session here. They have shown the group's certificate;
// their word on who the admin is stands in the audit beside their own name.

// MaxPeers bounds the connections of other hosts; more are closed.
const MaxPeers = 32

type peerHost struct{}

// Peers is the end of other hosts' connections. Make it before Serve.
type Peers struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	mu    sync.Mutex
	n     int
}

// NewPeers makes one.
func NewPeers() *Peers { return &Peers{conns: make(chan net.Conn), done: make(chan struct{})} }

// Take serves a connection whose handshake is done and whose certificate is the
// group's, and returns at its end.
func (p *Peers) Take(nc *tls.Conn) {
	p.mu.Lock()
	full := p.n >= MaxPeers
	if !full {
		p.n++
	}
	p.mu.Unlock()
	if full {
		nc.Close()
		return
	}
	defer func() { p.mu.Lock(); p.n--; p.mu.Unlock() }()
	over := make(chan struct{})
	select {
	case p.conns <- &endConn{Conn: nc, host: CertHost(nc), key: certKey(nc), end: sync.OnceFunc(func() { close(over) })}:
		<-over
	case <-p.done:
		nc.Close()
	}
}

// CertHost is the name in the certificate of the other end.
func CertHost(nc *tls.Conn) string { return certHost(nc.ConnectionState()) }

func certHost(st tls.ConnectionState) string {
	certs := st.PeerCertificates
	if len(certs) == 0 {
		return "unknown"
	}
	return strings.TrimPrefix(certs[0].Subject.CommonName, "Hotdesk host ")
}

// certKey is the public key in the certificate of the other end, nil for one of
// another kind than hosts have.
func certKey(nc *tls.Conn) []byte {
	certs := nc.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	public, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil
	}
	b, err := public.Bytes()
	if err != nil {
		return nil
	}
	return b
}

// An endConn tells when it is closed. It hides that it is TLS, which http.Server
// would look into: it only has to speak HTTP/1.1.
type endConn struct {
	net.Conn
	host string
	key  []byte // of its certificate
	end  func()
}

func (c *endConn) Close() error {
	defer c.end()
	return c.Conn.Close()
}

// Accept is net.Listener's.
func (p *Peers) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (p *Peers) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr is net.Listener's.
func (p *Peers) Addr() net.Addr { return &net.TCPAddr{} }

// ServePeers answers other hosts until ctx ends.
func (s *Server) ServePeers(ctx context.Context, p *Peers) {
	mux := http.NewServeMux()
	handle := func(pattern string, h handler) {
		method, path, _ := cutSpace(pattern)
		mux.HandleFunc(method+" "+adminapi.PeerPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, adminapi.MaxBody)
			out, err := h(r)
			s.answer(w, out, err)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, nil, adminapi.Error{Code: adminapi.CodeNotFound, Text: s.conf.Host + " does not know " + r.Method + " " + clip(r.URL.Path) + ": it may run another version"})
	})
	handle("GET /sessions", func(r *http.Request) (any, error) { return s.sessions(r.Context()) })
	handle("GET /terminals", func(r *http.Request) (any, error) { return s.terminals(r.Context()) })
	handle("GET /audit", s.ownAudit)
	handle("POST /facts", func(r *http.Request) (any, error) {
		var q adminapi.FactsRequest
		if err := decode(r, &q); err != nil {
			return nil, err
		}
		if len(q.Names) > adminapi.MaxNames {
			return nil, adminapi.Invalid{Text: fmt.Sprintf("%d names, at most %d", len(q.Names), adminapi.MaxNames)}
		}
		return s.facts(r.Context(), q.Names), nil
	})
	handle("POST /sessions/{id}/{verb}", func(r *http.Request) (any, error) {
		var q adminapi.PeerReason
		if err := decode(r, &q); err != nil {
			return nil, err
		}
		host := "unknown"
		if e, ok := r.Context().Value(peerHost{}).(*endConn); ok {
			host = e.host
		}
		if len(q.Who) > adminapi.MaxReason {
			q.Who = q.Who[:adminapi.MaxReason]
		}
		return s.act(r.Context(), r.PathValue("id"), r.PathValue("verb"), q.Reason, q.Who+" at "+host)
	})
	handle("POST /terminals/{id}/forget", func(r *http.Request) (any, error) {
		var q adminapi.PeerForget
		if err := decode(r, &q); err != nil {
			return nil, err
		}
		return s.conf.Desk.ForgetKey(r.Context(), alp.TerminalID(r.PathValue("id")), q.Key)
	})
	handle("POST /logins", func(r *http.Request) (any, error) {
		var l adminapi.PeerLogin
		if err := decode(r, &l); err != nil {
			return nil, err
		}
		return adminapi.Done{}, s.conf.Desk.TakeLogin(r.Context(), l)
	})
	handle("POST /renew", func(r *http.Request) (any, error) {
		e, ok := r.Context().Value(peerHost{}).(*endConn)
		if !ok || e.key == nil || s.conf.Sign == nil {
			return nil, adminapi.Error{Code: adminapi.CodeConflict, Text: s.conf.Host + " cannot renew certificates"}
		}
		chain, err := s.conf.Sign(r.Context(), e.host, e.key)
		if err != nil {
			return nil, adminapi.Error{Code: adminapi.CodeConflict, Text: s.conf.Host + ": " + err.Error()}
		}
		s.noteOf(e.host, nil, audit.Entry{What: audit.Admin, Text: "certificate renewed for host " + e.host})
		return adminapi.Renewal{Chain: chain}, nil
	})
	srv := &http.Server{
		Handler: mux, MaxHeaderBytes: MaxHeader, ReadHeaderTimeout: headTime, ReadTimeout: headTime, WriteTimeout: peerDoes, IdleTimeout: headTime,
		ErrorLog:    slog.NewLogLogger(s.conf.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if e, ok := c.(*endConn); ok {
				ctx = context.WithValue(ctx, peerHost{}, e)
			}
			return ctx
		},
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		srv.Close()
	})
	_ = srv.Serve(p) // its only end is ctx's
	if !stop() {
		<-done
	}
}

// factsWithin bounds the time for looking accounts up, which may be on another
// machine; what has no answer by then is left out.
const factsWithin = PeerWithin / 2

// facts is how this host is.
func (s *Server) facts(ctx context.Context, names []string) adminapi.Facts {
	f := adminapi.Facts{Host: s.conf.Host, Version: s.conf.Version, Time: time.Now().UTC(), Accounts: []adminapi.Account{}}
	ctx, cancel := context.WithTimeout(ctx, factsWithin)
	defer cancel()
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		f.Accounts = append(f.Accounts, account(name))
	}
	return f
}

func account(name string) adminapi.Account {
	a := adminapi.Account{Name: name, UID: -1}
	u, err := user.Lookup(name)
	if err != nil {
		return a
	}
	if n, err := strconv.Atoi(u.Uid); err == nil {
		a.UID = n
	}
	a.Home = u.HomeDir
	if st, err := os.Stat(u.HomeDir); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			a.Dir = sys.Ino
		}
	}
	return a
}

// ownAudit is what this host's audit says.
func (s *Server) ownAudit(r *http.Request) (any, error) {
	q, err := adminapi.ParseAuditQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return s.readAudit(q)
}

func (s *Server) readAudit(q adminapi.AuditQuery) ([]adminapi.AuditEntry, error) {
	all := []adminapi.AuditEntry{}
	if s.conf.AuditDir == "" {
		return all, nil
	}
	err := audit.Newest(s.conf.AuditDir, func(e audit.Entry) bool {
		if e.When.Before(q.Since) {
			return false
		}
		if x := Shown(e); q.Fits(x) {
			all = append(all, x)
		}
		return len(all) < q.Limit
	})
	return all, err
}

// Shown is an entry without its chain.
func Shown(e audit.Entry) adminapi.AuditEntry {
	return adminapi.AuditEntry{N: e.N, When: e.When, Host: e.Host, What: e.What, Who: e.Who, Token: e.Token, Terminal: e.Terminal, Addr: e.Addr, Session: e.Session, Text: e.Text, Before: e.Before, After: e.After}
}

// groupAudit is the audit of all hosts, by time.
func (s *Server) groupAudit(r *http.Request) (any, error) {
	v := r.URL.Query()
	q, err := adminapi.ParseAuditQuery(v)
	if err != nil {
		return nil, err
	}
	parts, missing, err := everywhere(r.Context(), s, v.Get("host"), func() ([]adminapi.AuditEntry, error) { return s.readAudit(q) }, peerList[adminapi.AuditEntry](s, "/audit?"+q.Values().Encode()))
	out := adminapi.GroupAudit{Entries: []adminapi.AuditEntry{}, Missing: missing}
	for _, p := range parts {
		out.Cut = out.Cut || len(p.val) >= q.Limit
		out.Entries = append(out.Entries, p.val...)
	}
	adminapi.SortAudit(out.Entries)
	return out, err
}
