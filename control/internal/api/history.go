// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var histories = word[fleet.HistoryKind, amporav1.HistoryKind]{
	{fleet.HistoryConnection, amporav1.HistoryKind_HISTORY_KIND_CONNECTION},
	{fleet.HistoryDescription, amporav1.HistoryKind_HISTORY_KIND_DESCRIPTION},
	{fleet.HistoryHealth, amporav1.HistoryKind_HISTORY_KIND_HEALTH},
	{fleet.HistoryEffectiveConfig, amporav1.HistoryKind_HISTORY_KIND_EFFECTIVE_CONFIG},
	{fleet.HistoryConfigStatus, amporav1.HistoryKind_HISTORY_KIND_CONFIG_STATUS},
	{fleet.HistoryComponents, amporav1.HistoryKind_HISTORY_KIND_COMPONENTS},
	{fleet.HistoryPackages, amporav1.HistoryKind_HISTORY_KIND_PACKAGES},
	{fleet.HistoryDelivery, amporav1.HistoryKind_HISTORY_KIND_DELIVERY},
	{fleet.HistoryIdentity, amporav1.HistoryKind_HISTORY_KIND_IDENTITY},
	{fleet.HistoryOperators, amporav1.HistoryKind_HISTORY_KIND_OPERATORS},
	{fleet.HistoryBounded, amporav1.HistoryKind_HISTORY_KIND_BOUNDED},
}

// ListAgentHistory lists newest first what changed about one agent: its events, by what they are about.
func (s *agents) ListAgentHistory(ctx context.Context, r *amporav1.ListAgentHistoryRequest) (*amporav1.ListAgentHistoryResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listHistory, r)
	if err != nil {
		return nil, err
	}
	filter := fleet.EventFilter{Agent: fleet.AgentID(r.GetId()), From: timeFrom(r.GetFrom()), Until: timeFrom(r.GetUntil())}
	for _, kind := range r.GetKinds() {
		filter.Kinds = append(filter.Kinds, fleet.HistoryEvents[histories.decode(kind)]...)
	}
	list, next, err := s.store.EventsBefore(ctx, by.Tenant, filter, page)
	if err == nil && len(list) == 0 {
		_, err = s.store.Agent(ctx, by.Tenant, filter.Agent) // of nobody there is no history
	}
	return &amporav1.ListAgentHistoryResponse{Entries: each(list, historyEntry), NextPageToken: place(listHistory, next)}, err
}

func historyEntry(e fleet.Event) *amporav1.HistoryEntry {
	return &amporav1.HistoryEntry{
		Time: moment(e.At), Kind: histories.encode(fleet.HistoryOf(e.Kind)), Event: string(e.Kind), Message: e.Message, Attributes: e.Attributes,
	}
}
