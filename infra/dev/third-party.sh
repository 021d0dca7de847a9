#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# third-party.sh prints proto/third_party/buf/validate/validate.proto anew from
# the Go module that the generated code is linked against. The text is not in any
# package registry we use, its descriptor is; so lint and generate work offline
# and the text cannot disagree with the linked code.

set -euo pipefail
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"

target="$AMPORA_ROOT/proto/third_party/buf/validate/validate.proto"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/main.go" <<'GO'
package main

import (
	"fmt"
	"log"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
)

func main() {
	text, err := (&protoprint.Printer{}).PrintProtoToString(validate.File_buf_validate_validate_proto)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(text)
}
GO

(
	cd "$work"
	export GOWORK=off GOFLAGS="-mod=mod -buildvcs=false"
	go mod init print >/dev/null 2>&1
	go get "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate@$PROTOVALIDATE_PROTO_VERSION" \
		"github.com/jhump/protoreflect/v2/protoprint@$PROTOREFLECT_VERSION"
	go run . >validate.proto
)

# Formatted alone, outside the workspace, which needs modules of its own to exist.
"$AMPORA_DEV/tools.sh" buf
"$AMPORA_TOOLS/bin/buf" format -w "$work/validate.proto"
mkdir -p "$(dirname "$target")"
{
	echo "// Copyright Buf Technologies, Inc. SPDX-License-Identifier: Apache-2.0"
	echo "// Printed by infra/dev/third-party.sh from protovalidate $PROTOVALIDATE_PROTO_VERSION. DO NOT EDIT."
	echo
	cat "$work/validate.proto"
} >"$target"
