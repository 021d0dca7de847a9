// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/smallstep/pkcs7"
	"go.opentelemetry.io/otel/metric"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/calls"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// maxCSR bounds a certificate request in bytes, in each of its encodings.
const maxCSR = 8 << 10

// Enrolment redeems bootstrap tokens and renews certificates at the control plane, and counts what came of it.
type Enrolment struct {
	gateway  identity.GatewayID
	control  internalv1connect.GatewayServiceClient
	log      *slog.Logger
	enrolled instrument.Counter
	renewed  instrument.Counter
}

// NewEnrolment makes the counters on the meter.
func NewEnrolment(gateway identity.GatewayID, control internalv1connect.GatewayServiceClient, log *slog.Logger, meter metric.Meter) (*Enrolment, error) {
	made := instrument.On(meter)
	e := &Enrolment{
		gateway: gateway, control: control, log: log,
		enrolled: made.Counter("ampora_gateway_enrolments", "{enrolment}",
			"Redemptions of bootstrap tokens, by how the agent asked and whether it enrolled or why not.",
			instrument.By("method", slices.Sorted(maps.Values(methodNames))...), instrument.By("outcome", outcomes(enrolled)...)),
		renewed: made.Counter("ampora_gateway_renewals", "{renewal}",
			"Renewals that agents asked for with the certificates they have, by how they asked and whether they got one or why not.",
			instrument.By("method", methodNames[byCSR], methodNames[byEST]), instrument.By("outcome", outcomes(renewed)...)),
	}
	return e, made.Err()
}

const (
	byCSR = internalv1.EnrollmentMethod_ENROLLMENT_METHOD_AGENT_CSR
	byEST = internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST
)

var methodNames = map[internalv1.EnrollmentMethod]string{
	byCSR: "agent_csr",
	internalv1.EnrollmentMethod_ENROLLMENT_METHOD_SERVER_KEY: "server_key",
	byEST: "est",
}

// The outcomes of what succeeded; of others it is the code that the control plane answered with.
const (
	enrolled = "enrolled"
	renewed  = "renewed"
)

func outcomes(good string) []string { return append([]string{good}, calls.Codes...) }

func outcomeOf(err error, good string) string {
	if err != nil {
		return connect.CodeOf(err).String()
	}
	return good
}

// signTime is how long a certificate may take: signing may wait for a key management service.
const signTime = 20 * time.Second

// Redeem trades the caller's token and a request in PEM for an identity. The error is
// the control plane's.
func (e *Enrolment) Redeem(ctx context.Context, caller Caller, csr []byte, method internalv1.EnrollmentMethod) (*internalv1.EnrollResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	response, err := e.control.Enroll(ctx, &internalv1.EnrollRequest{
		Token: caller.Token.Reveal(), CsrPem: csr, Method: method, GatewayId: string(e.gateway), Peer: caller.Peer,
	})
	e.enrolled.Add(ctx, 1, methodNames[method], outcomeOf(err, enrolled))
	if err != nil {
		return nil, fmt.Errorf("enrolling: %w", err)
	}
	e.log.InfoContext(ctx, "enrolled", "method", methodNames[method], "tenant", response.GetTenant(), "agent", response.GetAgentId(), "peer", caller.Peer)
	return response, nil
}

// Wish is for another certificate.
type Wish struct {
	CSR    []byte // PKCS #10, PEM
	Method internalv1.EnrollmentMethod
	// Offer is the number of the offer it is for; 0: the agent asks by itself.
	Offer int64
}

// Renew trades the caller's certificate and a request for another certificate. The error is the control plane's.
func (e *Enrolment) Renew(ctx context.Context, caller Caller, w Wish) (*internalv1.RenewResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	response, err := e.control.Renew(ctx, &internalv1.RenewRequest{
		GatewayId: string(e.gateway), Tenant: string(caller.Agent.Tenant), AgentId: string(caller.Agent.ID),
		Serial: string(caller.Serial), Fingerprint: string(caller.Fingerprint), CsrPem: w.CSR, Peer: caller.Peer, Offer: w.Offer,
	})
	e.renewed.Add(ctx, 1, methodNames[w.Method], outcomeOf(err, renewed))
	if err != nil {
		return nil, fmt.Errorf("renewing: %w", err)
	}
	e.log.InfoContext(ctx, "renewed", "method", methodNames[w.Method], "tenant", caller.Agent.Tenant, "agent", caller.Agent.ID, "peer", caller.Peer)
	return response, nil
}

// EST is the part of RFC 7030 that agents with certificate files need: simpleenroll
// with a bootstrap token, simplereenroll with a certificate, and cacerts.
type EST struct {
	admission *Admission
	trust     *Trust
	enrolment *Enrolment
}

// NewEST makes the handlers.
func NewEST(admission *Admission, trust *Trust, enrolment *Enrolment) *EST {
	return &EST{admission: admission, trust: trust, enrolment: enrolment}
}

// ESTPath is where all of EST is (RFC 7030, section 3.2.2).
const ESTPath = "/.well-known/est/"

// Register adds the operations to the mux.
func (e *EST) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+ESTPath+"simpleenroll", e.simpleEnroll)
	mux.HandleFunc("POST "+ESTPath+"simplereenroll", e.simpleReenroll)
	mux.HandleFunc("GET "+ESTPath+"cacerts", e.caCerts)
}

var errOtherCredential = errors.New("simpleenroll is for a bootstrap token, simplereenroll for a certificate")

// simpleEnroll is RFC 7030, section 4.2.1.
func (e *EST) simpleEnroll(w http.ResponseWriter, r *http.Request) {
	e.certify(w, r, true, func(caller Caller, csr []byte) ([]byte, error) {
		response, err := e.enrolment.Redeem(r.Context(), caller, csr, byEST)
		return response.GetCertificateChainPem(), err
	})
}

// simpleReenroll is RFC 7030, section 4.2.2. The key must be a new one.
func (e *EST) simpleReenroll(w http.ResponseWriter, r *http.Request) {
	e.certify(w, r, false, func(caller Caller, csr []byte) ([]byte, error) {
		response, err := e.enrolment.Renew(r.Context(), caller, Wish{CSR: csr, Method: byEST})
		return response.GetCertificateChainPem(), err
	})
}

// certify answers a certificate request of a caller who is enrolling, or else has an identity, with the chain that issue
// gets for it.
func (e *EST) certify(w http.ResponseWriter, r *http.Request, enrolling bool, issue func(caller Caller, csr []byte) (chainPEM []byte, err error)) {
	caller, ok := e.admission.Admit(w, r)
	if !ok {
		return
	}
	if caller.Enrolling() != enrolling {
		e.admission.refuse(w, r, caller, &refusal{reason: AuthFailed, cause: errOtherCredential})
		return
	}
	if !e.admission.Reserve(w, r, caller) {
		return
	}
	defer e.admission.Release(caller)
	csr, err := readRequest(w, r)
	if err != nil {
		reason, status := Malformed, http.StatusBadRequest
		if errors.Is(err, errLargeCSR) {
			reason, status = Oversize, http.StatusRequestEntityTooLarge
		}
		e.admission.rejections.Reject(r.Context(), reason, err, Known(caller)...)
		http.Error(w, err.Error(), status)
		return
	}
	text, err := issue(caller, csr)
	if err != nil {
		e.refuse(w, r, caller, err)
		return
	}
	chain, err := certificates(text)
	if err != nil || len(chain) == 0 {
		e.admission.refuse(w, r, caller, &refusal{Unavailable, Overload(), errors.Join(errors.New("the issued chain is unreadable"), err)})
		return
	}
	writeCertificates(w, "application/pkcs7-mime; smime-type=certs-only", chain)
}

// maxBody bounds a body: a request in base64, with its line breaks.
const maxBody = 2 * maxCSR

// readRequest reads the certificate request of a body. One that is too large is refused unread if it says so: a client that
// expects 100-continue does not send it.
func readRequest(w http.ResponseWriter, r *http.Request) (csr []byte, err error) {
	if r.ContentLength > maxBody {
		return nil, errLargeCSR
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, errLargeCSR
	}
	if err != nil {
		return nil, errUnread
	}
	return ReadCSR(body)
}

// refuse maps what the control plane said: the answer tells a bad request from a bad
// token, and nothing about the token.
func (e *EST) refuse(w http.ResponseWriter, r *http.Request, caller Caller, err error) {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		e.admission.rejections.Reject(r.Context(), Malformed, err, Known(caller)...)
		http.Error(w, "the certificate request was refused: "+PublicMessage(err), http.StatusBadRequest)
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeNotFound:
		e.admission.Punish(caller)
		e.admission.refuse(w, r, caller, &refusal{reason: AuthFailed, cause: err})
	case connect.CodeResourceExhausted:
		e.admission.rejections.Reject(r.Context(), RateLimited, err, Known(caller)...)
		http.Error(w, "the certificate request was refused: "+PublicMessage(err), http.StatusTooManyRequests)
	default:
		e.admission.refuse(w, r, caller, &refusal{Unavailable, Overload(), err})
	}
}

// caCerts is RFC 7030, section 4.1.2: what agents of the tenants here may be issued
// under. It is public.
func (e *EST) caCerts(w http.ResponseWriter, r *http.Request) {
	snapshot, err := e.trust.Current()
	if err != nil || len(snapshot.roots) == 0 {
		e.admission.refuse(w, r, Caller{Peer: peer(r.RemoteAddr)}, &refusal{Unavailable, Overload(), errors.Join(errors.New("no roots to show"), err)})
		return
	}
	writeCertificates(w, "application/pkcs7-mime", snapshot.roots)
}

// writeCertificates writes a degenerate SignedData (RFC 5652, section 5.1: certs-only)
// in base64, as EST transfers it.
func writeCertificates(w http.ResponseWriter, contentType string, chain []*x509.Certificate) {
	var der []byte
	for _, certificate := range chain {
		der = append(der, certificate.Raw...)
	}
	message, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	var text bytes.Buffer
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(message)), 76) {
		text.Write(line)
		text.WriteString("\r\n")
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len())) // small clients read no chunks
	_, _ = text.WriteTo(w)
}

// The ways in which a certificate request is unusable; they are told to its sender.
var (
	errNoCSR    = errors.New("the body is neither base64 of a PKCS #10 request nor PEM")
	errLargeCSR = fmt.Errorf("the certificate request has more than %d bytes", maxCSR)
	errUnread   = errors.New("the body did not arrive")
)

// ReadCSR reads one PKCS #10 request (RFC 2986) in PEM, in base64 of DER as EST sends
// it, or in DER, and returns it in PEM. Whether its key is fit and has signed it is for the control plane to judge, which
// records what it refuses.
func ReadCSR(body []byte) ([]byte, error) {
	der := body
	if block, _ := pem.Decode(body); block != nil && strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
		der = block.Bytes
	} else if decoded, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil))); err == nil && len(decoded) > 0 {
		der = decoded
	}
	if len(der) == 0 {
		return nil, errNoCSR
	}
	if len(der) > maxCSR {
		return nil, errLargeCSR
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errNoCSR
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request.Raw})
	if len(text) > maxCSR {
		return nil, errLargeCSR
	}
	return text, nil
}

// PublicMessage is what the control plane wrote for callers to read.
func PublicMessage(err error) string {
	var remote *connect.Error
	if errors.As(err, &remote) {
		return remote.Message()
	}
	return "no reason given"
}
