// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// reloadCheck is how often the files of the server's certificate are looked at.
const reloadCheck = 10 * time.Second

// FileCertificate is the server's certificate from two PEM files, read again when one
// of them changes. While the new pair does not fit together, as between the writing of
// its two files, the old one goes on serving.
type FileCertificate struct {
	certFile, keyFile string
	clock             func() time.Time

	mu      sync.Mutex
	checked time.Time
	changed [2]time.Time
	current *tls.Certificate
}

// NewFileCertificate reads the files; an error says which are unusable.
func NewFileCertificate(certFile, keyFile string, clock func() time.Time) (*FileCertificate, error) {
	f := &FileCertificate{certFile: certFile, keyFile: keyFile, clock: clock}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Certificate is for tls.Config.GetCertificate.
func (f *FileCertificate) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.clock(); now.Sub(f.checked) >= reloadCheck {
		_ = f.load() // the old pair is as good as it was
	}
	return f.current, nil
}

func (f *FileCertificate) load() error {
	f.checked = f.clock()
	var changed [2]time.Time
	for i, name := range []string{f.certFile, f.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("the server certificate: %w", err)
		}
		changed[i] = info.ModTime()
	}
	if f.current != nil && changed == f.changed {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return fmt.Errorf("the server certificate in %s and %s: %w", f.certFile, f.keyFile, err)
	}
	f.current, f.changed = &pair, changed
	return nil
}
