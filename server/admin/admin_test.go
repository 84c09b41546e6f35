package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/audit"
	"hotdesk/server/registry"
	"hotdesk/server/registry/registrytest"
)

type desk struct{}

func (desk) Sessions(context.Context) ([]adminapi.Session, error)        { return nil, nil }
func (desk) Terminals(context.Context) ([]adminapi.TerminalState, error) { return nil, nil }
func (desk) End(context.Context, alp.SessionID) error                    { return nil }
func (desk) Detach(context.Context, alp.SessionID, string) (bool, error) { return true, nil }
func (desk) Lock(context.Context, alp.SessionID) (bool, error)           { return true, nil }
func (desk) TakeLogin(context.Context, adminapi.PeerLogin) error         { return nil }
func (desk) ForgetKey(_ context.Context, id alp.TerminalID, _ string) (bool, error) {
	return id == "080020c0ffee", nil
}

func (desk) Explain(_ context.Context, t alp.Token, id alp.TerminalID, user string) adminapi.Explanation {
	return adminapi.Explanation{Token: t, Terminal: id, User: user, Outcome: "session", Decided: "Card", Grounds: []adminapi.Ground{{Matter: "cards", Value: "any"}}}
}
func (desk) Message(context.Context, alp.SessionID, string) (bool, error) { return true, nil }
func noGroup(context.Context) (net.Conn, error)                           { return nil, os.ErrNotExist }

// office makes a Server with a registry in memory; auditDir is "" for none.
func office(t testing.TB, auditDir string) *Server {
	t.Helper()
	conf := Config{Host: "north", Allow: Allow{UID: os.Geteuid()}, Desk: desk{}, Group: noGroup}
	var err error
	if auditDir != "" {
		if conf.Audit, err = audit.Open(auditDir, "north", time.Now); err != nil {
			t.Fatal(err)
		}
	}
	r, err := registry.Open(registry.Config{Dir: t.TempDir(), Connect: registrytest.New().Connect})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Serve(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for news := r.News(); !r.Status().Connected; news = r.News() {
		<-news
	}
	conf.Registry = r
	return New(conf)
}

func (s *Server) do(method, path, body string) (int, adminapi.Error) {
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var e adminapi.Error
	if w.Code != http.StatusOK {
		_ = json.Unmarshal(w.Body.Bytes(), &e) // empty where it is none: the test says so
	}
	return w.Code, e
}

func TestErrors(t *testing.T) {
	s := office(t, "")
	for _, c := range []struct {
		method, path, body string
		code               int
		want               adminapi.Code
	}{
		{"GET", "/v1/status", "", 200, ""},
		{"GET", "/v2/status", "", 404, adminapi.CodeNotFound},
		{"GET", "/v1/records/shoe", "", 404, adminapi.CodeNotFound},
		{"GET", "/v1/records/token/card.1", "", 404, adminapi.CodeNotFound},
		{"GET", "/v1/records/token/card%2f1", "", 400, adminapi.CodeInvalid},
		{"POST", "/v1/records/token/card.1", `{"create":true,"fields":{"user":"ann"}}`, 200, ""},
		{"POST", "/v1/records/token/card.1", `{"create":true}`, 409, adminapi.CodeConflict},
		{"POST", "/v1/records/token/card.1", `{"base":7}`, 409, adminapi.CodeConflict},
		{"POST", "/v1/records/token/card.1", `{"colour":"red"}`, 400, adminapi.CodeInvalid},
		{"POST", "/v1/records/token/card.1", `{"fields":{}} {}`, 400, adminapi.CodeInvalid},
		{"POST", "/v1/records/token/card.1", `{"fields":{"note":"` + strings.Repeat("x", adminapi.MaxBody) + `"}}`, 413, adminapi.CodeTooLarge},
		{"DELETE", "/v1/records/token/card.2", "", 404, adminapi.CodeNotFound},
		{"POST", "/v1/sessions/x/end", "", 400, adminapi.CodeInvalid},
		{"POST", "/v1/sessions/0011223344556677/end", "", 200, ""},
		{"POST", "/v1/sessions/0011223344556677/lock", "", 200, ""},
		{"GET", "/v1/policy/explain?token=card.1&terminal=080020000001&user=ann", "", 200, ""},
		{"GET", "/v1/policy/explain?token=card&terminal=080020000001", "", 400, adminapi.CodeInvalid},
		{"GET", "/v1/policy/explain?token=card.1&terminal=x", "", 400, adminapi.CodeInvalid},
		{"POST", "/v1/sessions/0011223344556677/fly", "", 404, adminapi.CodeNotFound},
		{"POST", "/v1/sessions/0011223344556677/message", "", 400, adminapi.CodeInvalid},
		{"GET", "/v1/group", "", 503, adminapi.CodeAway},
		{"POST", "/v1/host/state", `{"state":"up"}`, 400, adminapi.CodeInvalid},
		{"POST", "/v1/registry/rollback", `{"rev":9}`, 404, adminapi.CodeNotFound},
		{"POST", "/v1/registry/adopt", "", 409, adminapi.CodeConflict},
		{"GET", "/v1/registry/export?rev=x", "", 400, adminapi.CodeInvalid},
		{"GET", "/v1/registry/history?limit=0", "", 400, adminapi.CodeInvalid},
	} {
		if code, e := s.do(c.method, c.path, c.body); code != c.code || e.Code != c.want || (code != 200) != (e.Text != "") {
			t.Errorf("%s %s: %d %+v, want %d %s", c.method, c.path, code, e, c.code, c.want)
		}
	}
}

// The socket knows who asks; whoever may not is told so and nothing else.
func TestPeer(t *testing.T) {
	dir, err := os.MkdirTemp("", "hd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := office(t, filepath.Join(dir, "audit"))
	path := filepath.Join(dir, "a.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // the check itself is tested
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	ask := func(uid uint32) string {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperAsk$")
		cmd.Env = append(os.Environ(), "HOTDESK_TEST_SOCKET="+path)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := ask(uint32(os.Geteuid())); !strings.Contains(out, "200 OK") {
		t.Errorf("root: %s", out)
	}
	if os.Geteuid() == 0 {
		if out := ask(54321); !strings.Contains(out, "403 Forbidden") || !strings.Contains(out, "admin-group") || strings.Contains(out, "200 OK") {
			t.Errorf("a stranger: %s", out)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "audit", "audit.log"))
	if err != nil || !bytes.Contains(b, []byte(`"text":"token set card.1"`)) && !bytes.Contains(b, []byte("token add card.1")) {
		t.Errorf("audit: %s, %v", b, err)
	}
}

// TestHelperAsk is another process that asks.
func TestHelperAsk(t *testing.T) {
	path := os.Getenv("HOTDESK_TEST_SOCKET")
	if path == "" {
		return
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	body := `{"create":true}`
	// A stranger's request may meet a socket that is closed by then.
	_, _ = io.WriteString(nc, "POST /v1/records/token/card.1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 15\r\n\r\n"+body)
	b, _ := io.ReadAll(nc)
	os.Stdout.Write(b)
}

func FuzzDecode(f *testing.F) {
	s := office(f, "")
	for _, b := range []string{`{"fields":{"user":"ann"}}`, `{"create":true}`, `{"rev":1}`, `{"state":"offline","within":5}`, "", "[]"} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/records/token/card.1", "/v1/registry/rollback", "/v1/host/state", "/v1/sessions/0011223344556677/detach", "/v1/registry/import"} {
			if code, e := s.do("POST", path, body); code == 500 || code != 200 && e.Text == "" {
				t.Errorf("%s %q: %d %+v", path, body, code, e)
			}
		}
	})
}
