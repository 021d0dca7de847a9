// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops/otlp"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
)

func client(t *testing.T, config otlp.Config, w io.Writer) *otlp.Client {
	t.Helper()
	c, err := otlp.New(config, resource.NewSchemaless(attribute.String("service.name", "test")), slog.New(slog.NewTextHandler(w, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// say logs one record and closes.
func say(t *testing.T, c *otlp.Client) {
	t.Helper()
	logs := c.Logs(slog.LevelInfo)
	slog.New(logs).InfoContext(t.Context(), "hello")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	logs.Close(ctx)
}

// A receiver that is busy gets the same again.
func TestABusyReceiverIsAskedAgain(t *testing.T) {
	receiver := otlptest.Start(t)
	receiver.Answer(http.StatusServiceUnavailable)
	go func() {
		for receiver.Refused() == 0 {
			time.Sleep(time.Millisecond)
		}
		receiver.Answer(http.StatusOK)
	}()
	say(t, client(t, otlp.Config{Endpoint: receiver.URL}, io.Discard))
	if n := len(receiver.Logs()); n != 1 {
		t.Errorf("%d records came after %d refusals", n, receiver.Refused())
	}
}

// A receiver that refuses is not asked again, and the log says what it answered.
func TestARefusalIsFinal(t *testing.T) {
	receiver := otlptest.Start(t)
	receiver.Answer(http.StatusUnauthorized)
	var log strings.Builder
	say(t, client(t, otlp.Config{Endpoint: receiver.URL, Headers: conf.NewSecret("Authorization=hunter2")}, &log))
	if receiver.Refused() != 1 || !strings.Contains(log.String(), "401 Unauthorized") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("%d requests; the log is %s", receiver.Refused(), log.String())
	}
}

// A redirect could carry the headers, and what the program tells, to anybody.
func TestRedirectsAreNotFollowed(t *testing.T) {
	receiver := otlptest.Start(t)
	redirect := httptest.NewServer(http.RedirectHandler(receiver.URL+"/v1/logs", http.StatusTemporaryRedirect))
	defer redirect.Close()
	say(t, client(t, otlp.Config{Endpoint: redirect.URL}, io.Discard))
	if n := len(receiver.Logs()); n != 0 {
		t.Errorf("%d records came", n)
	}
}

func TestTheReceiverIsVerified(t *testing.T) {
	receiver := otlptest.Start(t)
	secured := httptest.NewTLSServer(receiver.Config.Handler)
	defer secured.Close()
	secured.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	own := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw})
	if err := os.WriteFile(own, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	say(t, client(t, otlp.Config{Endpoint: secured.URL}, &log))
	if n := len(receiver.Logs()); n != 0 || !strings.Contains(log.String(), "certificate") {
		t.Errorf("%d records came through a certificate nobody knows; the log is %s", n, log.String())
	}
	say(t, client(t, otlp.Config{Endpoint: secured.URL + "/", CAFile: own}, io.Discard))
	if n := len(receiver.Logs()); n != 1 {
		t.Errorf("%d records came", n)
	}
	for _, file := range []string{"missing.pem", "otlp_test.go"} {
		if _, err := otlp.New(otlp.Config{Endpoint: secured.URL, CAFile: file}, resource.Empty(), slog.New(slog.DiscardHandler)); err == nil ||
			!strings.Contains(err.Error(), "AMPORA_OTLP_CA_FILE") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestLogsAreASlogHandler(t *testing.T) {
	var receiver *otlptest.Receiver
	var logs *otlp.Logs
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		receiver = otlptest.Start(t)
		logs = client(t, otlp.Config{Endpoint: receiver.URL}, io.Discard).Logs(slog.LevelInfo)
		return logs
	}, func(t *testing.T) map[string]any {
		logs.Close(t.Context())
		records := receiver.Logs()
		if len(records) != 1 {
			t.Fatalf("%d records came", len(records))
		}
		result := map[string]any{slog.LevelKey: records[0].GetSeverityText(), slog.MessageKey: records[0].GetBody().GetStringValue()}
		if at := records[0].GetTimeUnixNano(); at != 0 {
			result[slog.TimeKey] = time.Unix(0, int64(at))
		}
		for _, attribute := range records[0].GetAttributes() {
			nest(result, strings.Split(attribute.GetKey(), "."), attribute.GetValue())
		}
		return result
	})
}

// nest makes groups of dots again.
func nest(into map[string]any, path []string, value *commonpb.AnyValue) {
	for _, group := range path[:len(path)-1] {
		inner, ok := into[group].(map[string]any)
		if !ok {
			inner = map[string]any{}
			into[group] = inner
		}
		into = inner
	}
	into[path[len(path)-1]] = value.GetStringValue()
}

func TestValuesOfLogs(t *testing.T) {
	receiver := otlptest.Start(t)
	logs := client(t, otlp.Config{Endpoint: receiver.URL}, io.Discard).Logs(slog.LevelInfo)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	slog.New(logs).ErrorContext(t.Context(), "hello", "bool", true, "float", 1.5, "duration", time.Second, "time", at,
		"error", errors.New("broken"), "level", slog.LevelWarn, "list", []string{"a"}, "uint", uint64(1<<63), "nothing", nil)
	logs.Close(t.Context())
	got := map[string]string{}
	for _, attribute := range receiver.Logs()[0].GetAttributes() {
		got[attribute.GetKey()] = attribute.GetValue().String()
	}
	for key, want := range map[string]string{
		"bool": "bool_value:true", "float": "double_value:1.5", "duration": `string_value:"1s"`,
		"time": `string_value:"2026-01-02T03:04:05.000000006Z"`, "error": `string_value:"broken"`, "level": `string_value:"WARN"`,
		"list": `string_value:"[a]"`, "uint": `string_value:"9223372036854775808"`, "nothing": `string_value:"<nil>"`,
	} {
		if got[key] != want {
			t.Errorf("%s is sent as %s, want %s", key, got[key], want)
		}
	}
}
