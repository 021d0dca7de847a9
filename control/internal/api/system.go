// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// system is the SystemService.
type system struct{ Deps }

// GetSystem says what one is talking to, and as whom.
func (s *system) GetSystem(ctx context.Context, _ *amporav1.GetSystemRequest) (*amporav1.GetSystemResponse, error) {
	by := auth.By(ctx)
	return &amporav1.GetSystemResponse{
		Version:     s.Version,
		Tenant:      string(by.Tenant),
		Principal:   by.Principal.Name,
		Role:        role(by.Principal.Role),
		Database:    s.Store.Backend(),
		TrustDomain: s.TrustDomain,
		OpampUrl:    s.OpAMPURL,
	}, nil
}
