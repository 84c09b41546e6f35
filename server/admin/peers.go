package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/group/local"
)

const (
	// PeerWithin is how long another host may take to answer a question, its
	// connection included; whoever has not is named.
	PeerWithin = 800 * time.Millisecond
	// peerDoes is how long it may take to do something.
	peerDoes = 40 * time.Second
	// maxAsking bounds the hosts that are asked at the same time.
	maxAsking = 32
	// maxAddrs bounds the addresses of a host that are tried.
	maxAddrs = 4
)

// unknownGroup is missing where the group manager does not say who is in it. It
// can be no host's name.
const unknownGroup = "(the group)"

// A DialPeer connects to the gateway of another host, by TLS with the group's
// certificates, for adminapi.PeerALPN.
type DialPeer func(context.Context, netip.AddrPort) (net.Conn, error)

// A remote is another host of the group that may be asked.
type remote struct {
	name  string
	addrs []netip.AddrPort // the one that is heard last first
}

// remotes are the other hosts that are trusted, and those of them that cannot
// be asked.
func (s *Server) remotes(ctx context.Context) (all []remote, missing []adminapi.Missing) {
	if s.conf.Dial == nil {
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, PeerWithin)
	defer cancel()
	t, err := s.group(within)
	if err != nil {
		return nil, []adminapi.Missing{{Host: unknownGroup, Why: "who else is in it is not known: " + err.Error()}}
	}
	for _, h := range t.Hosts[min(1, len(t.Hosts)):] { // the first is this one
		why := ""
		switch {
		case !h.Trusted || h.Stopped: // a stranger; one that said goodbye
			continue
		case h.Down:
			why = fmt.Sprintf("nothing was heard of it for %d s", h.LastSeen)
		case h.Control == 0:
			why = "it has no gateway: start server there"
		}
		r := remote{name: h.Host, addrs: addrs(h)}
		if why == "" && len(r.addrs) == 0 {
			why = "it has no address"
		}
		if why != "" {
			missing = append(missing, adminapi.Missing{Host: h.Host, Addr: first(r.addrs), Why: why})
			continue
		}
		all = append(all, r)
	}
	return all, missing
}

func first(a []netip.AddrPort) string {
	if len(a) == 0 {
		return ""
	}
	return a[0].Addr().String()
}

// addrs are where a host's gateway can be, the interfaces first from which
// something has come.
func addrs(h local.TableHost) (out []netip.AddrPort) {
	add := func(s string) {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 4 || h.Control <= 0 || h.Control > 0xffff {
			return
		}
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(h.Control))
		if !slices.Contains(out, a) && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	heard := slices.DeleteFunc(slices.Clone(h.Interfaces), func(i local.TableInterface) bool { return i.LastPkt < 0 })
	slices.SortStableFunc(heard, func(a, b local.TableInterface) int { return cmp.Compare(a.LastPkt, b.LastPkt) })
	for _, i := range heard {
		add(i.IP)
	}
	add(h.Addr)
	return out
}

// dial tries all addresses of a host at once.
func (s *Server) dial(ctx context.Context, r remote) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, PeerWithin)
	defer cancel()
	type result struct {
		nc  net.Conn
		err error
	}
	results := make(chan result, len(r.addrs))
	for _, a := range r.addrs {
		go func() { // ends with ctx, at the latest
			nc, err := s.conf.Dial(ctx, a)
			results <- result{nc, err}
		}()
	}
	var won net.Conn
	var errs []error
	for range r.addrs {
		got := <-results
		switch {
		case got.err != nil:
			errs = append(errs, got.err)
		case won != nil:
			got.nc.Close()
		default:
			won = got.nc
			cancel()
		}
	}
	if won == nil {
		return nil, errors.Join(errs...)
	}
	return won, nil
}

// askPeer has another host answer.
func (s *Server) askPeer(ctx context.Context, r remote, within time.Duration, method, path string, in, out any) error {
	return ask(ctx, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, r) }, r.name, within, method, path, in, out)
}

// HandLogin gives a user's login to the host of that name, at to, and to no
// other: whoever answers there must have its certificate. The password is wiped.
func HandLogin(ctx context.Context, dial DialPeer, host string, to netip.AddrPort, l adminapi.PeerLogin) error {
	defer clear(l.Password)
	its := func(ctx context.Context) (net.Conn, error) {
		nc, err := dial(ctx, to)
		if err != nil {
			return nil, err
		}
		if sec, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); !ok || certHost(sec.ConnectionState()) != host {
			nc.Close()
			return nil, fmt.Errorf("%v has another host's certificate", to)
		}
		return nc, nil
	}
	var done adminapi.Done
	return ask(ctx, its, host, PeerWithin, "POST", "/logins", l, &done)
}

// ask has the host answer that dial connects to.
func ask(ctx context.Context, dial func(context.Context) (net.Conn, error), name string, within time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	t := http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: MaxHeader,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	defer t.CloseIdleConnections()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		defer clear(b) // there may be a secret in it
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, "https://peer"+adminapi.PeerPrefix+path, body)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	away := func(err error) error {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("nothing came within %v", within)
		}
		return adminapi.Error{Code: adminapi.CodeAway, Text: fmt.Sprintf("%s does not answer: %v", name, err)}
	}
	a, err := t.RoundTrip(q)
	if err != nil {
		return away(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, adminapi.MaxPeerAnswer+1))
	switch {
	case err != nil:
		return away(err)
	case len(b) > adminapi.MaxPeerAnswer:
		return away(fmt.Errorf("an answer of more than %d bytes", adminapi.MaxPeerAnswer))
	case a.StatusCode != http.StatusOK:
		var e adminapi.Error
		if json.Unmarshal(b, &e) != nil || e.Text == "" {
			return away(fmt.Errorf("its answer is %s: are both hosts of the same version?", a.Status))
		}
		return e
	}
	if err := json.Unmarshal(b, out); err != nil {
		return away(fmt.Errorf("its answer cannot be read: are both hosts of the same version? %w", err))
	}
	return nil
}

// A part is what one host answered.
type part[T any] struct {
	host string
	val  T
}

// everywhere asks all other hosts at the same time, or the one of the name only,
// and names those without an answer. own is this host's part, which has its
// place where no name is given, or its own.
func everywhere[T any](ctx context.Context, s *Server, only string, own func() (T, error), ask func(context.Context, remote) (T, error)) ([]part[T], []adminapi.Missing, error) {
	missing := []adminapi.Missing{}
	var parts []part[T]
	here := only == "" || only == s.conf.Host
	if here {
		v, err := own()
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, part[T]{s.conf.Host, v})
	}
	if here && only != "" {
		return parts, missing, nil
	}
	all, away := s.remotes(ctx)
	missing = append(missing, away...)
	if only != "" {
		all = slices.DeleteFunc(all, func(r remote) bool { return r.name != only })
		missing = slices.DeleteFunc(missing, func(m adminapi.Missing) bool { return m.Host != only && m.Host != unknownGroup })
		if len(all)+len(missing) == 0 {
			return nil, nil, noHost(only)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, maxAsking)
	for _, r := range all {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			v, err := ask(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, adminapi.Missing{Host: r.name, Addr: first(r.addrs), Why: strings.TrimPrefix(err.Error(), r.name+" ")})
				return
			}
			parts = append(parts, part[T]{r.name, v})
		})
	}
	wg.Wait()
	slices.SortFunc(parts, func(a, b part[T]) int { return cmp.Compare(a.host, b.host) })
	slices.SortFunc(missing, func(a, b adminapi.Missing) int { return cmp.Compare(a.Host, b.Host) })
	return parts, missing, nil
}

func noHost(name string) error {
	return adminapi.Error{Code: adminapi.CodeNotFound, Text: "no host " + clip(name) + " is trusted in the group: `hotdesk group` shows those that are"}
}

// peerList asks for a list.
func peerList[T any](s *Server, path string) func(context.Context, remote) ([]T, error) {
	return func(ctx context.Context, r remote) (all []T, err error) {
		err = s.askPeer(ctx, r, PeerWithin, "GET", path, nil, &all)
		return all, err
	}
}

func (s *Server) groupSessions(r *http.Request) (any, error) {
	parts, missing, err := everywhere(r.Context(), s, r.URL.Query().Get("host"), func() ([]adminapi.Session, error) { return s.sessions(r.Context()) }, peerList[adminapi.Session](s, "/sessions"))
	out := adminapi.GroupSessions{Sessions: []adminapi.Session{}, Missing: missing}
	for _, p := range parts {
		for _, x := range p.val {
			x.Host = p.host
			out.Sessions = append(out.Sessions, x)
		}
	}
	return out, err
}

func (s *Server) groupTerminals(r *http.Request) (any, error) {
	parts, missing, err := everywhere(r.Context(), s, r.URL.Query().Get("host"), func() ([]adminapi.TerminalState, error) { return s.terminals(r.Context()) }, peerList[adminapi.TerminalState](s, "/terminals"))
	if err != nil {
		return nil, err
	}
	// A terminal has one row: of the host that it is connected to, rather than
	// of one that remembers it or has its name.
	rows := map[string]adminapi.TerminalState{}
	for _, p := range parts {
		for _, x := range p.val {
			if x.Connected {
				x.Host = p.host
			}
			old, there := rows[string(x.ID)]
			if !there || x.Connected && !old.Connected || x.Connected == old.Connected && x.Session != "" && old.Session == "" {
				rows[string(x.ID)] = x
			}
		}
	}
	out := adminapi.GroupTerminals{Terminals: []adminapi.TerminalState{}, Missing: missing}
	for _, x := range rows {
		out.Terminals = append(out.Terminals, x)
	}
	slices.SortFunc(out.Terminals, func(a, b adminapi.TerminalState) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// elsewhere has another host do something to a session of its.
func (s *Server) elsewhere(ctx context.Context, host, id, verb, reason, who string) (done adminapi.Done, err error) {
	all, missing := s.remotes(ctx)
	i := slices.IndexFunc(all, func(r remote) bool { return r.name == host })
	if i < 0 {
		for _, m := range missing {
			if m.Host == host || m.Host == unknownGroup {
				return done, adminapi.Error{Code: adminapi.CodeAway, Text: fmt.Sprintf("%s cannot be asked: %s", host, m.Why)}
			}
		}
		return done, noHost(host)
	}
	err = s.askPeer(ctx, all[i], peerDoes, "POST", "/sessions/"+id+"/"+verb, adminapi.PeerReason{Reason: reason, Who: who}, &done)
	return done, err
}

// Renew asks the other hosts for a further certificate of this one: the host
// that has the authority's key answers, to the key of the connection.
func (s *Server) Renew(ctx context.Context) ([]byte, error) {
	all, missing := s.remotes(ctx)
	var errs []error
	for _, m := range missing {
		errs = append(errs, fmt.Errorf("%s: %s", m.Host, m.Why))
	}
	for _, r := range all {
		var out adminapi.Renewal
		err := s.askPeer(ctx, r, PeerWithin, "POST", "/renew", nil, &out)
		if err == nil {
			return out.Chain, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errors.New("admin: no host that answers has the authority's key"))...)
}
