// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !nocloudkms

package drivers

import (
	"context"
	"errors"
	"regexp"

	cloud "cloud.google.com/go/kms/apiv1"
	library "go.step.sm/crypto/kms/cloudkms"
	"go.step.sm/crypto/kms/uri"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

func init() { registered = append(registered, newCloudKMS()) } //nolint:gochecknoinits // the build tag decides

var (
	cloudService = kms.Attributes{"credentials-file": false, "hsm": false}
	cloudKey     = kms.Attributes{}

	cloudRing    = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[\w-]+$`)
	cloudVersion = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[\w-]+/cryptoKeys/[\w-]+/cryptoKeyVersions/\d+$`)
)

// newCloudKMS is the driver with options of the client; tests have some.
func newCloudKMS(options ...option.ClientOption) kms.Driver {
	return kms.Driver{
		Scheme: library.Scheme,
		CheckService: func(u *uri.URI) error {
			if !cloudRing.MatchString(u.Opaque) {
				return errors.New("it must be of the form cloudkms:projects/P/locations/L/keyRings/R?NAME=VALUE")
			}
			return checkHSM(cloudService)(u)
		},
		CheckKey: checkCloudKey,
		Open: func(ctx context.Context, service *uri.URI) (kms.Manager, error) {
			options := options
			if file := service.Get("credentials-file"); file != "" {
				options = append(options, option.WithAuthCredentialsFile(option.ServiceAccount, file))
			}
			client, err := cloud.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
			if err != nil {
				return nil, err //nolint:wrapcheck // by the caller
			}
			ring := service.Opaque
			return &adapter{library: library.NewCloudKMS(client), check: checkCloudKey, level: levelOf(service), named: func(name string) string {
				return uri.NewOpaque(library.Scheme, ring+"/cryptoKeys/"+name).String()
			}}, nil
		},
		Transient: cloudTransient, Stale: refused(cloudTransient),
	}
}

func cloudTransient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.DeadlineExceeded:
		return true
	case codes.Unknown:
		return network(err)
	default:
		return false
	}
}

// checkCloudKey wants a version, which a key's name has at its end.
func checkCloudKey(u *uri.URI) error {
	if !cloudVersion.MatchString(u.Opaque) {
		return errors.New("it must be of the form cloudkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N")
	}
	return cloudKey.Check(u)
}
