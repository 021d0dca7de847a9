// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func TestSigningKeys(t *testing.T) {
	w := newWorld(t)
	must(0, w.authority.EnsureTenant(t.Context(), tenant, w.now()))(t)
	admin, viewer := w.as(fleet.RoleAdmin), w.as(fleet.RoleViewer)
	const (
		active  = amporav1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE
		trusted = amporav1.SigningKeyState_SIGNING_KEY_STATE_TRUSTED
		retired = amporav1.SigningKeyState_SIGNING_KEY_STATE_RETIRED
	)
	list := func() map[string]*amporav1.SigningKey {
		t.Helper()
		keys := map[string]*amporav1.SigningKey{}
		for _, k := range must(viewer.signingKeys.ListSigningKeys(t.Context(), &amporav1.ListSigningKeysRequest{}))(t).GetSigningKeys() {
			keys[k.GetId()] = k
		}
		return keys
	}
	var former string
	for id, k := range list() {
		if k.GetKind() == "intermediate" {
			former = id
		}
		if k.GetState() != active || !strings.HasPrefix(k.GetCertificatePem(), "-----BEGIN CERTIFICATE") || k.GetNotAfter() == nil ||
			k.GetAlgorithm() != amporav1.SigningKeyAlgorithm_SIGNING_KEY_ALGORITHM_ECDSA_P256 {
			t.Errorf("a key is %v", k)
		}
	}
	_, err := w.as(fleet.RoleOperator).signingKeys.CreateSigningKey(t.Context(), &amporav1.CreateSigningKeyRequest{})
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	draft := must(admin.signingKeys.CreateSigningKey(t.Context(), &amporav1.CreateSigningKeyRequest{Algorithm: amporav1.SigningKeyAlgorithm_SIGNING_KEY_ALGORITHM_RSA_3072}))(t).GetSigningKey()
	if draft.GetState() != amporav1.SigningKeyState_SIGNING_KEY_STATE_DRAFT || draft.GetAlgorithm() != amporav1.SigningKeyAlgorithm_SIGNING_KEY_ALGORITHM_RSA_3072 {
		t.Errorf("the draft is %v", draft)
	}

	// Not before the gateways know it.
	must(0, w.store.RegisterGateway(t.Context(), fleet.Gateway{ID: "gw-1", BootID: 1, StartedAt: w.now(), LeaseUntil: w.now().Add(time.Hour)}))(t)
	activate := &amporav1.ActivateSigningKeyRequest{Id: draft.GetId()}
	_, err = admin.signingKeys.ActivateSigningKey(t.Context(), activate)
	refused(t, err, connect.CodeFailedPrecondition, fleet.KeyNotConfirmed)
	activate.Force = true
	if k := must(admin.signingKeys.ActivateSigningKey(t.Context(), activate))(t).GetSigningKey(); k.GetState() != active || k.GetConfirmedGateways() != 0 || k.GetGateways() != 1 {
		t.Errorf("active it is %v", k)
	}
	if key, err := w.authority.ActiveKey(t.Context(), tenant); err != nil || string(key) != draft.GetId() {
		t.Errorf("%s signs, %v", key, err)
	}
	if k := list()[former]; k.GetState() != trusted || k.GetTrustedAt() == nil {
		t.Errorf("the former one is %v", k)
	}
	_, err = admin.signingKeys.RetireSigningKey(t.Context(), &amporav1.RetireSigningKeyRequest{Id: draft.GetId(), Force: true})
	refused(t, err, connect.CodeFailedPrecondition, fleet.KeyState)
	if k := must(admin.signingKeys.RetireSigningKey(t.Context(), &amporav1.RetireSigningKeyRequest{Id: former}))(t).GetSigningKey(); k.GetState() != retired || k.GetRetiredAt() == nil {
		t.Errorf("retired it is %v", k)
	}
	if bundle, err := w.authority.Bundle(t.Context(), tenant); err != nil || len(bundle.Intermediates) != 1 {
		t.Errorf("trusted are %v, %v", bundle, err)
	}
	for _, id := range []string{strings.Repeat("0", 32), former + "0", "key"} {
		_, err = admin.signingKeys.ActivateSigningKey(t.Context(), &amporav1.ActivateSigningKeyRequest{Id: id})
		if len(id) == 32 {
			refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
		} else {
			refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
		}
	}
	// What a key has signed is revoked by its name alone.
	_, err = admin.certificates.RevokeCertificates(t.Context(), &amporav1.RevokeCertificatesRequest{SigningKeyId: strings.Repeat("0", 32)})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = admin.certificates.RevokeCertificates(t.Context(), &amporav1.RevokeCertificatesRequest{SigningKeyId: former, Serials: []string{"5e"}})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	if got := must(admin.certificates.RevokeCertificates(t.Context(), &amporav1.RevokeCertificatesRequest{SigningKeyId: former}))(t).GetCertificates(); len(got) != 0 {
		t.Errorf("revoked %v", got)
	}
}
