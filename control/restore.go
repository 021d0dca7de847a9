// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Restore is what AfterRestore needs.
type Restore struct {
	Database Database
	Keys     Keys
	// Lists are the newest revocation lists that were published before the database was put back, in DER or PEM.
	Lists [][]byte
	Now   time.Time
	Log   *slog.Logger
}

// Restored is what AfterRestore has done.
type Restored struct {
	store.Voided
	Lists []RestoredList
}

// RestoredList is a list that was imported.
type RestoredList struct {
	Tenant, Key string
	Number      int64
	store.Imported
}

// AfterRestore lets a database that was put back from a backup go on, without bringing back to life what was revoked or
// used since. Nothing else may use the database meanwhile. It may be called again.
func AfterRestore(ctx context.Context, r Restore) (Restored, error) {
	var done Restored
	db, err := openStore(ctx, r.Database, r.Log)
	if err != nil {
		return done, err
	}
	defer func() { _ = db.Close() }()
	if _, err := openKeyring(ctx, r.Keys, db); err != nil {
		return done, err
	}
	// All lists are read and verified before anything is written.
	lists, err := verifyLists(ctx, db, r)
	if err != nil {
		return done, err
	}
	done.Voided, err = db.VoidAfterBackup(ctx, store.Restored{At: r.Now, Setting: settingLine, Line: []byte(rand.Text())})
	if errors.Is(err, store.ErrState) {
		return done, fmt.Errorf("stop all processes of the control plane first, and wait for half a minute: %w", err)
	}
	if err != nil {
		return done, fmt.Errorf("void what was handed out since the backup: %w", err)
	}
	for _, l := range lists {
		imported, err := db.ImportRevocationList(ctx, fleet.System(l.Tenant, r.Now), l.RevocationList, l.names)
		if err != nil {
			return done, fmt.Errorf("import list %d of key %s: %w", l.Number, l.Key, err)
		}
		done.Lists = append(done.Lists, RestoredList{string(l.Tenant), string(l.Key), l.Number, imported})
	}
	return done, nil
}

// published is a list with what it names.
type published struct {
	fleet.RevocationList
	names []fleet.Revoked
}

func verifyLists(ctx context.Context, db store.Store, r Restore) ([]published, error) {
	signers, err := listSigners(ctx, db, r.Now)
	if err != nil {
		return nil, err
	}
	lists := make([]published, 0, len(r.Lists))
	for i, raw := range r.Lists {
		if block, _ := pem.Decode(raw); block != nil {
			raw = block.Bytes
		}
		parsed, err := x509.ParseRevocationList(raw)
		if err != nil {
			return nil, fmt.Errorf("list %d: %w", i+1, err)
		}
		l, err := signedBy(parsed, signers)
		if err != nil {
			return nil, fmt.Errorf("list %d: %w", i+1, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}

// signer is a key that signs lists, of any tenant and in any state.
type signer struct {
	tenant      fleet.TenantID
	key         fleet.KeyID
	certificate *x509.Certificate
}

func listSigners(ctx context.Context, db store.Store, now time.Time) ([]signer, error) {
	tenants, err := db.Tenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var signers []signer
	for _, t := range tenants {
		keys, err := db.SigningKeyUses(ctx, t.ID, now)
		if err != nil {
			return nil, fmt.Errorf("list signing keys: %w", err)
		}
		for _, k := range keys {
			certificate, err := x509.ParseCertificate(k.CertificateDER)
			if err != nil {
				return nil, fmt.Errorf("certificate of key %s: %w", k.ID, err)
			}
			signers = append(signers, signer{t.ID, k.ID, certificate})
		}
	}
	return signers, nil
}

var errNoSigner = errors.New("no signing key of this installation has signed it")

func signedBy(l *x509.RevocationList, signers []signer) (published, error) {
	for _, s := range signers {
		if !bytes.Equal(l.RawIssuer, s.certificate.RawSubject) || l.CheckSignatureFrom(s.certificate) != nil {
			continue
		}
		p := published{RevocationList: fleet.RevocationList{
			Tenant: s.tenant, Key: s.key, Number: l.Number.Int64(), DER: l.Raw, ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate,
		}}
		for _, e := range l.RevokedCertificateEntries {
			p.names = append(p.names, fleet.Revoked{
				Serial: fleet.Serial(identity.SerialOf(e.SerialNumber)), At: e.RevocationTime, Reason: fleet.RevocationReason(e.ReasonCode),
			})
		}
		return p, nil
	}
	return published{}, errNoSigner
}
