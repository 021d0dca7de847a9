// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !noazurekms

package drivers

import (
	"context"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"go.step.sm/crypto/kms/apiv1"
	library "go.step.sm/crypto/kms/azurekms"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

func init() { registered = append(registered, azureKMS) } //nolint:gochecknoinits // the build tag decides

var (
	azureService = kms.Attributes{"vault": true, "environment": false, "tenant-id": false, "hsm": false}
	// The version is part of a key's name: without it a key that is rotated in the vault is another one.
	azureKey = kms.Attributes{"vault": true, "name": true, "version": true}
)

var azureKMS = kms.Driver{
	Scheme: library.Scheme, CheckService: checkHSM(azureService), CheckKey: azureKey.Check,
	Open: func(ctx context.Context, service *uri.URI) (kms.Manager, error) {
		opened, err := library.New(context.WithoutCancel(ctx), apiv1.Options{URI: textOf(service)})
		if err != nil {
			return nil, err //nolint:wrapcheck // by the caller
		}
		vault := service.Get("vault")
		return &adapter{library: opened, check: azureKey.Check, level: levelOf(service), named: func(name string) string {
			return uri.New(library.Scheme, map[string][]string{"vault": {vault}, "name": {name}}).String()
		}}, nil
	},
	Transient: azureTransient, Stale: refused(azureTransient),
}

func azureTransient(err error) bool {
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return network(err)
	}
	return answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
}
