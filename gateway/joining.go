// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/gateway/internal/join"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Joining is how a gateway in a process of its own becomes known to the control plane.
type Joining struct {
	ControlURL  []string    `env:"AMPORA_CONTROL_URL,required" help:"Addresses of the control plane's internal service, https://host:port, separated by commas: one of a load balancer, or one of each process."`
	ControlCA   string      `env:"AMPORA_CONTROL_CA_FILE,required" help:"Root of the control plane's certificates, PEM, as amporactl join-tokens issue --ca-out writes it. The names in the addresses are not checked: the certificate is."`
	Token       conf.Secret `env:"AMPORA_JOIN_TOKEN" help:"Join token, for the first start. It names this gateway and says what tenants it serves."`
	IdentityDir string      `env:"AMPORA_GATEWAY_IDENTITY_DIR" help:"Private folder for this gateway's key and certificate. Empty: they live in memory alone, and each start needs a join token of its own."`
}

// Validate says what is wrong or contradictory, all of it joined.
func (j *Joining) Validate() error {
	var wrong []error
	for _, address := range j.ControlURL {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
			wrong = append(wrong, errors.New("AMPORA_CONTROL_URL must be https://host:port, or several separated by commas"))
			break
		}
	}
	if j.Token.IsZero() && j.IdentityDir == "" {
		wrong = append(wrong, errors.New("AMPORA_JOIN_TOKEN or AMPORA_GATEWAY_IDENTITY_DIR is required: a gateway must be known to the control plane"))
	}
	return errors.Join(wrong...)
}

// Member is a gateway that is known to the control plane.
type Member struct{ member *join.Member }

// Join takes up the identity that is kept, or joins with the token, waiting for a control
// plane that is away.
func Join(ctx context.Context, j Joining, log *slog.Logger, clock func() time.Time) (*Member, error) {
	ca, err := os.ReadFile(j.ControlCA)
	if err != nil {
		return nil, fmt.Errorf("AMPORA_CONTROL_CA_FILE: %w", err)
	}
	member, err := join.Open(ctx, join.Config{
		URLs: j.ControlURL, ControlCA: ca, Token: j.Token.Reveal(), Dir: j.IdentityDir, Log: log, Clock: clock,
	})
	if err != nil {
		return nil, err
	}
	return &Member{member}, nil
}

// ID is the gateway's name, as its certificate says it.
func (m *Member) ID() identity.GatewayID { return m.member.ID() }

// Observe says where the member logs from now on, and through which interceptors it calls (see [ObserveCalls]). It comes
// before Control and Run.
func (m *Member) Observe(log *slog.Logger, calls ...connect.ClientInterceptor) {
	m.member.Observe(log, calls...)
}

// Control calls the control plane as this gateway.
func (m *Member) Control() internalv1connect.GatewayServiceClient { return m.member.Control() }

// Run keeps the certificate fresh until the context ends.
func (m *Member) Run(ctx context.Context) error { return m.member.Run(ctx) }
