package app

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/protocol/program"
	"hotdesk/server/auth"
)

// inviteAddr is where the joining host finds this one.
func (c *command) inviteAddr() (netip.AddrPort, error) {
	s := c.setup.listen
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, adminapi.JoinPort), nil
	}
	if s != "" {
		return netip.AddrPort{}, program.Usagef("-listen %q is not ADDRESS or ADDRESS:PORT", s)
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return netip.AddrPortFrom(p.Addr(), adminapi.JoinPort), nil
		}
	}
	return netip.AddrPort{}, program.Usagef("this host has no address that another could reach: give one with -listen")
}

// setupInvite waits for one host to join.
func (c *command) setupInvite(ctx context.Context, _ []string) error {
	if err := c.needRoot(); err != nil {
		return err
	}
	if c.setup.within <= 0 || c.setup.within > maxInvite {
		return program.Usagef("-within %v: up to %v", c.setup.within, maxInvite)
	}
	if r := c.setup.registry; r != "" {
		if u, err := url.Parse(r); err != nil || u.Scheme != "https" || u.Port() == "" || u.Path != "" {
			return program.Usagef("-registry %q is not https://ADDRESS:PORT", r)
		}
	}
	name, err := c.hostName()
	if err != nil {
		return err
	}
	a, err := auth.Open(c.stateDir())
	if err != nil {
		return fmt.Errorf("only the host that has the authority's key can invite: %w", err)
	}
	certFile, keyFile, err := a.Host(name)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	keys, err := os.ReadFile(c.keyFile())
	if err != nil {
		return err
	}
	at, err := c.inviteAddr()
	if err != nil {
		return err
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	defer ln.Close()
	j := adminapi.Join{Addr: ln.Addr().(*net.TCPAddr).AddrPort(), Fingerprint: a.Fingerprint(), Expires: time.Now().Add(c.setup.within).Truncate(time.Second)}
	j.Addr = netip.AddrPortFrom(j.Addr.Addr().Unmap(), j.Addr.Port())
	rand.Read(j.Secret[:])
	fmt.Fprintf(c.stderr, "run `hotdesk setup join` on the other host and paste this line there, within %v:\n", c.setup.within)
	fmt.Fprintf(c.stdout, "%s\n", j.AppendText(nil))

	ctx, cancel := context.WithDeadline(ctx, j.Expires)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{adminapi.JoinALPN}, SessionTicketsDisabled: true}
	h := inviter{a: a, join: j, keys: keys, host: name, registry: c.setup.registry}
	for {
		nc, err := ln.Accept()
		if err != nil {
			if context.Cause(ctx) == context.DeadlineExceeded {
				return adminapi.Error{Code: adminapi.CodeAway, Text: "no host has joined in time: invite again"}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		stop := context.AfterFunc(ctx, func() { nc.Close() })
		joined, err := h.serve(ctx, tls.Server(nc, conf), nc.RemoteAddr().String())
		stop()
		nc.Close()
		if err != nil {
			fmt.Fprintf(c.stderr, "hotdesk: %s: %v\n", nc.RemoteAddr(), err)
		}
		if joined != "" {
			fmt.Fprintf(c.stdout, "%s has joined\n", joined)
			return nil
		}
		if h.wrong >= maxTries {
			return adminapi.Error{Code: adminapi.CodeDenied, Text: fmt.Sprintf("%d attempts with a wrong secret: somebody guesses. Find out who, then invite again", h.wrong)}
		}
	}
}

// An inviter answers those that want to join, one after the other.
type inviter struct {
	a        *auth.Authority
	join     adminapi.Join
	keys     []byte
	host     string
	registry string
	wrong    int
}

// serve answers one; joined is its name if it has joined.
func (h *inviter) serve(ctx context.Context, nc *tls.Conn, peer string) (joined string, err error) {
	nc.SetDeadline(time.Now().Add(joinTime))
	if err := nc.HandshakeContext(ctx); err != nil {
		return "", err
	}
	if nc.ConnectionState().NegotiatedProtocol != adminapi.JoinALPN {
		return "", errors.New("it wants something else than to join")
	}
	line, err := bufio.NewReader(io.LimitReader(nc, adminapi.MaxJoin)).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var q adminapi.JoinRequest
	var answer adminapi.JoinAnswer
	if err = json.Unmarshal(line, &q); err != nil {
		return "", err
	}
	off := time.Since(time.Unix(q.Time, 0)).Abs()
	switch {
	case subtle.ConstantTimeCompare(q.Secret, h.join.Secret[:]) != 1:
		h.wrong++
		answer.Error = "the secret is not the one of this invitation: paste the line that was printed last"
	case !time.Now().Before(h.join.Expires):
		answer.Error = "the invitation has run out: invite again"
	case q.Host == h.host:
		answer.Error = fmt.Sprintf("the host that invites is called %s too: give another name with -host", q.Host)
	case off > clockApart+joinTime:
		answer.Error = fmt.Sprintf("the clocks of the two hosts are %v apart: set both by the same time server", off.Round(time.Second))
	default:
		answer.Chain, err = h.a.Sign(q.Host, q.Request)
		if err != nil {
			answer.Error = err.Error()
			break
		}
		answer.Key, answer.Host, answer.Registry = h.keys, h.host, h.registry
		joined = q.Host
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return "", err
	}
	if _, err := nc.Write(append(b, '\n')); err != nil {
		return "", err
	}
	// The other end closes once it has all of it.
	_, _ = io.Copy(io.Discard, io.LimitReader(nc, 1))
	if answer.Error != "" {
		return "", errors.New(answer.Error)
	}
	return joined, nil
}

// setupJoin joins the group whose line comes in.
func (c *command) setupJoin(ctx context.Context, _ []string) error {
	if err := c.needRoot(); err != nil {
		return err
	}
	name, err := c.hostName()
	if err != nil {
		return err
	}
	if c.setup.registry != "" {
		return program.Usagef("-registry is for `setup invite`; the line says where the registry is")
	}
	fmt.Fprintln(c.stderr, "paste the line that `hotdesk setup invite` printed on the other host:")
	line, err := bufio.NewReader(io.LimitReader(c.stdin, 4096)).ReadString('\n')
	if err != nil && line == "" {
		return program.Usagef("there is no line on standard input")
	}
	j, err := adminapi.ParseJoin(line)
	if err != nil {
		return err
	}
	if !time.Now().Before(j.Expires) {
		return adminapi.Error{Code: adminapi.CodeConflict, Text: "the line is no longer good since " + at(j.Expires) + ", or this host's clock is wrong: invite again"}
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	key, request, err := auth.Request(name)
	if err != nil {
		return err
	}
	answer, err := ask(ctx, j, adminapi.JoinRequest{Secret: j.Secret[:], Host: name, Request: request, Time: time.Now().Unix()})
	if err != nil {
		return err
	}
	if err := auth.Install(c.stateDir(), name, j.Fingerprint, key, answer.Chain); err != nil {
		return err
	}
	if err := c.writeKeys(answer.Key); err != nil {
		return err
	}
	if err := c.configure(name, answer.Registry); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s has joined the group of %s\n", name, cmp.Or(answer.Host, j.Addr.String()))
	c.next("hotdesk status")
	return nil
}

// ask is the joining host's end of the conversation. It sends the secret to
// none but the authority with the fingerprint.
func ask(ctx context.Context, j adminapi.Join, q adminapi.JoinRequest) (adminapi.JoinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	away := func(err error) error {
		return adminapi.Error{Code: adminapi.CodeAway, Text: fmt.Sprintf("the host that invites does not answer at %s: is `hotdesk setup invite` still running there, and the port open? %v", j.Addr, err)}
	}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{adminapi.JoinALPN}, ServerName: alp.ServerName,
		InsecureSkipVerify:    true, // the authority is in no list: VerifyPeerCertificate looks for the one that was named
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { return pinned(raw, j.Fingerprint) },
	}}
	nc, err := d.DialContext(ctx, "tcp", j.Addr.String())
	if err != nil {
		return adminapi.JoinAnswer{}, away(err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	b, err := json.Marshal(q)
	if err == nil {
		_, err = nc.Write(append(b, '\n'))
	}
	var line []byte
	if err == nil {
		line, err = bufio.NewReader(io.LimitReader(nc, adminapi.MaxJoin)).ReadBytes('\n')
	}
	if err != nil {
		return adminapi.JoinAnswer{}, away(err)
	}
	var a adminapi.JoinAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return adminapi.JoinAnswer{}, fmt.Errorf("the answer of %s cannot be read: %w", j.Addr, err)
	}
	if a.Error != "" {
		return adminapi.JoinAnswer{}, adminapi.Error{Code: adminapi.CodeDenied, Text: j.Addr.String() + " refuses: " + a.Error}
	}
	return a, nil
}

// pinned checks a chain against the authority with a fingerprint.
func pinned(raw [][]byte, fingerprint string) error {
	if len(raw) != 2 || fmt.Sprintf("%x", sha256.Sum256(raw[1])) != fingerprint {
		return errors.New("it is not of the group that the line names: somebody may be in between")
	}
	host, err1 := x509.ParseCertificate(raw[0])
	top, err2 := x509.ParseCertificate(raw[1])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(top)
	_, err := host.Verify(x509.VerifyOptions{Roots: roots, DNSName: alp.ServerName})
	return err
}
