// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// fileName holds the key and, once there is one, the certificate chain: one file, so that
// the two always fit together.
const fileName = "gateway.pem"

// load reads what is kept; nil if there is nothing.
func (m *Member) load() (*credential, error) {
	if m.Dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(m.Dir, fileName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("AMPORA_GATEWAY_IDENTITY_DIR: %w", err)
	}
	kept, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("AMPORA_GATEWAY_IDENTITY_DIR: %s: %w", fileName, err)
	}
	return kept, nil
}

func parse(text []byte) (*credential, error) {
	block, chain := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it does not begin with a private key")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its private key is unreadable") // the parser's words may quote it
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("its private key is not an elliptic one")
	}
	kept := &credential{key: key}
	if len(bytes.TrimSpace(chain)) == 0 {
		return kept, nil // the process ended before it was certified
	}
	return kept, kept.certify(chain)
}

// save keeps a credential: whole and on disk before it takes the place of another.
func (m *Member) save(c *credential) error {
	if m.Dir == "" {
		return nil
	}
	if err := m.write(c); err != nil {
		return fmt.Errorf("AMPORA_GATEWAY_IDENTITY_DIR: %w", err)
	}
	return nil
}

func (m *Member) write(c *credential) error {
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), c.pem...)
	defer clear(text)
	clear(der)
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(m.Dir, "."+fileName+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(m.Dir, fileName))
}
