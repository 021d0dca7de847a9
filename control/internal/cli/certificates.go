// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) certificateCommands() *cobra.Command {
	return noun("certificates", "Certificates of agents", p.certificatesList(), p.certificatesOffer(), p.certificatesRevoke())
}

func (p *program) certificatesList() *cobra.Command {
	return p.remote(verb{use: "list AGENT", short: "List the certificates of an agent, newest first", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			id, err := api.agentID(ctx, args[0])
			if err != nil {
				return err
			}
			answer, err := api.certificates.ListCertificates(ctx, &amporav1.ListCertificatesRequest{AgentId: id})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return p.certificateTable(answer.GetCertificates()) })
		})
}

func (p *program) certificateTable(certificates []*amporav1.Certificate) view {
	t := newTable("SERIAL", "AGENT", "CREATED", "EXPIRES", "REVOKED", "REASON")
	for _, c := range certificates {
		t.row(or(c.GetSerial()), or(c.GetAgentId()), relative(p.now(), c.GetCreatedAt()), relative(p.now(), c.GetNotAfter()),
			relative(p.now(), c.GetRevokedAt()), word(c.GetRevocationReason()))
	}
	return t
}

func (p *program) certificatesOffer() *cobra.Command {
	return p.remote(verb{
		use: "offer AGENT", short: "Offer an agent a certificate anew that it has not taken", args: cobra.ExactArgs(1),
		long: `Begin anew with offering an agent another certificate, after it was offered some in vain and needs attention: up to three
times again, the first within seconds if it is connected. Find out first why it took none.`,
		example: "amporactl agents list --attention\namporactl certificates offer web-17",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.certificates.OfferCertificate(ctx, &amporav1.OfferCertificateRequest{AgentId: id})
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			return sentence("it is offered a certificate anew; %d offers are forgotten", answer.GetForgotten())
		})
	})
}

func (p *program) certificatesRevoke() *cobra.Command {
	var serials []string
	var reason, key string
	cmd := p.remote(verb{
		use: "revoke [AGENT...] [flags]", short: "Revoke certificates of agents", args: cobra.ArbitraryArgs,
		long: `Revoke every certificate of the agents named, and single ones by --serial: all of them, or after an error none. Their
sessions end at once, and they can neither connect nor renew with them. There is no way back but to enroll anew, as
another agent.

With --signing-key everything is revoked that the key has signed, a thousand at a time; after an error, call it again.`,
		example: "amporactl certificates revoke web-17 --reason key-compromise",
	}, func(ctx context.Context, api *api, args []string) error {
		because, err := enumNamed[amporav1.RevocationReason]("reason", reason)
		if err != nil {
			return err
		}
		if len(args)+len(serials) == 0 == (key == "") {
			return usage("name an agent, or a certificate with --serial, or a signing key alone")
		}
		if key != "" {
			return p.revokeSigned(ctx, api, key, because)
		}
		ids, err := api.agentIDs(ctx, args)
		if err != nil {
			return err
		}
		answer, err := api.certificates.RevokeCertificates(ctx, &amporav1.RevokeCertificatesRequest{AgentIds: ids, Serials: serials, Reason: because})
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			if len(answer.GetCertificates()) == 0 {
				return sentence("there was nothing left to revoke")
			}
			return p.certificateTable(answer.GetCertificates())
		})
	})
	cmd.Flags().StringSliceVar(&serials, "serial", nil, "revoke the certificate with the `SERIAL`, several times or separated by commas")
	cmd.Flags().StringVar(&key, "signing-key", "", "revoke what the signing key `KEY` has signed")
	cmd.Flags().StringVar(&reason, "reason", "", "`REASON`, as it will stand in revocation lists: "+strings.Join(enumWords[amporav1.RevocationReason](), ", "))
	return cmd
}

// revokeSigned revokes all that a key has signed.
func (p *program) revokeSigned(ctx context.Context, api *api, key string, reason amporav1.RevocationReason) error {
	all := new(amporav1.RevokeCertificatesResponse)
	for {
		answer, err := api.certificates.RevokeCertificates(ctx, &amporav1.RevokeCertificatesRequest{SigningKeyId: key, Reason: reason})
		if err != nil {
			return err
		}
		if len(answer.GetCertificates()) == 0 {
			return p.show(all, func() view { return sentence("revoked %d certificates", len(all.GetCertificates())) })
		}
		all.Certificates = append(all.Certificates, answer.GetCertificates()...)
	}
}
