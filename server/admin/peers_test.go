package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/group/local"
	"hotdesk/protocol/rpc"
	"hotdesk/server/audit"
	"hotdesk/server/control"
)

// rows is a desk with sessions that end.
type rows struct {
	desk
	all   []adminapi.Session
	ended []alp.SessionID
	taken []string
}

func (d *rows) TakeLogin(_ context.Context, l adminapi.PeerLogin) error {
	if l.User == "" {
		return errors.New("whose?")
	}
	d.taken = append(d.taken, fmt.Sprintf("%s %s %s %s", l.Terminal, l.Token, l.User, l.Password))
	return nil
}

func (d *rows) Sessions(context.Context) ([]adminapi.Session, error) { return slices.Clone(d.all), nil }

func (d *rows) Terminals(context.Context) ([]adminapi.TerminalState, error) {
	return []adminapi.TerminalState{{ID: "080020c0ffee", Connected: len(d.all) > 0}}, nil
}

func (d *rows) End(_ context.Context, id alp.SessionID) error {
	if !slices.ContainsFunc(d.all, func(s adminapi.Session) bool { return s.ID == id }) {
		return control.ErrNoSession
	}
	d.ended = append(d.ended, id)
	return nil
}

// table is a group manager with a table of hosts.
func table(hosts ...local.TableHost) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		conn := rpc.New(b, func(_ context.Context, op string, _ json.RawMessage) (any, error) {
			if op == local.OpTable {
				return local.Table{Hosts: hosts}, nil
			}
			return local.Status{Host: "north"}, nil
		})
		go conn.Serve(context.Background())
		return a, nil
	}
}

func tableHost(n int, name string, change func(*local.TableHost)) local.TableHost {
	h := local.TableHost{Host: name, Addr: fmt.Sprintf("c00002%02x", n), Trusted: true, State: local.Online, Control: 7443, Interfaces: []local.TableInterface{{Name: "eth0", IP: fmt.Sprintf("0a0000%02x", n), LastPkt: 1}}}
	if change != nil {
		change(&h)
	}
	return h
}

// A pair is north, which is asked, and south, another host.
type pair struct {
	north, south *Server
	mine, theirs *rows
}

// withPair runs f in a bubble with two hosts.
func withPair(t *testing.T, f func(*testing.T, pair)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer func() { <-time.After(time.Minute) }() // for connections that linger
		defer wg.Wait()
		defer cancel()
		f(t, newPair(t, ctx, &wg))
	})
}

func newPair(t *testing.T, ctx context.Context, wg *sync.WaitGroup) pair {
	p := pair{
		mine:   &rows{all: []adminapi.Session{{ID: "00112233445566aa", User: "ann"}}},
		theirs: &rows{all: []adminapi.Session{{ID: "00112233445566bb", User: "bob"}}},
	}
	dir := t.TempDir()
	log := func(host string) *audit.Log {
		l, err := audit.Open(filepath.Join(dir, host), host, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	p.south = New(Config{Host: "south", Desk: p.theirs, Group: noGroup, Audit: log("south"), AuditDir: filepath.Join(dir, "south"), Version: "2",
		Sign: func(_ context.Context, name string, public []byte) ([]byte, error) {
			return append([]byte(name+" "), public...), nil
		}})
	peers := NewPeers()
	wg.Go(func() { p.south.ServePeers(ctx, peers) })
	dial := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		switch to.String() {
		case "10.0.0.2:7443": // south, by the interface that is heard
			a, b := net.Pipe()
			peers.conns <- &endConn{Conn: b, host: "north", key: []byte("point"), end: func() {}}
			return a, nil
		case "10.0.0.5:7443": // a host that takes connections and is stuck
			a, _ := net.Pipe()
			return a, nil
		}
		<-ctx.Done() // nobody is there
		return nil, ctx.Err()
	}
	p.north = New(Config{Host: "north", Desk: p.mine, Dial: dial, Audit: log("north"), AuditDir: filepath.Join(dir, "north"), Version: "1", Group: table(
		tableHost(1, "north", nil),
		tableHost(2, "south", nil),
		tableHost(3, "west", func(h *local.TableHost) { h.Down, h.LastSeen = true, 77 }),
		tableHost(4, "evil", func(h *local.TableHost) { h.Trusted = false }),
		tableHost(5, "stuck", nil),
		tableHost(6, "silent", nil),
		tableHost(7, "bare", func(h *local.TableHost) { h.Control = 0 }),
		tableHost(8, "left", func(h *local.TableHost) { h.Down, h.Stopped = true, true }),
	)})
	return p
}

func get[T any](t *testing.T, s *Server, method, path, body string) (out T, code int) {
	t.Helper()
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, httptest.NewRequest(method, "/v1"+path, strings.NewReader(body)))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out, w.Code
}

// The whole group is asked, and whoever does not answer is named and not waited
// for.
func TestGroup(t *testing.T) {
	withPair(t, func(t *testing.T, p pair) {
		begin := time.Now()
		s, _ := get[adminapi.GroupSessions](t, p.north, "GET", "/group/sessions", "")
		if d := time.Since(begin); d > PeerWithin {
			t.Errorf("it took %v", d)
		}
		if len(s.Sessions) != 2 || s.Sessions[0].Host != "north" || s.Sessions[1].Host != "south" || s.Sessions[1].User != "bob" {
			t.Errorf("sessions: %+v", s.Sessions)
		}
		var names []string
		for _, m := range s.Missing {
			names = append(names, m.Host)
		}
		if got := strings.Join(names, " "); got != "bare silent stuck west" {
			t.Errorf("missing: %s", got)
		}
		terminals, _ := get[adminapi.GroupTerminals](t, p.north, "GET", "/group/terminals?host=south", "")
		if len(terminals.Terminals) != 1 || terminals.Terminals[0].Host != "south" || len(terminals.Missing) != 0 {
			t.Errorf("terminals: %+v", terminals)
		}
		for path, want := range map[string]int{"/group/sessions?host=evil": 404, "/group/sessions?host=west": 200, "/group/audit?since=x": 400, "/group/audit?limit=0": 400} {
			if _, code := get[any](t, p.north, "GET", path, ""); code != want {
				t.Errorf("%s: %d", path, code)
			}
		}
		// What an admin does to a session there is in both audits.
		for path, want := range map[string]int{
			"/sessions/00112233445566bb/end?host=south": 200,
			"/sessions/00112233445566cc/end?host=south": 404,
			"/sessions/00112233445566bb/end?host=west":  503,
			"/sessions/00112233445566bb/end?host=evil":  404,
			"/sessions/00112233445566bb/end":            404,
			"/sessions/00112233445566aa/end?host=north": 200,
			"/sessions/x/end?host=south":                400,
		} {
			if _, code := get[adminapi.Done](t, p.north, "POST", path, `{"reason":"lunch"}`); code != want {
				t.Errorf("%s: %d", path, code)
			}
		}
		if len(p.theirs.ended) != 1 || len(p.mine.ended) != 1 {
			t.Errorf("ended: %v, %v", p.mine.ended, p.theirs.ended)
		}
		a, _ := get[adminapi.GroupAudit](t, p.north, "GET", "/group/audit?what=admin", "")
		var lines []string
		for _, e := range a.Entries {
			lines = append(lines, e.Host+": "+e.Who+": "+e.Text)
		}
		text := strings.Join(lines, "\n")
		for _, want := range []string{"north: unknown: session end lunch", "north: unknown: session end on south lunch", "south: unknown at north: session end lunch"} {
			if !strings.Contains(text, want) {
				t.Errorf("audit without %q:\n%s", want, text)
			}
		}
		// The certificate is for the name and the key of the connection.
		if chain, err := p.north.Renew(t.Context()); err != nil || string(chain) != "north point" {
			t.Errorf("renewed: %q, %v", chain, err)
		}
		if len(a.Missing) != 4 {
			t.Errorf("audit: %+v", a.Missing)
		}
	})
}

// Nothing but what other hosts may ask is there for them.
func TestPeersMay(t *testing.T) {
	withPair(t, func(t *testing.T, p pair) {
		south := remote{"south", []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:7443")}}
		var e adminapi.Error
		for _, c := range []struct {
			method, path string
			in           any
			want         adminapi.Code
		}{
			{"GET", "/status", nil, adminapi.CodeNotFound},
			{"POST", "/records/token/card.1", adminapi.RecordRequest{Create: true}, adminapi.CodeNotFound},
			{"POST", "/registry/rollback", adminapi.Rollback{Rev: 1}, adminapi.CodeNotFound},
			{"POST", "/host/state", local.StateRequest{State: local.Down}, adminapi.CodeNotFound},
			{"POST", "/facts", adminapi.FactsRequest{Names: make([]string, adminapi.MaxNames+1)}, adminapi.CodeInvalid},
			{"POST", "/sessions/00112233445566bb/fly", adminapi.PeerReason{}, adminapi.CodeNotFound},
			{"POST", "/sessions/00112233445566bb/end", adminapi.PeerReason{Reason: strings.Repeat("x", adminapi.MaxReason+1)}, adminapi.CodeInvalid},
			{"POST", "/facts", strings.Repeat("x", adminapi.MaxBody), adminapi.CodeTooLarge},
		} {
			if err := p.north.askPeer(t.Context(), south, PeerWithin, c.method, c.path, c.in, &struct{}{}); !errors.As(err, &e) || e.Code != c.want {
				t.Errorf("%s %s: %v", c.method, c.path, err)
			}
		}
	})
}

// Hosts that are not alike are told of, with what to do.
func TestDiffer(t *testing.T) {
	here := adminapi.Facts{Version: "1", Accounts: []adminapi.Account{{Name: "ann", UID: 1, Home: "/home/ann", Dir: 5}, {Name: "bob", UID: -1}, {Name: "cy", UID: 3, Home: "/c"}, {Name: "di", UID: 4, Home: "/d", Dir: 9}, {Name: "ed", UID: 5}, {Name: "no", UID: -1}}}
	there := adminapi.Facts{Version: "2", Accounts: []adminapi.Account{{Name: "ann", UID: 2, Home: "/home/ann", Dir: 5}, {Name: "bob", UID: 7}, {Name: "cy", UID: 3, Home: "/x"}, {Name: "di", UID: 4, Home: "/d", Dir: 8}, {Name: "ed", UID: -1}, {Name: "no", UID: -1}, {Name: "unasked", UID: 1}}}
	got := strings.Join(differ(here, "south", there), "\n")
	for _, want := range []string{"version 2, this one 1", "ann has uid 2 there, 1 here: give", "bob is known there, and not here: make the account here", "cy has the home /x there, /c here", "di has another directory as /d there: mount", "ed is not known there: make the account there"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "no ") && strings.Contains(got, ": no is") || strings.Contains(got, "unasked") {
		t.Error(got)
	}
	if same := differ(here, "south", here); len(same) != 0 {
		t.Errorf("the same: %v", same)
	}
	many := adminapi.Facts{Version: "1"}
	other := adminapi.Facts{Version: "1"}
	for i := range 10 {
		many.Accounts = append(many.Accounts, adminapi.Account{Name: fmt.Sprint("u", i), UID: i})
		other.Accounts = append(other.Accounts, adminapi.Account{Name: fmt.Sprint("u", i), UID: i + 1})
	}
	if got := differ(many, "south", other); len(got) != 1 || !strings.Contains(got[0], "so have 7 more users") {
		t.Errorf("many: %q", got)
	}
	if a := account("root"); a.UID != 0 || a.Home == "" || a.Dir == 0 && os.Geteuid() == 0 {
		t.Errorf("root: %+v", a)
	}
	if a := account("no such user"); a.UID != -1 {
		t.Errorf("nobody: %+v", a)
	}
}

// The audit is read from its end, over files, past what is no entry.
func TestNewest(t *testing.T) {
	dir := t.TempDir()
	s := New(Config{Host: "north", Desk: desk{}, Group: noGroup, AuditDir: dir})
	l, err := audit.Open(dir, "north", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 2000 {
		if err := l.Add(audit.Entry{What: audit.Login, Who: fmt.Sprint("user", i%7), Text: strings.Repeat("x", 300)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.readAudit(adminapi.AuditQuery{User: "user3", Limit: 20})
	if err != nil || len(all) != 20 || all[0].N != 1999 && all[0].Who != "user3" || all[0].N <= all[19].N {
		t.Errorf("%d, %v", len(all), err)
	}
	all, err = s.readAudit(adminapi.AuditQuery{Limit: adminapi.MaxAudit})
	if err != nil || len(all) != 2001 || all[2000].N != 1 || all[2000].What != audit.Start {
		t.Errorf("%d, %v", len(all), err)
	}
	if all, err = s.readAudit(adminapi.AuditQuery{Since: time.Now().Add(time.Hour), Limit: 1}); err != nil || len(all) != 0 {
		t.Errorf("%d, %v", len(all), err)
	}
}

// A terminal's key is forgotten on all hosts, and the admin reads what becomes of
// the terminal that had it.
func TestForgetKey(t *testing.T) {
	withPair(t, func(t *testing.T, p pair) {
		p.north.conf.Group = table(tableHost(1, "north", nil), tableHost(2, "south", nil))
		for id, want := range map[string]string{
			"080020c0ffee": "the one of the old key was sent away, and may come again in a minute",
			"080020000001": "no host knows a key of 080020000001",
		} {
			done, code := get[adminapi.Done](t, p.north, "DELETE", "/group/terminals/"+id+"/key", "")
			if code != http.StatusOK || !strings.Contains(done.Text, want) {
				t.Errorf("%s: %d %+v", id, code, done)
			}
		}
		var was bool
		peer := remote{name: "south", addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:7443")}}
		if err := p.north.askPeer(t.Context(), peer, PeerWithin, "POST", "/terminals/080020c0ffee/forget", adminapi.PeerForget{Key: "ab"}, &was); err != nil || !was {
			t.Errorf("with what the registry had: %v, %v", was, err)
		}
	})
}

// A certified is a connection whose other end has shown the certificate of a host.
type certified struct {
	net.Conn
	host string
}

func (c certified) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "Hotdesk host " + c.host}}}}
}

// A login goes to the host that it is for, and to no other that answers in its
// place, whatever the group thinks of that.
func TestHandLogin(t *testing.T) {
	withPair(t, func(t *testing.T, p pair) {
		login := func() adminapi.PeerLogin {
			return adminapi.PeerLogin{Terminal: "080020c0ffee", Token: "card.1", User: "ann", Password: []byte("pw")}
		}
		as := func(host string) DialPeer {
			return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				nc, err := p.north.conf.Dial(ctx, to)
				return certified{nc, host}, err
			}
		}
		south := netip.MustParseAddrPort("10.0.0.2:7443")
		l := login()
		if err := HandLogin(t.Context(), as("south"), "south", south, l); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(p.theirs.taken); got != "[080020c0ffee card.1 ann pw]" || string(l.Password) == "pw" {
			t.Errorf("taken %s, kept %q", got, l.Password)
		}
		for name, dial := range map[string]DialPeer{"another host": as("evil"), "no host": as(""), "without a certificate": p.north.conf.Dial} {
			l := login()
			if err := HandLogin(t.Context(), dial, "south", south, l); err == nil || len(p.theirs.taken) != 1 || string(l.Password) == "pw" {
				t.Errorf("%s: %v, %v", name, err, p.theirs.taken)
			}
		}
		l = login()
		l.User = ""
		if err := HandLogin(t.Context(), as("south"), "south", south, l); err == nil {
			t.Error("it was taken")
		}
		if s := fmt.Sprint(login(), []any{login()}); strings.Contains(s, "pw") || !strings.Contains(s, "ann") {
			t.Error(s)
		}
	})
}
