package adminapi

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"

	"hotdesk/protocol/alp"
)

// PeerALPN is the protocol by which the gateways of a group ask each other, on
// their control port: TLS 1.3 with the group's certificates on both ends, and
// in it HTTP/1.1 with the paths below PeerPrefix.
//
//	GET  /sessions             []Session of that host
//	GET  /terminals            []TerminalState that it knows
//	POST /sessions/ID/VERB     PeerReason -> Done, as of the admin API
//	POST /terminals/ID/forget  PeerForget -> whether that host knew a key
//	POST /logins               PeerLogin -> nothing
//	POST /facts                FactsRequest -> Facts
//	GET  /audit                []AuditEntry, with AuditQuery's values
//	POST /renew                Renewal: of the certificate that the asking end shows
const PeerALPN = "hotdesk-peer/1"

// PeerPrefix begins every path that other hosts ask for.
const PeerPrefix = "/peer/1"

const (
	// MaxPeerAnswer bounds what a host takes of another's answer, in bytes.
	MaxPeerAnswer = 8 << 20
	// MaxNames bounds the accounts of a FactsRequest.
	MaxNames = 500
	// MaxAudit bounds the entries of an audit's answer.
	MaxAudit = 20_000
)

// Missing is a host whose part of an answer is not there, and why.
type Missing struct {
	Host string `json:"host"`
	Addr string `json:"addr,omitempty"`
	Why  string `json:"why"`
}

// GroupSessions are the sessions of all hosts that answered.
type GroupSessions struct {
	Sessions []Session `json:"sessions"`
	Missing  []Missing `json:"missing"`
}

// GroupTerminals are the terminals that all hosts that answered know.
type GroupTerminals struct {
	Terminals []TerminalState `json:"terminals"`
	Missing   []Missing       `json:"missing"`
}

// PeerReason is a Reason as one host tells it to another: Who is the admin
// there.
type PeerReason struct {
	Reason string `json:"reason,omitempty"`
	Who    string `json:"who"`
}

// PeerForget has a host forget a terminal's key. Key is the one that the registry
// had, "" for none; a host of before sends no body.
type PeerForget struct {
	Key string `json:"key,omitempty"`
}

// PeerLogin is what a user has typed at the asking host, who is about to come with
// a redirect: the host that takes it may ask its own login modules by it, and
// the user no second time. Whoever gets one wipes the password; to write it is to
// wipe it.
type PeerLogin struct {
	Terminal alp.TerminalID `json:"terminal"`
	Token    alp.Token      `json:"token"` // that was presented
	User     string         `json:"user"`
	Password []byte         `json:"password"`
	// What the user chose beside the name, where that is known.
	Layout  string `json:"layout,omitempty"`
	Lang    string `json:"lang,omitempty"`
	Desktop string `json:"desktop,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (l PeerLogin) MarshalJSON() ([]byte, error) {
	type plain PeerLogin
	b, err := json.Marshal(plain(l))
	clear(l.Password)
	return b, err
}

// String hides the password.
func (l PeerLogin) String() string { return "login of " + l.User + " at " + string(l.Terminal) }

// FactsRequest asks a host what it is like, and how it knows some accounts.
type FactsRequest struct {
	Names []string `json:"names"`
}

// Facts is what should be alike on all hosts.
type Facts struct {
	Host     string    `json:"host"`
	Version  string    `json:"version"`
	Time     time.Time `json:"time"`
	Accounts []Account `json:"accounts"`
}

// Account is how a host knows a user.
type Account struct {
	Name string `json:"name"`
	UID  int    `json:"uid"` // -1: there is none
	Home string `json:"home,omitempty"`
	// Dir is the number of the home in its file system, 0 where it could not
	// be looked at: hosts that share homes have the same.
	Dir uint64 `json:"dir,omitempty"`
}

// Renewal is a host's further certificate and the authority's, PEM.
type Renewal struct {
	Chain []byte `json:"chain"`
}

// AuditEntry is an entry of a host's audit, without its chain.
type AuditEntry struct {
	N        uint64    `json:"n"`
	When     time.Time `json:"when"`
	Host     string    `json:"host"`
	What     string    `json:"what"`
	Who      string    `json:"who,omitempty"`
	Token    string    `json:"token,omitempty"`
	Terminal string    `json:"terminal,omitempty"`
	Addr     string    `json:"addr,omitempty"`
	Session  string    `json:"session,omitempty"`
	Text     string    `json:"text,omitempty"`
	Before   uint64    `json:"before,omitempty"`
	After    uint64    `json:"after,omitempty"`
}

// GroupAudit is the audit of all hosts that answered, by time. Cut tells that
// older entries were left out: MaxAudit of a host are the most.
type GroupAudit struct {
	Entries []AuditEntry `json:"entries"`
	Cut     bool         `json:"cut,omitempty"`
	Missing []Missing    `json:"missing"`
}

// AuditQuery says which entries are meant: those that fit all that is set.
type AuditQuery struct {
	Since time.Time
	Token string
	User  string
	What  string
	Limit int // newest entries of a host; 0: MaxAudit
}

// Fits reports whether an entry is meant.
func (q AuditQuery) Fits(e AuditEntry) bool {
	return !e.When.Before(q.Since) && (q.Token == "" || e.Token == q.Token) && (q.User == "" || e.Who == q.User) && (q.What == "" || e.What == q.What)
}

// Values is the query of a path.
func (q AuditQuery) Values() url.Values {
	v := url.Values{}
	for key, s := range map[string]string{"token": q.Token, "user": q.User, "what": q.What} {
		if s != "" {
			v.Set(key, s)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParseAuditQuery reads the query of a path. Other keys are the caller's. The
// error is an Invalid.
func ParseAuditQuery(v url.Values) (AuditQuery, error) {
	q := AuditQuery{Token: v.Get("token"), User: v.Get("user"), What: v.Get("what"), Limit: MaxAudit}
	if slices.ContainsFunc([]string{q.Token, q.User, q.What}, func(s string) bool { return len(s) > MaxReason }) {
		return AuditQuery{}, invalid("token, user and what have at most %d bytes", MaxReason)
	}
	if s := v.Get("since"); s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return AuditQuery{}, invalid("since=%.40q is no time as 2006-01-02T15:04:05Z", s)
		}
		q.Since = t
	}
	if s := v.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > MaxAudit {
			return AuditQuery{}, invalid("limit= is from 1 to %d", MaxAudit)
		}
		q.Limit = n
	}
	return q, nil
}

// SortAudit puts entries of several hosts into the order of their times.
func SortAudit(all []AuditEntry) {
	slices.SortFunc(all, func(a, b AuditEntry) int {
		return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.Host, b.Host), cmp.Compare(a.N, b.N))
	})
}
