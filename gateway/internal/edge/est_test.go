// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
)

// door is EST as it is mounted, in front of a control plane with one tenant.
type door struct {
	*http.ServeMux
	control *gatewaytest.Control
	agent   tls.Certificate
}

func newDoor(t testing.TB) door {
	t.Helper()
	d := door{ServeMux: http.NewServeMux(), control: gatewaytest.NewControl(t)}
	d.control.AddTenant("acme")
	_, d.agent = d.control.AddAgent("acme")
	client, log := d.control.Client(), slog.New(slog.DiscardHandler)
	trust := NewTrust(TrustConfig{Control: client, Log: log, Clock: time.Now, Limit: time.Hour, OnNew: func(*Snapshot) {}})
	if err := trust.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	rejections, err := NewRejections(log, noop.Meter{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	enrolment, err := NewEnrolment("g", client, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	NewEST(NewAdmission(AdmissionConfig{
		Gateway: "g", Control: client, Trust: trust, Box: NewBox(), Rejections: rejections, Clock: time.Now, Max: 10,
		Ready: func() bool { return true },
	}), trust, enrolment).Register(d.ServeMux)
	return d
}

// enrol asks for a certificate with a token of its own, renew with the certificate of the agent.
func (d door) enrol(body io.Reader, contentType string) *httptest.ResponseRecorder {
	return d.ask("simpleenroll", body, contentType, func(r *http.Request) { r.SetBasicAuth("any", d.control.AddToken("acme").Reveal()) })
}

func (d door) renew(body io.Reader, contentType string) *httptest.ResponseRecorder {
	return d.ask("simplereenroll", body, contentType, func(r *http.Request) { r.TLS.PeerCertificates = []*x509.Certificate{d.agent.Leaf} })
}

func (d door) ask(operation string, body io.Reader, contentType string, identify func(*http.Request)) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, ESTPath+operation, body)
	request.TLS = &tls.ConnectionState{}
	request.Header.Set("Content-Type", contentType)
	identify(request)
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, request)
	return answer
}

func newRequest(t testing.TB) (der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x"}}, key); err != nil {
		t.Fatal(err)
	}
	return der
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

func TestESTBoundsTheBody(t *testing.T) {
	d := newDoor(t)
	announced := httptest.NewRequest(http.MethodPost, ESTPath+"simpleenroll", unread{t})
	announced.TLS, announced.ContentLength = &tls.ConnectionState{}, 10<<20
	announced.SetBasicAuth("any", d.control.AddToken("acme").Reveal())
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, announced)
	if answer.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("10 MiB that are announced are answered %d %s", answer.Code, answer.Body)
	}
	read := 0
	endless := readerFunc(func(p []byte) (int, error) {
		clear(p)
		read += len(p)
		return len(p), nil
	})
	if answer := d.enrol(endless, "application/pkcs10"); answer.Code != http.StatusRequestEntityTooLarge || read > 4*maxBody {
		t.Errorf("what never ends is answered %d after %d bytes", answer.Code, read)
	}
	broken := io.MultiReader(strings.NewReader("MII"), readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }))
	if answer := d.enrol(broken, "application/pkcs10"); answer.Code != http.StatusBadRequest {
		t.Errorf("a body that breaks off is answered %d", answer.Code)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestESTAnswers: as a client of RFC 7030 reads it, whatever it knows of HTTP.
func TestESTAnswers(t *testing.T) {
	d := newDoor(t)
	body := bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(newRequest(t))))
	answer := d.enrol(body, "application/pkcs10")
	isCertificates(t, answer)
	for line := range strings.Lines(answer.Body.String()) {
		if !strings.HasSuffix(line, "\r\n") || len(line) > 78 {
			t.Errorf("a line of the answer is %q", line)
		}
	}
	if got := answer.Header().Get("Content-Transfer-Encoding"); got != "base64" {
		t.Errorf("Content-Transfer-Encoding is %q", got)
	}
}

func isCertificates(t *testing.T, answer *httptest.ResponseRecorder) {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(answer.Body.String(), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	message, err := pkcs7.Parse(der)
	if err != nil || len(message.Certificates) == 0 || len(message.Certificates[0].DNSNames) > 0 {
		t.Fatalf("the answer has %v, %v", message, err)
	}
	if got := answer.Header().Get("Content-Length"); got != strconv.Itoa(answer.Body.Len()) {
		t.Errorf("%d bytes have the length %q", answer.Body.Len(), got)
	}
}

// FuzzEST: whatever a client that was let in sends, under whatever content type, is answered with certificates for the key
// that it holds, or with a refusal of what was sent; nobody is locked out by it, and nothing of it comes back.
func FuzzEST(f *testing.F) {
	d := newDoor(f)
	der := newRequest(f)
	text := base64.StdEncoding.EncodeToString(der)
	for _, body := range [][]byte{
		der, []byte(text), []byte(text + "\n"), []byte(text[:64] + "\r\n" + text[64:]), []byte(text[:40]), []byte(strings.TrimRight(text, "=")),
		pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		append([]byte("Certificate Request:\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})...),
		der[:len(der)-1], append(bytes.Clone(der), 0), bytes.Repeat([]byte("A"), maxBody), bytes.Repeat([]byte("\n"), maxBody+1), nil,
	} {
		f.Add(body, "application/pkcs10")
	}
	f.Add([]byte(text), "multipart/mixed; boundary=")
	f.Add([]byte(text), "")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		for _, ask := range []func(io.Reader, string) *httptest.ResponseRecorder{d.enrol, d.renew} {
			answer := ask(bytes.NewReader(body), contentType)
			switch answer.Code {
			case http.StatusOK:
				isCertificates(t, answer)
			case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
				if len(body) > maxBody && answer.Code == http.StatusBadRequest || len(body) < maxCSR/2 && answer.Code != http.StatusBadRequest {
					t.Errorf("%d bytes are answered %d", len(body), answer.Code)
				}
				if answer.Body.Len() > 200 {
					t.Errorf("the refusal is %q", answer.Body)
				}
			default:
				t.Fatalf("answered %d %s", answer.Code, answer.Body)
			}
		}
	})
}

func FuzzReadCSR(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte("MIHxMIGXAgEAMA=="))
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := ReadCSR(body)
		if err != nil {
			return
		}
		if again, err := ReadCSR(text); err != nil || string(again) != string(text) || len(text) > maxCSR {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}
