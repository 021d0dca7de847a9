// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The files of an identity. The pending ones exist between the making of a key and the arrival of its certificate.
const (
	keyFile         = "key.pem"
	certFile        = "cert.pem"
	caFile          = "ca.pem"
	pendingKeyFile  = "key.pem.pending"
	pendingCertFile = "cert.pem.pending"
)

// dir is the directory an identity lives in.
type dir string

func openDir(path string) (dir, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding the directory: %w", err)
	}
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return "", fmt.Errorf("making the directory: %w", err)
	}
	return dir(absolute), nil
}

func (d dir) path(name string) string { return filepath.Join(string(d), name) }

// pendingKey returns the key of an unfinished enrolment, or makes one and keeps it. That it is on disk before anything
// is asked is what lets a lost answer be asked for again, and finds an unwritable directory before a token is spent.
func (d dir) pendingKey() (*ecdsa.PrivateKey, error) {
	key, err := d.readKey(pendingKeyFile)
	if err == nil {
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key of an unfinished enrolment cannot be used (remove %s to start again): %w",
			d.path(pendingKeyFile), err)
	}
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	return key, d.write(pendingKeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// arrived returns the certificate of a pending key if an earlier run got as far as that: it is still pending, or in place
// already while its key is not. nil: there is none.
func (d dir) arrived() (*chain, error) {
	key, err := d.readKey(pendingKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing pending is the normal case
	}
	if err != nil {
		return nil, fmt.Errorf("the key of an unfinished enrolment cannot be used (remove %s to start again): %w",
			d.path(pendingKeyFile), err)
	}
	for _, name := range []string{pendingCertFile, certFile} {
		if chain, err := d.readChain(name); err == nil && chain.fits(key) {
			return &chain, nil
		}
	}
	return nil, nil //nolint:nilnil // the key is there, its certificate is not
}

// install puts an identity in place. The certificate is durable beside its key before anything is replaced; from then on
// another run finishes what is left.
func (d dir) install(chain chain, serverCA []byte) error {
	if err := d.write(pendingCertFile, chain.pem(), 0o644); err != nil {
		return err
	}
	if len(serverCA) > 0 {
		if err := d.write(caFile, serverCA, 0o644); err != nil {
			return err
		}
	}
	// The key goes last: as long as it is pending, the run is unfinished.
	for _, step := range [][2]string{{pendingCertFile, certFile}, {pendingKeyFile, keyFile}} {
		if err := os.Rename(d.path(step[0]), d.path(step[1])); err != nil {
			return fmt.Errorf("putting the identity in place: %w", err)
		}
		if err := d.sync(); err != nil {
			return err
		}
	}
	return nil
}

// inPlace returns the identity in place if it is valid at now.
func (d dir) inPlace(now time.Time) (*ecdsa.PrivateKey, chain, error) {
	key, err := d.readKey(keyFile)
	if err != nil {
		return nil, nil, err
	}
	chain, err := d.readChain(certFile)
	switch {
	case err != nil:
		return nil, nil, err
	case !chain.fits(key):
		return nil, nil, errors.New("key and certificate do not belong together")
	case now.After(chain.leaf().NotAfter):
		return nil, nil, fmt.Errorf("the certificate expired on %s", chain.leaf().NotAfter.UTC().Format(time.RFC3339))
	}
	return key, chain, nil
}

// write replaces a file: the new one is whole and durable before it takes the old one's name.
func (d dir) write(name string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(string(d), "."+name+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), d.path(name))
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return d.sync()
}

// sync makes renames durable.
func (d dir) sync() error {
	handle, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	err = errors.Join(handle.Sync(), handle.Close())
	if err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}

func (d dir) readKey(name string) (*ecdsa.PrivateKey, error) {
	content, err := os.ReadFile(d.path(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key in PKCS #8 PEM form", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no ECDSA key", name)
	}
	return key, nil
}

func (d dir) readChain(name string) (chain, error) {
	content, err := os.ReadFile(d.path(name))
	if err != nil {
		return nil, err
	}
	return parseChain(content)
}
