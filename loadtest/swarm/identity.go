// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Identity is what an agent enrolled for.
type Identity struct {
	// Certificate is the chain with its key, leaf first.
	Certificate *tls.Certificate
	// SPIFFE is the name in it, spiffe://TRUST-DOMAIN/tenant/TENANT/agent/ID.
	SPIFFE string
	// Serial is the leaf's serial number, lower-case hexadecimal.
	Serial string
}

// Agent is the id in its name.
func (i Identity) Agent() string { return i.SPIFFE[strings.LastIndexByte(i.SPIFFE, '/')+1:] }

// Domain is all of its name but the agent's id: agents of one tenant share it.
func (i Identity) Domain() string { return i.SPIFFE[:strings.LastIndexByte(i.SPIFFE, '/')+1] }

// newIdentity reads the names in a certificate.
func newIdentity(certificate *tls.Certificate) (Identity, error) {
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return Identity{}, err
	}
	if len(leaf.URIs) != 1 || !strings.Contains(leaf.URIs[0].Path, "/agent/") {
		return Identity{}, errors.New("the certificate does not name one agent")
	}
	certificate.Leaf = nil // TLS does not need it, and thousands of them are large
	return Identity{Certificate: certificate, SPIFFE: leaf.URIs[0].String(), Serial: leaf.SerialNumber.Text(16)}, nil
}

// Identities is the file of a swarm's identities. It only grows, one identity after the
// other, so that an enrolment that was interrupted goes on where it was.
type Identities struct {
	path string

	mu   sync.Mutex
	list []Identity
}

// OpenIdentities reads the identities in a folder, which is made if it is not there.
func OpenIdentities(dir string) (*Identities, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := &Identities{path: filepath.Join(dir, "identities.pem")}
	text, err := os.ReadFile(file.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	whole, err := file.read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.path, err)
	}
	if whole < len(text) { // the last one was cut off
		return file, os.Truncate(file.path, int64(whole))
	}
	return file, nil
}

// read takes all whole identities and says how many bytes they are.
func (f *Identities) read(text []byte) (whole int, err error) {
	seen := map[string][]byte{} // issuers, which are the same in all
	for whole < len(text) {
		end := bytes.Index(text[whole:], []byte(endOfIdentity))
		if end < 0 {
			return whole, nil
		}
		end += whole + len(endOfIdentity)
		one, err := parseIdentity(text[whole:end], seen)
		if err != nil {
			return whole, err
		}
		f.list = append(f.list, one)
		whole = end
	}
	return whole, nil
}

// endOfIdentity follows each identity.
const endOfIdentity = "# end\n"

func parseIdentity(text []byte, seen map[string][]byte) (Identity, error) {
	certificate := &tls.Certificate{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "PRIVATE KEY" {
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return Identity{}, err
			}
			certificate.PrivateKey = key
			continue
		}
		der := block.Bytes
		if len(certificate.Certificate) > 0 {
			if known := seen[string(der)]; known != nil {
				der = known
			}
			seen[string(der)] = der
		}
		certificate.Certificate = append(certificate.Certificate, der)
	}
	if certificate.PrivateKey == nil || len(certificate.Certificate) == 0 {
		return Identity{}, errors.New("an identity without a key or without a certificate")
	}
	return newIdentity(certificate)
}

// Add appends an identity to the file.
func (f *Identities) Add(certificate *tls.Certificate) error {
	one, err := newIdentity(certificate)
	if err != nil {
		return err
	}
	text, err := encodeIdentity(certificate)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return errors.Join(err, file.Close())
	}
	f.list = append(f.list, one)
	return file.Close()
}

func encodeIdentity(certificate *tls.Certificate) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey.(crypto.Signer))
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range certificate.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return append(text, endOfIdentity...), nil
}

// List is all identities in the order in which they were enrolled.
func (f *Identities) List() []Identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list[:len(f.list):len(f.list)]
}
