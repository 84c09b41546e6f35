package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// keyBlock is the form of a terminal's key in its file.
const keyBlock = "PRIVATE KEY"

// openKey reads the terminal's own key, or makes it where there is none yet. By
// it a host knows the terminal again, whose id anybody could say.
func openKey(file string) (*tls.Certificate, error) {
	signer, err := readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		var text []byte
		if signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			text, err = x509.MarshalPKCS8PrivateKey(signer)
		}
		if err == nil {
			err = place(file, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: text}))
		}
		if errors.Is(err, fs.ErrExist) { // another program with this file was faster
			signer, err = readKey(file)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("trust: -key-file: %w", err)
	}
	// The certificate says nothing: what counts is who has the key.
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Hotdesk terminal"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5: none
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &signer.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}, nil
}

// Lasts reports whether a directory can be written to and is still there after
// the machine was switched off, as far as its file system tells.
func Lasts(dir string) bool {
	var fs unix.Statfs_t
	if unix.Access(dir, unix.W_OK) != nil || unix.Statfs(dir, &fs) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC: // the last is a live system's, most likely
		return false
	}
	return true
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others: chmod 600 it, or take it away for a new key", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%s holds no key: take it away for a new one", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || signer.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s holds another kind of key: take it away for a new one", file)
	}
	return signer, nil
}
