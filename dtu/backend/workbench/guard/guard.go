// Package guard keeps a page on a loopback address to the person who started
// its program: other users of the computer can connect to the port too, and so
// can every web page that the person's browser has open.
//
// Source: RFC 6265 and its SameSite draft; the Fetch standard, section
// "Origin header".
//
// Invariants:
//  1. A request without the secret, in the query or in the cookie that the
//     first page view set, reaches nothing.
//  2. A request by a page of another origin reaches nothing, secret or not.
//  3. A request for a host that is a name of somebody's DNS reaches nothing:
//     only addresses, and localhost, are answered to.
//
// A Guard is safe for concurrent use.
package guard

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
)

// key is the query parameter that carries the secret.
const key = "key"

// policy lets a page use what it was served with, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"

// A Guard holds one page's secret.
type Guard struct {
	secret string
	cookie string // its name: cookies do not know ports, so that each guard has its own
}

// New makes a secret.
func New() *Guard {
	g := &Guard{secret: rand.Text()}
	sum := sha256.Sum256([]byte(g.secret))
	g.cookie = "hotdesk-" + hex.EncodeToString(sum[:6])
	return g
}

// Path is the page's path and query, the secret included.
func (g *Guard) Path() string { return "/?" + url.Values{key: {g.secret}}.Encode() }

// URL is the page's address on a listener, the secret included.
func (g *Guard) URL(addr net.Addr) string {
	host := addr.String()
	if a, err := netip.ParseAddrPort(host); err == nil && a.Addr().IsUnspecified() {
		host = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()).String()
	}
	return "http://" + host + g.Path()
}

// Wrap lets only the person's own requests through to h.
func (g *Guard) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		if !numeric(r.Host) {
			http.Error(w, "This page answers to its address only, not to the name "+r.Host+".", http.StatusForbidden)
			return
		}
		if !sameOrigin(r) {
			http.Error(w, "This page does not take requests from other pages.", http.StatusForbidden)
			return
		}
		inQuery := g.is(r.URL.Query().Get(key))
		if c, err := r.Cookie(g.cookie); !inQuery && (err != nil || !g.is(c.Value)) {
			http.Error(w, "Please open the whole address that the program printed: it ends in ?"+key+"= and a secret.", http.StatusForbidden)
			return
		}
		if inQuery && r.URL.Path == "/" {
			http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.secret, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
		h.ServeHTTP(w, r)
	})
}

func (g *Guard) is(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(g.secret)) == 1
}

// numeric says that no DNS answer has brought the browser here.
func numeric(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost"
}

// sameOrigin says that r comes from the guarded page itself or from no page.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		// A link that was followed to the page itself is good: the page shows
		// nothing to the one with the link.
		if r.Header.Get("Sec-Fetch-Dest") != "document" || r.Method != http.MethodGet {
			return false
		}
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}
