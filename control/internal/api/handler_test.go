// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// send posts a body as JSON.
func (w *world) send(path, secret, body string) (code, reason string) {
	request := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if secret != "" {
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request)
	return w.answerOf(recorder.Body.Bytes(), false)
}

func TestPagesOfOtherOrigins(t *testing.T) {
	w := newWorld(t)
	preflight := func(origin string) http.Header {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/ampora.v1.AgentService/ListAgents", http.NoBody)
		request.Header.Set("Origin", origin)
		request.Header.Set("Access-Control-Request-Method", http.MethodPost)
		request.Header.Set("Access-Control-Request-Headers", "authorization,connect-protocol-version,content-type")
		recorder := httptest.NewRecorder()
		w.handler.ServeHTTP(recorder, request)
		return recorder.Header()
	}
	if allowed := preflight("https://ui.example.com"); allowed.Get("Access-Control-Allow-Origin") != "https://ui.example.com" ||
		!strings.Contains(allowed.Get("Access-Control-Allow-Headers"), "authorization") || allowed.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("the configured origin gets %v", allowed)
	}
	for _, origin := range []string{"https://evil.example.com", "http://ui.example.com", "https://ui.example.com.evil.example.com", "null"} {
		if header := preflight(origin); header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s gets %v", origin, header)
		}
	}
}

func TestAnswersAreNotCached(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleViewer})
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet,
		"/ampora.v1.SystemService/GetSystem?connect=v1&encoding=json&message=%7B%7D", http.NoBody)
	request.Header.Set("Authorization", "Bearer "+secret)
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK || recorder.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", recorder.Code, recorder.Header())
	}
}

func TestLongRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin})
	body := `{"note": "` + strings.Repeat("x", api.MaxRequestBytes) + `"}`
	code, reason := w.send("/ampora.v1.ConfigService/CreateConfigVersion", secret, body)
	if code != "resource_exhausted" || reason != "REQUEST_TOO_LARGE" {
		t.Errorf("%s %s", code, reason)
	}
}
