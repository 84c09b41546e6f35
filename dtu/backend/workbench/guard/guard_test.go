package guard

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	g, other := New(), New()
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("inside")) }))
	secret, wrong := "?key="+g.secret, "?key="+other.secret
	cookie := map[string]string{"Cookie": g.cookie + "=" + g.secret}
	with := func(more ...string) map[string]string {
		m := map[string]string{"Cookie": cookie["Cookie"]}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name, method, host, path string
		header                   map[string]string
		allowed                  bool
	}{
		{"secret in the query", "GET", "127.0.0.1:80", "/" + secret, nil, true},
		{"secret in the query of a deep path", "POST", "127.0.0.1:80", "/api/power" + secret, nil, true},
		{"cookie", "GET", "127.0.0.1:80", "/desk.js", cookie, true},
		{"own page", "POST", "127.0.0.1:80", "/api/power", with("Origin", "http://127.0.0.1:80", "Sec-Fetch-Site", "same-origin"), true},
		{"localhost", "GET", "localhost:80", "/" + secret, nil, true},
		{"IPv6", "GET", "[::1]:80", "/" + secret, nil, true},
		{"link followed to the page", "GET", "127.0.0.1:80", "/" + secret, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, true},

		{"nothing", "GET", "127.0.0.1:80", "/", nil, false},
		{"another secret", "GET", "127.0.0.1:80", "/" + wrong, nil, false},
		{"empty secret", "GET", "127.0.0.1:80", "/?key=", nil, false},
		{"another cookie", "GET", "127.0.0.1:80", "/", map[string]string{"Cookie": g.cookie + "=" + other.secret}, false},
		{"rebound name", "GET", "evil.example:80", "/" + secret, nil, false},
		{"rebound name with cookie", "GET", "evil.example", "/", cookie, false},
		{"other origin", "POST", "127.0.0.1:80", "/api/power", with("Origin", "http://evil.example"), false},
		{"other port", "GET", "127.0.0.1:80", "/live", with("Origin", "http://127.0.0.1:81"), false},
		{"opaque origin", "GET", "127.0.0.1:80", "/live", with("Origin", "null"), false},
		{"frame of another port's page", "GET", "127.0.0.1:80", "/", with("Sec-Fetch-Site", "same-site", "Sec-Fetch-Dest", "iframe"), false},
		{"form of another page", "POST", "127.0.0.1:80", "/", with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "document"), false},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = c.host
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Code == http.StatusOK; got != c.allowed {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if !c.allowed && (w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), g.secret) || len(w.Result().Cookies()) > 0) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
}

func TestCookie(t *testing.T) {
	g := New()
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	get := func(path string) []*http.Cookie {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "127.0.0.1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result().Cookies()
	}
	cookies := get(g.Path())
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Value != g.secret {
		t.Errorf("%v", cookies)
	}
	// No path: behind a proxy below a folder it belongs to that folder.
	if cookies[0].Path != "" || len(get("/api/state?key="+g.secret)) != 0 {
		t.Error("the cookie is not the page's folder's")
	}
	if New().cookie == g.cookie {
		t.Error("two guards of one host share a cookie's name")
	}
}

func TestURL(t *testing.T) {
	g := New()
	for addr, want := range map[string]string{"127.0.0.1:8080": "127.0.0.1:8080", "0.0.0.0:81": "127.0.0.1:81", "[::]:82": "127.0.0.1:82", "[::1]:83": "[::1]:83"} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.URL(a); got != "http://"+want+"/?key="+g.secret {
			t.Errorf("%s: %s", addr, got)
		}
	}
}
