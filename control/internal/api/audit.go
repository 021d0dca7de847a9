// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// audit is the AuditService.
type audit struct{ store store.Access }

// ListAuditEvents lists newest first.
func (s *audit) ListAuditEvents(ctx context.Context, r *amporav1.ListAuditEventsRequest) (*amporav1.ListAuditEventsResponse, error) {
	page, err := pageOf(listAudit, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.AuditRecords(ctx, auth.By(ctx).Tenant, r.GetEntityId(), page)
	return &amporav1.ListAuditEventsResponse{Events: each(list, auditEvent), NextPageToken: place(listAudit, next)}, err
}
