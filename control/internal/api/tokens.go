// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// ReasonExceedsOwn says that a token cannot make one that may do more than itself.
const ReasonExceedsOwn = "EXCEEDS_OWN_RIGHTS"

// apiTokenDefaultTTL is the life of an API token that asks for none.
const apiTokenDefaultTTL = 90 * 24 * time.Hour

// bootstrapTokens is the BootstrapTokenService.
type bootstrapTokens struct{ store store.Enrolment }

// IssueBootstrapToken makes a token and shows its secret.
func (s *bootstrapTokens) IssueBootstrapToken(ctx context.Context, r *amporav1.IssueBootstrapTokenRequest) (*amporav1.IssueBootstrapTokenResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.BootstrapToken)
	token := fleet.BootstrapToken{
		ID: newID[fleet.TokenID](), Tenant: by.Tenant, Hash: secret.Hash(), Group: fleet.GroupID(r.GetGroupId()), Tags: r.GetTags(),
		Description: r.GetDescription(), For: fleet.AgentID(strings.ToLower(r.GetAgentId())), Replaces: r.GetReplace(),
		CreatedBy: by.Principal.Name, CreatedAt: by.At,
		ExpiresAt: by.At.Add(ttl(r.GetTtl(), fleet.BootstrapTokenDefaultTTL)),
	}
	if err := s.returnable(ctx, by, token); err != nil {
		return nil, err
	}
	if err := s.store.IssueBootstrapToken(ctx, by, token); err != nil {
		return nil, err
	}
	return &amporav1.IssueBootstrapTokenResponse{Token: bootstrapTokenAt(by.At)(token), Secret: secret.Reveal()}, nil
}

// returnable refuses a token for an identity that may not come back by it. Who takes an identity from whoever has it, or
// lets one back in that an Admin threw out, must be one. It is decided again when the token is redeemed.
func (s *bootstrapTokens) returnable(ctx context.Context, by fleet.By, t fleet.BootstrapToken) error {
	if t.For == "" {
		return nil
	}
	if t.Replaces {
		if err := auth.Needs(by.Principal, fleet.RoleAdmin); err != nil {
			return err
		}
	}
	reason, err := s.store.Returnable(ctx, fleet.Return{Tenant: by.Tenant, Agent: t.For, Replaces: t.Replaces, At: by.At})
	if err != nil || reason == "" {
		return err
	}
	return fault.New(fault.FailedPrecondition, reason, "%s", barred[reason])
}

// barred says why an agent does not come back by a token.
var barred = map[string]string{
	fleet.RefusedChild:          "another agent speaks for this one: that is the one to bring back",
	fleet.RefusedQuarantined:    "the agent is quarantined: release it first",
	fleet.RefusedHasCertificate: "the agent has a certificate that is good: an Admin may replace it",
	fleet.RefusedWasRevoked:     "the agent's certificates were revoked: an Admin may let it back in, with replace",
}

// ListBootstrapTokens lists newest first.
func (s *bootstrapTokens) ListBootstrapTokens(ctx context.Context, r *amporav1.ListBootstrapTokensRequest) (*amporav1.ListBootstrapTokensResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listBootstrapTokens, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.BootstrapTokens(ctx, by.Tenant, page)
	return &amporav1.ListBootstrapTokensResponse{
		Tokens: each(list, bootstrapTokenAt(by.At)), NextPageToken: place(listBootstrapTokens, next),
	}, err
}

// RevokeBootstrapToken kills a token.
func (s *bootstrapTokens) RevokeBootstrapToken(ctx context.Context, r *amporav1.RevokeBootstrapTokenRequest) (*amporav1.RevokeBootstrapTokenResponse, error) {
	by := auth.By(ctx)
	token, err := s.store.RevokeBootstrapToken(ctx, by, fleet.TokenID(r.GetId()))
	return &amporav1.RevokeBootstrapTokenResponse{Token: bootstrapTokenAt(by.At)(token)}, err
}

// apiTokens is the ApiTokenService.
type apiTokens struct{ store store.Access }

// CreateApiToken makes a token and shows its secret.
func (s *apiTokens) CreateApiToken(ctx context.Context, r *amporav1.CreateApiTokenRequest) (*amporav1.CreateApiTokenResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.APIToken)
	token := fleet.APIToken{
		ID: newID[fleet.TokenID](), Tenant: by.Tenant, Name: r.GetName(), Role: auth.RoleFrom(r.GetRole()),
		Hash: secret.Hash(), Procedures: r.GetProcedures(), CreatedBy: by.Principal.Name, CreatedAt: by.At,
		ExpiresAt: by.At.Add(ttl(r.GetTtl(), apiTokenDefaultTTL)),
	}
	if err := grantable(by.Principal, token); err != nil {
		return nil, err
	}
	if err := s.store.CreateAPIToken(ctx, by, token); err != nil {
		return nil, err
	}
	return &amporav1.CreateApiTokenResponse{Token: apiTokenAt(by.At)(token), Secret: secret.Reveal()}, nil
}

// grantable refuses a token that may call what does not exist, or more than the one who makes it: a token limited to
// making tokens would otherwise have no limit.
func grantable(maker fleet.Principal, t fleet.APIToken) error {
	for _, procedure := range t.Procedures {
		if !isProcedure(procedure) {
			return auth.InvalidField("procedures", "names a procedure that does not exist")
		}
	}
	outside := func(procedure string) bool { return !slices.Contains(maker.Procedures, procedure) }
	limited := len(maker.Procedures) > 0
	if t.Role > maker.Role || limited && (len(t.Procedures) == 0 || slices.ContainsFunc(t.Procedures, outside)) {
		return fault.New(fault.PermissionDenied, ReasonExceedsOwn, "a token cannot be given more rights than those of its maker")
	}
	return nil
}

// isProcedure reports whether name is a procedure of this API, in the form "/ampora.v1.AgentService/ListAgents".
func isProcedure(name string) bool {
	service, method, found := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !found || !strings.HasPrefix(name, "/ampora.v1.") {
		return false
	}
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	_, isMethod := descriptor.(protoreflect.MethodDescriptor)
	return err == nil && isMethod
}

// ListApiTokens lists newest first.
func (s *apiTokens) ListApiTokens(ctx context.Context, r *amporav1.ListApiTokensRequest) (*amporav1.ListApiTokensResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listAPITokens, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.APITokens(ctx, by.Tenant, page)
	return &amporav1.ListApiTokensResponse{Tokens: each(list, apiTokenAt(by.At)), NextPageToken: place(listAPITokens, next)}, err
}

// RevokeApiToken kills a token.
func (s *apiTokens) RevokeApiToken(ctx context.Context, r *amporav1.RevokeApiTokenRequest) (*amporav1.RevokeApiTokenResponse, error) {
	by := auth.By(ctx)
	token, err := s.store.RevokeAPIToken(ctx, by, fleet.TokenID(r.GetId()))
	return &amporav1.RevokeApiTokenResponse{Token: apiTokenAt(by.At)(token)}, err
}

// ttl is the asked-for life of a token, whose bounds are rules of the message, or the default.
func ttl(asked *durationpb.Duration, otherwise time.Duration) time.Duration {
	if asked == nil {
		return otherwise
	}
	return asked.AsDuration()
}
