// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package transit keeps keys in the transit engine of Vault or OpenBao.
//
// What is guaranteed: the token is sent to the configured address alone, over TLS unless that is this machine, and never
// to where an answer points; no answer is read beyond [maxAnswer]; a key is used in the version it was made in, so that
// a rotation in Vault changes nothing here; a token that has ended is replaced at the next call.
package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

// Driver opens Vault's transit engine: vaulttransit:address=URL;mount=PATH and how to log in.
var Driver = kms.Driver{Scheme: "vaulttransit", CheckService: checkService, CheckKey: checkKey, Open: open, Transient: transient, Stale: stale}

var (
	serviceAttributes = kms.Attributes{
		"address": true, "mount": false, "namespace": false, "ca-file": false, "auth-mount": false,
		"token-file": false, "role-id-file": false, "secret-id-file": false, "kubernetes-role": false, "jwt-file": false,
	}
	keyAttributes = kms.Attributes{"name": true, "version": true}

	paths = regexp.MustCompile(`^\w[\w.-]*(/\w[\w.-]*)*$`)
	names = regexp.MustCompile(`^\w[\w.-]*$`)
)

func checkService(u *uri.URI) error {
	if err := serviceAttributes.Check(u); err != nil {
		return err
	}
	address, err := url.Parse(u.Get("address"))
	if err != nil || address.Host == "" || address.User != nil || strings.Trim(address.Path, "/") != "" || address.RawQuery != "" {
		return errors.New("address must be of the form https://host[:port]")
	}
	if address.Scheme != "https" && (address.Scheme != "http" || !loopback(address.Hostname())) {
		return errors.New("address must be an https:// URL: a token must not cross a network in clear")
	}
	for _, name := range []string{"mount", "namespace", "auth-mount"} {
		if value := u.Get(name); value != "" && !paths.MatchString(strings.Trim(value, "/")) {
			return fmt.Errorf("%s is no path", name)
		}
	}
	_, err = loginOf(u)
	return err
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

func checkKey(u *uri.URI) error {
	if err := keyAttributes.Check(u); err != nil {
		return err
	}
	if version, err := strconv.Atoi(u.Get("version")); err != nil || version < 1 {
		return errors.New("version must be a number from 1")
	}
	if !names.MatchString(u.Get("name")) {
		return errors.New("name is no name of a key")
	}
	return nil
}

// engine is the transit engine of one mount.
type engine struct {
	client *client
	mount  string
}

func open(_ context.Context, service *uri.URI) (kms.Manager, error) {
	c, err := newClient(service)
	if err != nil {
		return nil, err
	}
	mount := strings.Trim(service.Get("mount"), "/")
	if mount == "" {
		mount = "transit"
	}
	return &engine{client: c, mount: mount}, nil
}

var types = map[kms.Algorithm]string{kms.ECDSAP256: "ecdsa-p256", kms.RSA3072: "rsa-3072"}

// Create implements kms.Manager.
func (e *engine) Create(ctx context.Context, name string, algorithm kms.Algorithm) (kms.Key, error) {
	kind, ok := types[algorithm]
	if !ok || !names.MatchString(name) {
		return kms.Key{}, fmt.Errorf("vault makes no key %q for %s", name, algorithm)
	}
	asked := map[string]any{"type": kind, "exportable": false, "allow_plaintext_backup": false}
	if err := e.client.call(ctx, http.MethodPost, e.mount+"/keys/"+name, asked, nil); err != nil {
		return kms.Key{}, fmt.Errorf("make the key: %w", err)
	}
	public, err := e.public(ctx, name, 1)
	if err != nil {
		return kms.Key{}, err
	}
	return kms.Key{URI: uri.New(Driver.Scheme, url.Values{"name": {name}, "version": {"1"}}).String(), Public: public}, nil
}

// Open implements kms.Manager.
func (e *engine) Open(ctx context.Context, u *uri.URI) (crypto.Signer, error) {
	version, err := strconv.Atoi(u.Get("version"))
	if err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	public, err := e.public(ctx, u.Get("name"), version)
	if err != nil {
		return nil, err
	}
	return &key{engine: e, name: u.Get("name"), version: version, public: public}, nil
}

// Close implements kms.Manager.
func (e *engine) Close() error {
	e.client.http.CloseIdleConnections()
	return nil
}

// public reads the public key of one version.
func (e *engine) public(ctx context.Context, name string, version int) (crypto.PublicKey, error) {
	var answer struct {
		Data struct {
			Keys map[string]struct {
				PublicKey string `json:"public_key"`
			} `json:"keys"`
		} `json:"data"`
	}
	if err := e.client.call(ctx, http.MethodGet, e.mount+"/keys/"+name, nil, &answer); err != nil {
		return nil, fmt.Errorf("read the key %s: %w", name, err)
	}
	of, ok := answer.Data.Keys[strconv.Itoa(version)]
	if !ok {
		return nil, fmt.Errorf("the key %s has no version %d", name, version)
	}
	block, _ := pem.Decode([]byte(of.PublicKey))
	if block == nil {
		return nil, fmt.Errorf("the key %s has no public key in PEM", name)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the public key of %s: %w", name, err)
	}
	switch of := public.(type) {
	case *ecdsa.PublicKey:
		if of.Curve == elliptic.P256() {
			return of, nil
		}
	case *rsa.PublicKey:
		return of, nil
	}
	return nil, fmt.Errorf("the key %s is of a kind that is not used here", name)
}

// key signs with one version of a key.
type key struct {
	engine  *engine
	name    string
	version int
	public  crypto.PublicKey
}

// Public returns the public key of the version.
func (k *key) Public() crypto.PublicKey { return k.public }

var hashes = map[crypto.Hash]string{crypto.SHA256: "sha2-256", crypto.SHA384: "sha2-384", crypto.SHA512: "sha2-512"}

// Sign has Vault sign a digest.
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, ok := hashes[opts.HashFunc()]
	if _, pss := opts.(*rsa.PSSOptions); !ok || pss {
		return nil, errors.New("only PKCS #1 v1.5 and ECDSA over SHA-2 are signed")
	}
	asked := map[string]any{
		"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true, "key_version": k.version,
		"marshaling_algorithm": "asn1", "signature_algorithm": "pkcs1v15",
	}
	var answer struct {
		Data struct {
			Signature string `json:"signature"`
		} `json:"data"`
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if err := k.engine.client.call(ctx, http.MethodPost, k.engine.mount+"/sign/"+k.name+"/"+hash, asked, &answer); err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(answer.Data.Signature, "vault:v"+strconv.Itoa(k.version)+":")
	if !ok {
		return nil, fmt.Errorf("the answer is no signature of version %d", k.version)
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the signature in the answer: %w", err)
	}
	return signature, nil
}

// callTime bounds a call that has no context.
const callTime = 15 * time.Second
