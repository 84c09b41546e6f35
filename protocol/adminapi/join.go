package adminapi

import (
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// JoinALPN is the protocol by which a host joins a group, over TLS 1.3: the
// joining host sends a JoinRequest as a line of JSON, the other answers with a
// JoinAnswer and closes.
const JoinALPN = "hotdesk-join/1"

// JoinPort is where a host waits for the one that joins.
const JoinPort = 7444

const (
	// MaxJoin bounds a request and an answer, in bytes.
	MaxJoin = 64 << 10
	// JoinSecretSize is the size of the secret, in bytes.
	JoinSecretSize = 16
	joinWord       = "hotdesk-join-1"
	maxJoinLine    = 512
)

// Join is what the host that invites tells the one that joins, as one line to
// paste. Its secret is good once, until Expires: whoever has the line can join
// the group. The fingerprint keeps others from posing as the group.
type Join struct {
	Addr        netip.AddrPort
	Fingerprint string // SHA-256 of the authority's certificate, 64 hex digits
	Secret      JoinSecret
	Expires     time.Time // in seconds
}

// JoinSecret hides itself.
type JoinSecret [JoinSecretSize]byte

func (JoinSecret) String() string   { return "secret" }
func (JoinSecret) GoString() string { return "secret" }

// AppendText writes the line, without its end.
func (j Join) AppendText(b []byte) []byte {
	b = append(b, joinWord+" "+j.Addr.String()+" "+j.Fingerprint+" "...)
	b = base64.RawURLEncoding.AppendEncode(b, j.Secret[:])
	return strconv.AppendInt(append(b, ' '), j.Expires.Unix(), 10)
}

// ParseJoin reads the line. The error is an Invalid.
func ParseJoin(line string) (Join, error) {
	bad := func(what string) (Join, error) {
		return Join{}, invalid("this is not the line that `hotdesk setup invite` printed (%s): copy all of it", what)
	}
	if len(line) > maxJoinLine {
		return bad("it is too long")
	}
	f := strings.Fields(line)
	if len(f) != 5 || f[0] != joinWord {
		return bad("it has five words, the first is " + joinWord)
	}
	var j Join
	var err error
	if j.Addr, err = netip.ParseAddrPort(f[1]); err != nil || j.Addr.Port() == 0 || j.Addr.Addr().Zone() != "" {
		return bad("the second word is ADDRESS:PORT")
	}
	if b, err := hex.DecodeString(f[2]); err != nil || len(b) != 32 || strings.ToLower(f[2]) != f[2] {
		return bad("the third word is a fingerprint")
	}
	j.Fingerprint = f[2]
	b, err := base64.RawURLEncoding.Strict().DecodeString(f[3])
	if err != nil || len(b) != JoinSecretSize {
		return bad("the fourth word is a secret")
	}
	j.Secret = JoinSecret(b)
	n, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil || n < 0 || n > 1<<40 || strconv.FormatInt(n, 10) != f[4] {
		return bad("the fifth word is a time")
	}
	j.Expires = time.Unix(n, 0)
	return j, nil
}

// JoinRequest is what a host says that joins.
type JoinRequest struct {
	Secret  []byte `json:"secret"`
	Host    string `json:"host"`
	Request []byte `json:"request"` // for a certificate, DER
	Time    int64  `json:"time"`    // of its clock, Unix seconds
}

// JoinAnswer is what it gets. Error is empty where it got it.
type JoinAnswer struct {
	Error string `json:"error,omitempty"`
	Chain []byte `json:"chain,omitempty"` // its certificate and the authority's, PEM
	Key   []byte `json:"key,omitempty"`   // the group's key file
	Host  string `json:"host,omitempty"`  // who answers
	// Registry is where the group's registry can be followed, empty where the
	// inviting host says nothing of it.
	Registry string `json:"registry,omitempty"`
}
