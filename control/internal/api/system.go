// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
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
		KeyServices: keyServices(s.Authority.KeyServices()),
	}, nil
}

func keyServices(states []kms.State) []*amporav1.KeyService {
	list := make([]*amporav1.KeyService, len(states))
	for i, state := range states {
		list[i] = &amporav1.KeyService{Kind: state.Scheme, MakesKeys: state.Home, State: amporav1.KeyServiceState_KEY_SERVICE_STATE_UNTRIED}
		if !state.Known {
			continue
		}
		list[i].State, list[i].Since = amporav1.KeyServiceState_KEY_SERVICE_STATE_AWAY, timestamppb.New(state.Since)
		if state.Up {
			list[i].State = amporav1.KeyServiceState_KEY_SERVICE_STATE_UP
		}
	}
	return list
}
