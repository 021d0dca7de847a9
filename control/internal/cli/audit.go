// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) auditCommands() *cobra.Command {
	var entity string
	var limit int
	list := p.remote(verb{use: "list [flags]", short: "List the audit log, newest first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			events, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.AuditEvent, string, error) {
					answer, err := api.audit.ListAuditEvents(ctx,
						&amporav1.ListAuditEventsRequest{PageSize: size, PageToken: token, EntityId: entity})
					return answer.GetEvents(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListAuditEventsResponse{Events: events}, func() view { return auditTable(events) })
		})
	list.Flags().StringVar(&entity, "entity", "", "only what concerns the thing with this `ID`")
	limitFlag(list, &limit, 100)
	return noun("audit", "The audit log: who changed, revealed or was refused what", list)
}

func auditTable(events []*amporav1.AuditEvent) view {
	t := newTable("TIME", "ACTOR", "ROLE", "ACTION", "ENTITY", "FROM", "REFUSED", "COUNT")
	for _, event := range events {
		t.row(stamp(event.GetTime()), joined(event.GetActorKind(), event.GetActor()), word(event.GetRole()), or(event.GetAction()),
			joined(event.GetEntityKind(), event.GetEntityId()), or(event.GetSourceAddress()), or(event.GetRefusalReason()),
			number(event.GetCount()))
	}
	return t
}
