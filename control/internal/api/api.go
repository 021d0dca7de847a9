// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/metric"

	library "gitlab.com/ampora/ampora/control/internal/configs"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/render"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/validator"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

// Deps is what the services are made of. All fields but Changed, Stopping and Validator are required.
type Deps struct {
	Store     store.Store
	Content   *content.Content
	Authority *pki.Authority
	Rollouts  *rollouts.Rollouts
	Now       func() time.Time
	// Changed returns a channel that is closed when this process next commits an event; streams wait for it. Nil: they
	// look every [pollInterval].
	Changed func() <-chan struct{}
	// Stopping is closed when the process is about to stop: streams end then, so that it waits for other calls alone.
	Stopping <-chan struct{}

	Version     string // of the program
	TrustDomain string // of agents' identities
	OpAMPURL    string // that agents connect to
	// Validator asks builds of the Collector themselves; nil: none is asked.
	Validator *validator.Client
	// ImmediateLimit is how many agents one act may change.
	ImmediateLimit int
	// Meter measures what the interceptors do not.
	Meter metric.Meter
}

// Register puts all services of ampora.v1 onto the server, which must have been made with auth's interceptor.
func Register(server *connect.Server, d Deps) error {
	draws, err := newDraws(d.Meter)
	if err != nil {
		return err
	}
	open := newStreams(d)
	amporav1connect.RegisterAgentServiceHandler(server, &agents{d.Store, d.Content, d.TrustDomain})
	amporav1connect.RegisterBulkServiceHandler(server, &bulk{d.Store, d.ImmediateLimit})
	amporav1connect.RegisterGroupServiceHandler(server, &groupService{d.Store, d.Store, d.Rollouts, d.ImmediateLimit, make(chan struct{}, previewsAtOnce)})
	versions := library.New(d.Store, d.Content, render.New(d.Store, d.Content, d.Now), d.Validator)
	amporav1connect.RegisterConfigServiceHandler(server, &configs{versions, d.Store, d.Store, d.Content})
	amporav1connect.RegisterConfigRuleServiceHandler(server, &configRules{versions, d.Store})
	amporav1connect.RegisterScheduleServiceHandler(server, &schedules{d.Store, d.Now})
	amporav1connect.RegisterBudgetServiceHandler(server, &budgets{d.Store, d.Now})
	amporav1connect.RegisterDriftServiceHandler(server, &drifts{d.Store})
	amporav1connect.RegisterAssignmentServiceHandler(server, &assignments{d.Store, d.Rollouts})
	amporav1connect.RegisterRolloutServiceHandler(server, &rolloutService{open, d.Rollouts, d.Store})
	amporav1connect.RegisterCertificateServiceHandler(server, &certificates{d.Store})
	amporav1connect.RegisterSigningKeyServiceHandler(server, &signingKeys{d.Store, d.Authority, d.Now})
	amporav1connect.RegisterBootstrapTokenServiceHandler(server, &bootstrapTokens{d.Store})
	amporav1connect.RegisterTokenPoolServiceHandler(server, &tokenPools{d.Store, d.Now, d.OpAMPURL, draws})
	amporav1connect.RegisterApiTokenServiceHandler(server, &apiTokens{d.Store})
	amporav1connect.RegisterGatewayServiceHandler(server, &gateways{d.Store})
	amporav1connect.RegisterJoinTokenServiceHandler(server, &joinTokens{d.Store, d.Authority})
	amporav1connect.RegisterEventServiceHandler(server, &events{open, d.Store})
	amporav1connect.RegisterAuditServiceHandler(server, &audit{d.Store})
	amporav1connect.RegisterSystemServiceHandler(server, &system{d})
	return nil
}
