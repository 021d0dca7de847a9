// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command vaulttransit serves the transit engine of Vault, as a library and in memory, with what of Vault's HTTP is
// needed to use it: for tests of whoever keeps keys there.
//
// It is a module of its own and no part of the workspace, because the engine is under the Business Source License: it
// is run by tests, and neither linked into nor shipped with anything.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/logical"
)

const maxBody = 1 << 20

// vault is an engine and the tokens that may use it.
type vault struct {
	engine  logical.Backend
	storage logical.Storage
	root    string
	secret  string // of each role of AppRole, and the token of each pod
	life    time.Duration

	mu     sync.Mutex
	tokens map[string]time.Time // with their ends
}

func main() {
	root := flag.String("root-token", "", "a `TOKEN` that does not end")
	secret := flag.String("secret", "", "the `SECRET` that logs in: as secret_id of AppRole, as jwt of Kubernetes")
	life := flag.Duration("token-life", time.Hour, "how long a token lives that was logged in for")
	flag.Parse()
	if err := run(*root, *secret, *life); err != nil {
		log.Fatal(err)
	}
}

func run(root, secret string, life time.Duration) error {
	ctx := context.Background()
	storage := &logical.InmemStorage{}
	engine, err := transit.Factory(ctx, &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), StorageView: storage, BackendUUID: "vaulttransit",
		System: &logical.StaticSystemView{DefaultLeaseTTLVal: life, MaxLeaseTTLVal: life},
	})
	if err != nil {
		return err
	}
	if err := engine.Initialize(ctx, &logical.InitializationRequest{Storage: storage}); err != nil {
		return err
	}
	v := &vault{engine: engine, storage: storage, root: root, secret: secret, life: life, tokens: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/auth/{method}/login", v.login)
	mux.HandleFunc("/v1/transit/{path...}", v.transit)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

// login gives a token for the secret.
func (v *vault) login(w http.ResponseWriter, r *http.Request) {
	var asked map[string]string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&asked); err != nil {
		refuse(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	given := map[string]string{"approle": asked["secret_id"], "kubernetes": asked["jwt"]}[r.PathValue("method")]
	named := map[string]string{"approle": asked["role_id"], "kubernetes": asked["role"]}[r.PathValue("method")]
	if v.secret == "" || given != v.secret || named == "" {
		refuse(w, http.StatusBadRequest, "invalid role or secret ID")
		return
	}
	token := "hvs." + rand.Text()
	v.mu.Lock()
	v.tokens[token] = time.Now().Add(v.life)
	v.mu.Unlock()
	answer(w, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": int(v.life.Seconds()), "renewable": true}})
}

func (v *vault) admits(token string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return token != "" && (token == v.root || time.Now().Before(v.tokens[token]))
}

// transit hands a request to the engine.
func (v *vault) transit(w http.ResponseWriter, r *http.Request) {
	if !v.admits(r.Header.Get("X-Vault-Token")) {
		refuse(w, http.StatusForbidden, "permission denied")
		return
	}
	request := &logical.Request{Path: r.PathValue("path"), Storage: v.storage, Operation: logical.ReadOperation, MountPoint: "transit/"}
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request.Data); err != nil {
			refuse(w, http.StatusBadRequest, "failed to parse JSON input")
			return
		}
		request.Operation = logical.UpdateOperation
		if checked, exists, err := v.engine.HandleExistenceCheck(r.Context(), request); err == nil && checked && !exists {
			request.Operation = logical.CreateOperation
		}
	}
	response, err := v.engine.HandleRequest(r.Context(), request)
	switch {
	case errors.Is(err, logical.ErrUnsupportedPath), err == nil && response == nil && request.Operation == logical.ReadOperation:
		refuse(w, http.StatusNotFound)
	case errors.Is(err, logical.ErrInvalidRequest), err == nil && response != nil && response.IsError():
		words := []string{}
		if response != nil && response.IsError() {
			words = strings.Split(response.Error().Error(), "\n")
		}
		refuse(w, http.StatusBadRequest, words...)
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error())
	case response == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, map[string]any{"data": response.Data})
	}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, words ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": words})
}
