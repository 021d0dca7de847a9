// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

// The world of these tests is a server of the public API that keeps a small state in memory, behind real HTTP on
// in-memory connections, in a bubble of its own time that begins at 2000-01-01. It stands at a process boundary: the
// real server is met by the end-to-end tests. It checks every request against the rules of the definition, as the real
// one does, and gives pages of two whatever is asked for.

// pipes is a listener whose connections are pipes.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.accept <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accept:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "pipe"} }

// world is the server and how to run the program against it.
type world struct {
	t      *testing.T
	state  *state
	dial   func(context.Context, string, string) (net.Conn, error)
	token  identity.Token
	extra  []string // environment
	stdin  string
	listen *pipes
}

// inWorld runs a test in a bubble with a server that knows the fixture.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, token: identity.NewToken(identity.APIToken), listen: newPipes()}
		w.state = newState(w.token)
		w.dial = w.listen.dial
		mux := http.NewServeMux()
		connecthttp.Mount(mux, w.state.server(t))
		server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
		served := make(chan struct{})
		go func() {
			_ = server.Serve(w.listen) // ends with the test, or with a listener that the test closed
			close(served)
		}()
		defer func() {
			_ = server.Close()
			<-served
		}()
		test(t, w)
	})
}

// outcome is what one run left.
type outcome struct {
	code        int
	out, errOut string
}

// golden is the outcome as kept in testdata, with raw control characters in caret notation so that the files stay text.
func (o outcome) golden() string {
	return strings.NewReplacer("\x00", "^@", "\x1b", "^[").Replace(
		fmt.Sprintf("exit %d\n--- stdout\n%s--- stderr\n%s", o.code, o.out, o.errOut))
}

func (w *world) run(args ...string) outcome { return w.runIn(w.t.Context(), args...) }

func (w *world) runIn(ctx context.Context, args ...string) outcome {
	out, errOut := new(bytes.Buffer), new(bytes.Buffer)
	code := w.start(ctx, Streams{strings.NewReader(w.stdin), out, errOut}, args...)
	return outcome{code, out.String(), errOut.String()}
}

func (w *world) start(ctx context.Context, streams Streams, args ...string) int {
	environ := append([]string{"AMPORA_TOKEN=" + w.token.Reveal()}, w.extra...)
	p := newProgram(streams, environ)
	p.dial = w.dial
	return p.run(ctx, args)
}

// refuse is an error as the real API makes it.
func refuse(code connect.Code, reason, message string, metadata map[string]string) error {
	detail, err := connectproto.NewErrorDetail(&amporav1.ErrorInfo{Reason: reason, Metadata: metadata})
	if err != nil {
		return err
	}
	return connect.NewError(code, message).WithDetail(detail)
}

// server registers every service behind the check of the token and of the request's rules.
func (s *state) server(t *testing.T) *connect.Server {
	rules, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	server := connect.NewServer(func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			info, _ := connect.CallInfoForServerContext(ctx)
			secret := s.token
			if strings.HasSuffix(spec.Procedure, "/DrawToken") {
				secret = s.poolSecret
			}
			if info.RequestHeader().Get("Authorization") != "Bearer "+secret.Reveal() {
				return refuse(connect.CodeUnauthenticated, "TOKEN_INVALID", "the API token is not accepted", nil)
			}
			return next(ctx, spec, checked{stream, rules})
		}
	})
	amporav1connect.RegisterAgentServiceHandler(server, agentServer{s})
	amporav1connect.RegisterBulkServiceHandler(server, bulkServer{s})
	amporav1connect.RegisterRolloutServiceHandler(server, rolloutServer{state: s})
	amporav1connect.RegisterAssignmentServiceHandler(server, assignmentServer{s})
	amporav1connect.RegisterAuditServiceHandler(server, auditServer{s})
	amporav1connect.RegisterConfigServiceHandler(server, configServer{s})
	amporav1connect.RegisterConfigRuleServiceHandler(server, configRuleServer{s})
	amporav1connect.RegisterScheduleServiceHandler(server, scheduleServer{s})
	amporav1connect.RegisterBudgetServiceHandler(server, budgetServer{s})
	amporav1connect.RegisterDriftServiceHandler(server, driftServer{s})
	amporav1connect.RegisterEventServiceHandler(server, eventServer{s})
	amporav1connect.RegisterGroupServiceHandler(server, groupServer{s})
	amporav1connect.RegisterSystemServiceHandler(server, systemServer{s})
	amporav1connect.RegisterBootstrapTokenServiceHandler(server, tokenServer{s})
	amporav1connect.RegisterCertificateServiceHandler(server, certificateServer{state: s})
	amporav1connect.RegisterTokenPoolServiceHandler(server, tokenPoolServer{s})
	amporav1connect.RegisterApiTokenServiceHandler(server, apiTokenServer{s})
	amporav1connect.RegisterGatewayServiceHandler(server, gatewayServer{s})
	amporav1connect.RegisterJoinTokenServiceHandler(server, joinTokenServer{s})
	return server
}

// checked refuses requests that break the rules of the definition.
type checked struct {
	connect.ServerStream
	rules protovalidate.Validator
}

func (c checked) Receive(message any) error {
	if err := c.ServerStream.Receive(message); err != nil {
		return err
	}
	if err := c.rules.Validate(message.(proto.Message)); err != nil {
		return refuse(connect.CodeInvalidArgument, "INVALID_FIELD", err.Error(), nil)
	}
	return nil
}

// paged cuts a list into pages of two.
func paged[T any](all []T, token string) ([]T, string) {
	from, _ := strconv.Atoi(token)
	to := min(from+2, len(all))
	if to == len(all) {
		return all[from:], ""
	}
	return all[from:to], strconv.Itoa(to)
}
