// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package transit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.step.sm/crypto/kms/uri"
)

// login gives tokens.
type login interface {
	// token returns one that should be good; a new one if the last was not accepted.
	token(ctx context.Context, c *client, again bool) (string, error)
}

// kubernetesToken is where Kubernetes puts the token of a pod's service account.
const kubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

// loginOf reads which of the three ways a URI asks for.
func loginOf(u *uri.URI) (login, error) {
	mount := strings.Trim(u.Get("auth-mount"), "/")
	switch byToken, byRole, byPod := u.Has("token-file"), u.Has("role-id-file"), u.Has("kubernetes-role"); {
	case byToken && !byRole && !byPod:
		return tokenFile(u.Get("token-file")), nil
	case byRole && !byToken && !byPod:
		if !u.Has("secret-id-file") {
			return nil, errors.New("role-id-file needs secret-id-file beside it")
		}
		return &session{mount: orElse(mount, "approle"), files: map[string]string{"role_id": u.Get("role-id-file"), "secret_id": u.Get("secret-id-file")}}, nil
	case byPod && !byToken && !byRole:
		return &session{
			mount: orElse(mount, "kubernetes"), fixed: map[string]string{"role": u.Get("kubernetes-role")},
			files: map[string]string{"jwt": orElse(u.Get("jwt-file"), kubernetesToken)},
		}, nil
	}
	return nil, errors.New("say how to log in by one of token-file, role-id-file with secret-id-file, and kubernetes-role")
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// tokenFile is a file with a token, which whoever keeps the token alive (a Vault agent) writes anew.
type tokenFile string

func (f tokenFile) token(context.Context, *client, bool) (string, error) { return line(string(f)) }

// loginPause is how old a token must be before one that is not accepted is replaced: what its policy forbids, the next
// token may not do either.
const loginPause = 10 * time.Second

// session logs in with what files hold, and again when two thirds of the token's life are over.
type session struct {
	mount        string
	fixed, files map[string]string

	mu    sync.Mutex
	held  string
	since time.Time
	renew time.Time // zero: it does not end
}

func (s *session) token(ctx context.Context, c *client, again bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	live := s.held != "" && (s.renew.IsZero() || now.Before(s.renew))
	if live && (!again || now.Sub(s.since) < loginPause) {
		return s.held, nil
	}
	asked := map[string]string{}
	for name, value := range s.fixed {
		asked[name] = value
	}
	for name, file := range s.files {
		text, err := line(file)
		if err != nil {
			return "", err
		}
		asked[name] = text
	}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
			Life  int    `json:"lease_duration"` // in seconds
		} `json:"auth"`
	}
	if err := c.ask(ctx, http.MethodPost, "auth/"+s.mount+"/login", "", asked, &answer); err != nil {
		return "", err
	}
	if answer.Auth.Token == "" {
		return "", errors.New("the answer holds no token")
	}
	s.held, s.since, s.renew = answer.Auth.Token, now, time.Time{}
	if answer.Auth.Life > 0 {
		s.renew = now.Add(time.Duration(answer.Auth.Life) * time.Second * 2 / 3)
	}
	return s.held, nil
}

// line reads a file that holds one line.
func line(path string) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", err //nolint:wrapcheck // it names the file
	}
	value := strings.TrimSpace(string(text))
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return "", fmt.Errorf("%s does not hold one line", path)
	}
	return value, nil
}
