// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !noawskms

package drivers

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/smithy-go"
	"go.step.sm/crypto/kms/apiv1"
	library "go.step.sm/crypto/kms/awskms"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

func init() { registered = append(registered, awsKMS) } //nolint:gochecknoinits // the build tag decides

var (
	awsService = kms.Attributes{"region": false, "profile": false, "credentials-file": false}
	awsKey     = kms.Attributes{"key-id": true}
)

var awsKMS = kms.Driver{
	Scheme: library.Scheme, CheckService: awsService.Check, CheckKey: checkAWSKey,
	Open: func(ctx context.Context, service *uri.URI) (kms.Manager, error) {
		opened, err := library.New(context.WithoutCancel(ctx), apiv1.Options{URI: textOf(service)})
		if err != nil {
			return nil, err //nolint:wrapcheck // by the caller
		}
		return &adapter{library: opened, check: checkAWSKey, named: func(name string) string {
			return uri.New(library.Scheme, map[string][]string{"name": {name}}).String()
		}}, nil
	},
	Transient: awsTransient, Stale: refused(awsTransient),
}

func awsTransient(err error) bool {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return network(err)
	}
	code := answer.ErrorCode()
	return answer.ErrorFault() == smithy.FaultServer || strings.Contains(code, "Throttl") || code == "LimitExceededException" ||
		code == "DependencyTimeoutException" || code == "KeyUnavailableException" || code == "KMSInternalException"
}

// checkAWSKey refuses aliases, which come to mean another key when somebody moves them.
func checkAWSKey(u *uri.URI) error {
	if err := awsKey.Check(u); err != nil {
		return err
	}
	id := u.Get("key-id")
	if strings.Contains(id, "alias/") || id != strings.ToLower(id) {
		return errors.New("key-id must be the id or the ARN of a key, not an alias")
	}
	return nil
}
