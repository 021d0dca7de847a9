// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/smallstep/pkcs7"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/shared/identity"
)

const connectionSettings = protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings

func (w *world) dialToken(token identity.Token) *gatewaytest.Agent {
	w.t.Helper()
	agent, err := gatewaytest.Dial(w.t, w.gateway.Addr().String(), w.tls(), bearer(token.Reveal()))
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	return agent
}

func request(t *testing.T) (key *ecdsa.PrivateKey, der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "agent"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func requestPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func withCSR(csr []byte) *protobufs.AgentToServer {
	message := gatewaytest.Full(connectionSettings)
	message.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{
		Opamp: &protobufs.OpAMPConnectionSettingsRequest{CertificateRequest: &protobufs.CertificateRequest{Csr: csr}},
	}
	return message
}

// checkOffer checks that an agent that builds its settings from the offer alone, as the
// stock supervisor does, can go on.
func checkOffer(t *testing.T, w *world, offers *protobufs.ConnectionSettingsOffers) {
	t.Helper()
	settings := offers.GetOpamp()
	switch {
	case len(offers.GetHash()) != 32:
		t.Error("the offer has no hash")
	case settings.GetDestinationEndpoint() != "wss://gateway.test/v1/opamp":
		t.Errorf("the endpoint is %q", settings.GetDestinationEndpoint())
	case settings.GetHeartbeatIntervalSeconds() == 0:
		t.Error("heartbeats are switched off")
	case settings.GetHeaders() != nil:
		t.Error("the offer has headers")
	case !bytes.HasPrefix(settings.GetCertificate().GetCaCert(), w.server.RootPEM()):
		t.Error("the server cannot be verified")
	}
}

func TestEnrolWithServerKey(t *testing.T) {
	w := start(t)
	enrolling := w.dialToken(w.control.AddToken(tenant))
	answer := enrolling.Exchange(gatewaytest.Full(connectionSettings | remoteConfig))
	checkOffer(t, w, answer.GetConnectionSettings())
	offered := answer.GetConnectionSettings().GetOpamp().GetCertificate()
	pair, err := tls.X509KeyPair(offered.GetCert(), offered.GetPrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	// It is offered once, however often the agent reports.
	if again := enrolling.Exchange(&protobufs.AgentToServer{Capabilities: uint64(connectionSettings)}); again.GetConnectionSettings() != nil {
		t.Error("the offer was repeated")
	}
	enrolling.Close()

	agent := w.dialWith(pair)
	first := gatewaytest.Full(0)
	first.Health = &protobufs.ComponentHealth{}
	agent.Exchange(first)
	name, err := identity.FromCertificate(pair.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	report := w.uplink(name.ID, isReport)
	if string(report.GetInstanceUid()) != string(agent.UID[:]) || !report.GetReport().GetAfterOwnOffer() {
		t.Errorf("the report is %v", report)
	}
	if report.GetCounter() != 1 {
		t.Error("something of the enrolling connection reached the bus")
	}
	agent.Exchange(gatewaytest.Full(0))
	if w.uplink(name.ID, isReport).GetReport().GetAfterOwnOffer() {
		t.Error("a known health was excused")
	}
}

func TestEnrolWithAgentKey(t *testing.T) {
	w := start(t)
	key, der := request(t)
	enrolling := w.dialToken(w.control.AddToken(tenant))
	for range 2 { // an agent that asks again gets the same
		answer := enrolling.Exchange(withCSR(requestPEM(der)))
		checkOffer(t, w, answer.GetConnectionSettings())
		offered := answer.GetConnectionSettings().GetOpamp().GetCertificate()
		if len(offered.GetPrivateKey()) > 0 {
			t.Error("the offer has a private key")
		}
		if !bytes.Contains(offered.GetCaCert(), w.tenantAuthority().RootPEM()) {
			t.Error("the issuer is missing")
		}
		block, _ := pem.Decode(offered.GetCert())
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("the certificate is for another key: %v", err)
		}
	}
	// What it says before it leaves is no wish for another key.
	last := enrolling.Exchange(&protobufs.AgentToServer{Capabilities: uint64(connectionSettings)})
	if last.GetErrorResponse() != nil || last.GetConnectionSettings() != nil {
		t.Errorf("the last answer is %v", last)
	}
}

func TestEnrolmentThatFails(t *testing.T) {
	w := start(t)
	_, der := request(t)
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	used := w.control.AddToken(tenant)
	w.dialToken(used).Exchange(withCSR(requestPEM(der)))
	_, other := request(t)
	for name, test := range map[string]struct {
		token   identity.Token
		message *protobufs.AgentToServer
		code    ws.StatusCode
	}{
		"cannot take a certificate": {w.control.AddToken(tenant), gatewaytest.Full(remoteConfig), ws.StatusPolicyViolation},
		"no request":                {w.control.AddToken(tenant), withCSR([]byte("x")), ws.StatusProtocolError},
		"forged request":            {w.control.AddToken(tenant), withCSR(requestPEM(forged)), ws.StatusProtocolError},
		"another key":               {used, withCSR(requestPEM(other)), ws.StatusPolicyViolation},
	} {
		agent := w.dialToken(test.token)
		answer := agent.Exchange(test.message)
		if answer.GetErrorResponse().GetType() != badRequest || answer.GetConnectionSettings() != nil {
			t.Errorf("%s: answered with %v", name, answer)
		}
		if code := agent.WaitClosed(); code != test.code {
			t.Errorf("%s: closed with %d", name, code)
		}
	}
	if w.sessions() != 0 {
		t.Error("an enrolling connection has a session")
	}
}

// post sends a body to a path and returns status, header and body of the answer.
func (w *world) post(config *tls.Config, path string, header http.Header, body []byte) (int, http.Header, []byte) {
	w.t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	defer transport.CloseIdleConnections()
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.gateway.Addr().String()+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, response.Header, answer
}

func TestEnrolByPolling(t *testing.T) {
	w := start(t)
	header := bearer(w.control.AddToken(tenant).Reveal())
	header.Set("Content-Type", "application/x-protobuf")
	message := gatewaytest.Full(connectionSettings)
	message.InstanceUid = make([]byte, 16)
	data, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	status, _, body := w.post(w.tls(), "/v1/opamp", header, data)
	var answer protobufs.ServerToAgent
	if err := proto.Unmarshal(body, &answer); status != http.StatusOK || err != nil {
		t.Fatalf("answered %d, %v", status, err)
	}
	checkOffer(t, w, answer.GetConnectionSettings())
	if status, _, _ := w.post(w.tls(), "/v1/opamp", header, data); status != http.StatusUnauthorized {
		t.Errorf("with another key the answer is %d", status)
	}
}

func TestEST(t *testing.T) {
	w := start(t)
	const path = "/.well-known/est/simpleenroll"
	_, der := request(t)
	encoded := []byte(base64.StdEncoding.EncodeToString(der))
	basic := func(token identity.Token) http.Header {
		return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+token.Reveal()))}}
	}
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
	}{
		"base64 and bearer": {bearer(w.control.AddToken(tenant).Reveal()), encoded},
		"PEM and basic":     {basic(w.control.AddToken(tenant)), requestPEM(der)},
	} {
		status, header, body := w.post(w.tls(), path, test.header, test.body)
		if status != http.StatusOK || header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
			t.Errorf("%s: answered %d %v %s", name, status, header, body)
			continue
		}
		if chain := certsOnly(t, body); len(chain) != 1 || len(chain[0].URIs) != 1 {
			t.Errorf("%s: the chain is %v", name, chain)
		}
	}
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	good := w.control.AddToken(tenant)
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
		status int
	}{
		"no token":         {http.Header{}, encoded, http.StatusUnauthorized},
		"not a request":    {bearer(good.Reveal()), []byte("hello"), http.StatusBadRequest},
		"too large":        {bearer(good.Reveal()), bytes.Repeat([]byte("A"), 64<<10), http.StatusRequestEntityTooLarge},
		"another's key":    {bearer(good.Reveal()), requestPEM(forged), http.StatusBadRequest},
		"an unknown token": {bearer(identity.NewToken(identity.BootstrapToken).Reveal()), encoded, http.StatusUnauthorized},
	} {
		if status, _, body := w.post(w.tls(), path, test.header, test.body); status != test.status {
			t.Errorf("%s: answered %d %s", name, status, body)
		}
	}
	status, header, body := w.post(w.tls(), "/.well-known/est/cacerts", nil, nil)
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "application/pkcs7-mime") {
		t.Fatalf("cacerts: %d %v", status, header)
	}
	if roots := certsOnly(t, body); len(roots) != 1 || !bytes.Equal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: roots[0].Raw}), w.tenantAuthority().RootPEM()) {
		t.Errorf("the roots are %v", roots)
	}
}

func certsOnly(t *testing.T, body []byte) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return message.Certificates
}
