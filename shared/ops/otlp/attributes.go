// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
)

func resourceOf(r *resource.Resource) *resourcepb.Resource {
	return &resourcepb.Resource{Attributes: attributesOf(*r.Set())}
}

func scopeOf(name, version string) *commonpb.InstrumentationScope {
	return &commonpb.InstrumentationScope{Name: name, Version: version}
}

// attributesOf covers the values that resources and labels have.
func attributesOf(set attribute.Set) []*commonpb.KeyValue {
	list := make([]*commonpb.KeyValue, 0, set.Len())
	for _, kv := range set.ToSlice() {
		list = append(list, &commonpb.KeyValue{Key: string(kv.Key), Value: valueOf(slog.AnyValue(kv.Value.AsInterface()))})
	}
	return list
}

// valueOf is a value of a log record. What has no kind of its own there is sent as its text.
func valueOf(v slog.Value) *commonpb.AnyValue {
	switch v.Kind() {
	case slog.KindBool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v.Bool()}}
	case slog.KindInt64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v.Int64()}}
	case slog.KindFloat64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v.Float64()}}
	case slog.KindTime:
		return textOf(v.Time().Format(time.RFC3339Nano))
	case slog.KindAny:
		return textOf(anyText(v.Any()))
	default:
		return textOf(v.String())
	}
}

func textOf(text string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: text}}
}

// anyText is what slog's handlers make of a value.
func anyText(value any) string {
	switch v := value.(type) {
	case error:
		return v.Error()
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return string(text)
		}
	}
	return fmt.Sprintf("%+v", value)
}
