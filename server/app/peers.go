package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/admin"
)

// Gateways of a group talk to each other on the control port: both ends show
// the group's certificate.

// peerConfigs are the two ends' of such a connection.
func (i hostKeys) peerConfigs() (answer, ask *tls.Config, err error) {
	pair, err := tls.X509KeyPair(i.cert, i.key)
	if err != nil {
		return nil, nil, fmt.Errorf("server: the host's certificate: %w", err)
	}
	group := x509.NewCertPool()
	if !group.AppendCertsFromPEM(i.authority()) {
		return nil, nil, errors.New("server: the group's authority is no certificate")
	}
	base := tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{adminapi.PeerALPN}, SessionTicketsDisabled: true}
	answer, ask = base.Clone(), base.Clone()
	answer.ClientAuth, answer.ClientCAs = tls.RequireAndVerifyClientCert, group
	ask.RootCAs, ask.ServerName = group, alp.ServerName
	return answer, ask, nil
}

func (i *passport) dialPeer() admin.DialPeer {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		d := tls.Dialer{Config: i.now.Load().ask}
		nc, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return nil, err
		}
		if nc.(*tls.Conn).ConnectionState().NegotiatedProtocol != adminapi.PeerALPN {
			nc.Close()
			return nil, fmt.Errorf("%v is of a version that does not answer other hosts", to)
		}
		return nc, nil
	}
}
