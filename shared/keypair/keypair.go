// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package keypair is the certificate and key of a server in two PEM files, read again when one of them changes: whoever
// renews them need not restart the server.
package keypair

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Every is how often the files are looked at, while somebody asks for the certificate.
const Every = 10 * time.Second

// Files is the pair in two files. While what is there does not fit together, as between the writing of the one and of the
// other, the former pair goes on serving.
type Files struct {
	certFile, keyFile string
	clock             func() time.Time
	log               *slog.Logger

	mu      sync.Mutex
	checked time.Time
	changed [2]time.Time
	current *tls.Certificate
	failing string // what was logged of files that cannot be used
}

// Open reads the files; an error says which are unusable.
func Open(certFile, keyFile string, clock func() time.Time, log *slog.Logger) (*Files, error) {
	f := &Files{certFile: certFile, keyFile: keyFile, clock: clock, log: log, checked: clock()}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Certificate is for tls.Config.GetCertificate.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.clock(); now.Sub(f.checked) >= Every {
		f.checked = now
		f.reload()
	}
	return f.current, nil
}

// reload says once what became of the files: it is asked again and again.
func (f *Files) reload() {
	anew, err := f.load()
	switch {
	case err != nil && err.Error() != f.failing:
		f.failing = err.Error()
		f.log.WarnContext(context.Background(), "the server certificate cannot be read again; the former one goes on", "error", err, "file", f.certFile)
	case err == nil:
		f.failing = ""
		if anew {
			f.log.InfoContext(context.Background(), "the server certificate was read again", "file", f.certFile)
		}
	}
}

func (f *Files) load() (anew bool, err error) {
	var changed [2]time.Time
	for i, name := range []string{f.certFile, f.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return false, fmt.Errorf("the server certificate: %w", err)
		}
		changed[i] = info.ModTime()
	}
	if f.current != nil && changed == f.changed {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return false, fmt.Errorf("the server certificate in %s and %s: %w", f.certFile, f.keyFile, err)
	}
	f.current, f.changed = &pair, changed
	return true, nil
}
