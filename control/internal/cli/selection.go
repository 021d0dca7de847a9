// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// agentSelection are the flags that say which agents.
type agentSelection struct {
	group, presence, gateway               string
	namePrefix, text, host, service        string
	version, reason, config, state, method string
	drift                                  string
	enrolledAfter, enrolledBefore, expires string
	capabilities                           []string
	labels, tags                           map[string]string
	noGroup, healthy, unhealthy, attention bool
}

func (s *agentSelection) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.text, "search", "", "only agents of which every word of this `TEXT` begins the host name, the service name or the id")
	flags.StringVar(&s.group, "group", "", "only members of this `GROUP` (name or id)")
	flags.BoolVar(&s.noGroup, "no-group", false, "only agents in no group")
	flags.StringVar(&s.presence, "presence", "", "only agents that are `PRESENCE`: "+
		strings.Join(enumWords[amporav1.Presence](), ", "))
	flags.StringVar(&s.gateway, "gateway", "", "only agents whose session is, or was, at this `GATEWAY`")
	flags.StringVar(&s.config, "config", "", "only agents that shall run this `CONFIG[@VERSION]`; with --state applied, those that do")
	flags.StringVar(&s.state, "state", "", "only agents whose configuration is in this `STATE`: "+
		strings.Join(enumWords[amporav1.DeliveryState](), ", "))
	flags.StringVar(&s.drift, "drift", "", "only agents of this `DRIFT`, whether they run what was assigned to them: "+
		strings.Join(enumWords[amporav1.DriftState](), ", "))
	flags.StringVar(&s.namePrefix, "name-prefix", "", "only agents whose host or service name begins with `PREFIX`")
	flags.StringVar(&s.host, "host-prefix", "", "only agents whose host name begins with `PREFIX`")
	flags.StringVar(&s.service, "service", "", "only agents of this service `NAME`")
	flags.StringVar(&s.version, "service-version", "", "only agents of this `VERSION` of their service")
	flags.StringToStringVar(&s.labels, "label", nil, "only agents with this label, as `KEY=VALUE`; may be given several times")
	flags.StringToStringVar(&s.tags, "tag", nil, "only agents with this tag, as `KEY=VALUE`; may be given several times")
	flags.StringSliceVar(&s.capabilities, "capability", nil, "only agents with this OpAMP `CAPABILITY`, as AcceptsRemoteConfig; may be given several times")
	flags.BoolVar(&s.healthy, "healthy", false, "only agents that call themselves healthy")
	flags.BoolVar(&s.unhealthy, "unhealthy", false, "only agents that call themselves unhealthy")
	flags.BoolVar(&s.attention, "attention", false, "only agents that a person should look at")
	flags.StringVar(&s.reason, "attention-reason", "", "only agents with a remark of this `REASON`")
	flags.StringVar(&s.method, "enrolled-by", "", "only agents that were enrolled by this `METHOD`: "+
		strings.Join(enumWords[amporav1.EnrolmentMethod](), ", "))
	flags.StringVar(&s.enrolledAfter, "enrolled-after", "", "only agents that were enrolled at this `TIME` or later: "+timeForms)
	flags.StringVar(&s.enrolledBefore, "enrolled-before", "", "only agents that were enrolled before this `TIME`")
	flags.StringVar(&s.expires, "certificate-expires-before", "", "only agents whose certificate ends before this `TIME`, as +30d")
}

// empty says that no flag was given.
func (s *agentSelection) empty() bool { return reflect.DeepEqual(*s, agentSelection{}) }

// filter is what the flags say, at now.
func (s *agentSelection) filter(ctx context.Context, now time.Time, api *api) (*amporav1.AgentFilter, error) {
	filter := &amporav1.AgentFilter{
		NoGroup: s.noGroup, GatewayId: s.gateway, Text: s.text, NamePrefix: s.namePrefix, HostPrefix: s.host, ServiceName: s.service,
		ServiceVersion: s.version, Labels: s.labels, Tags: s.tags, Capabilities: s.capabilities, Healthy: s.healthy,
		Unhealthy: s.unhealthy, Attention: s.attention, AttentionReason: s.reason,
	}
	for _, read := range []func() error{
		func() (err error) {
			filter.Presence, err = enumNamed[amporav1.Presence]("presence", s.presence)
			return err
		},
		func() (err error) {
			filter.DeliveryState, err = enumNamed[amporav1.DeliveryState]("state", s.state)
			return err
		},
		func() (err error) {
			filter.Drift, err = enumNamed[amporav1.DriftState]("drift", s.drift)
			return err
		},
		func() (err error) {
			filter.EnrolmentMethod, err = enumNamed[amporav1.EnrolmentMethod]("enrolled-by", s.method)
			return err
		},
		func() (err error) {
			filter.EnrolledAfter, err = timeFlag("enrolled-after", s.enrolledAfter, now)
			return err
		},
		func() (err error) {
			filter.EnrolledBefore, err = timeFlag("enrolled-before", s.enrolledBefore, now)
			return err
		},
		func() (err error) {
			filter.CertificateExpiresBefore, err = timeFlag("certificate-expires-before", s.expires, now)
			return err
		},
		func() (err error) { filter.GroupId, err = api.groupID(ctx, s.group); return err },
		func() (err error) {
			filter.ConfigId, filter.ConfigVersion, err = api.configOf(ctx, s.config)
			return err
		},
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return filter, nil
}

// configOf is the id and the version, 0 for any, that a CONFIG[@VERSION] names.
func (a *api) configOf(ctx context.Context, text string) (id string, version int32, err error) {
	if text == "" {
		return "", 0, nil
	}
	ref, err := parseVersionRef(text)
	if err != nil {
		return "", 0, err
	}
	config, err := a.config(ctx, ref.config)
	return config.GetId(), ref.version, err
}

const timeForms = "as 2026-05-04, 2026-05-04T09:00:00Z, or -24h or +30d from now"

// timeFlag reads a time of one of the timeForms; nil if there is none.
func timeFlag(flag, text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if sign := text[0]; sign == '-' || sign == '+' {
		var span lifetime
		if err := span.Set(text[1:]); err != nil {
			return nil, usage("--%s: %q is not a time %s", flag, text, timeForms)
		}
		if sign == '-' {
			return timestamppb.New(now.Add(-span.duration())), nil
		}
		return timestamppb.New(now.Add(span.duration())), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return timestamppb.New(at), nil
		}
	}
	return nil, usage("--%s: %q is not a time %s", flag, text, timeForms)
}
