package page_test

import (
	"encoding/json"
	"image/color"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"hotdesk/dtu/backend/workbench"
	"hotdesk/tools/quickstart/page"
)

// get asks for a path with the page's secret, when key is, or without.
func get(t *testing.T, method, address, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestMove(t *testing.T) {
	a, _, handsA := terminal(t, "Terminal A", "north", color.RGBA{})
	b, _, handsB := terminal(t, "Terminal B", "south", color.RGBA{})
	p := page.New([]page.Terminal{a, b})
	server := httptest.NewServer(p)
	defer server.Close()
	secret := p.Path()[1:]
	move := func(body string) (status int, in string) {
		t.Helper()
		resp, text := get(t, "POST", server.URL+"/api/move"+secret, body)
		if resp.StatusCode != http.StatusOK {
			return resp.StatusCode, text
		}
		var states []workbench.State
		if err := json.Unmarshal([]byte(text), &states); err != nil || len(states) != 2 {
			t.Fatalf("%s: %v", text, err)
		}
		for i, s := range states {
			for _, c := range s.Cards {
				if c.Inserted {
					in += c.Name + " in " + string(rune('A'+i)) + ";"
				}
			}
		}
		return resp.StatusCode, in
	}
	for _, c := range []struct{ body, in string }{
		{`{"card": "ada", "terminal": 0}`, "ada in A;"},
		{`{"card": "ada", "terminal": 0}`, "ada in A;"}, // is there
		{`{"card": "grace", "terminal": 1}`, "ada in A;grace in B;"},
		{`{"card": "ada", "terminal": 1}`, "ada in B;"},
		{`{"card": "grace", "terminal": null}`, "ada in B;"}, // is on the desk
		{`{"card": "ada"}`, ""},
	} {
		if status, in := move(c.body); status != http.StatusOK || in != c.in {
			t.Errorf("%s: %d %q, want %q", c.body, status, in, c.in)
		}
	}
	wants(t, handsA, "insert ada", "remove")
	wants(t, handsB, "insert grace", "insert ada", "remove")

	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"card": "nobody", "terminal": 0}`, 502, "nobody"},
		{`{"card": "ada", "terminal": 2}`, 400, "terminal"},
		{`{"card": "ada", "terminal": -1}`, 400, "terminal"},
		{`{"terminal": 1}`, 400, "card"},
		{`nonsense`, 400, "card"},
	} {
		if status, text := move(c.body); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s", c.body, status, text)
		}
	}
}

// The page's secret opens the terminals; theirs are not seen, and nobody else
// gets anywhere.
func TestSecrets(t *testing.T) {
	a, _, _ := terminal(t, "Terminal A", "north", color.RGBA{})
	p := page.New([]page.Terminal{a})
	server := httptest.NewServer(p)
	defer server.Close()
	own, theirs := p.Path()[1:], a.URL.Query().Get("key")
	for _, path := range []string{"/", "/a/", "/a/api/state", "/page.js", "/desk.js"} {
		resp, text := get(t, "GET", server.URL+path+own, "")
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
		if strings.Contains(text, theirs) {
			t.Errorf("%s: has a terminal's secret", path)
		}
		for _, c := range resp.Cookies() {
			if c.Value == theirs {
				t.Errorf("%s: a terminal's cookie", path)
			}
		}
		if n := len(resp.Header.Values("Content-Security-Policy")); n != 1 {
			t.Errorf("%s: %d policies", path, n)
		}
		if resp, _ := get(t, "GET", server.URL+path, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s without a secret: %d", path, resp.StatusCode)
		}
		if resp, _ := get(t, "GET", server.URL+path+own, "", "Origin", "http://evil.example"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s of another page: %d", path, resp.StatusCode)
		}
	}
	live := strings.Replace(server.URL, "http:", "ws:", 1) + "/a/live" + own
	c, _, err := websocket.Dial(t.Context(), live, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	c.CloseNow()
	if _, resp, err := websocket.Dial(t.Context(), live, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://evil.example"}}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%v, %v", resp, err)
	}
}

// A terminal that has stopped is named, without its secret.
func TestTerminalGone(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	u, err := url.Parse(gone.URL + "/?key=hidden")
	if err != nil {
		t.Fatal(err)
	}
	p := page.New([]page.Terminal{{Name: "Terminal A", Host: "north", URL: u}})
	server := httptest.NewServer(p)
	defer server.Close()
	own := p.Path()[1:]
	for _, ask := range []func() (*http.Response, string){
		func() (*http.Response, string) {
			return get(t, "POST", server.URL+"/api/move"+own, `{"card": "ada", "terminal": 0}`)
		},
		func() (*http.Response, string) { return get(t, "GET", server.URL+"/a/"+own, "") },
	} {
		resp, text := ask()
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, "Terminal A does not answer") || strings.Contains(text, "hidden") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
}
