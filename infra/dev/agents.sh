#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# agents.sh builds the real agents that the end-to-end tests and the demo drive,
# from released modules: `otelcol` (agents/manifest.yaml) and the stock
# `opampsupervisor`. It prints the folder that holds both and nothing else on
# standard output. `agents.sh reference` does so with a collector of more
# components alone. About four minutes of CPU the first time, nothing afterwards:
# the result is kept outside the checkout, in $AMPORA_AGENTS_CACHE, under the
# hash of everything that decides it, and appears there whole or not at all.

set -euo pipefail
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"

need go "to build the agents"

variant=${1:-manifest}
[ -e "$AMPORA_DEV/agents/$variant.yaml" ] || die "there is no agents/$variant.yaml"
manifest=$(sed -e '/^ *#/d' -e "s/@COLLECTOR@/$COLLECTOR_VERSION/" -e "s/@STABLE@/$COLLECTOR_STABLE_VERSION/" "$AMPORA_DEV/agents/$variant.yaml")
inputs="$manifest
ocb $OCB_VERSION
supervisor $SUPERVISOR_VERSION
$(go env GOVERSION GOOS GOARCH)"
key=$(digest <<<"$inputs")
cache="${AMPORA_AGENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ampora/agents}"
folder="$cache/${key:0:16}"

if [ -e "$folder/otelcol" ]; then
	echo "$folder"
	exit
fi

mkdir -p "$cache"
lock "$cache/lock"
if [ -e "$folder/otelcol" ]; then
	echo "$folder"
	exit
fi

# Inside the cache, so that publishing is a rename within one file system.
work=$(mktemp -d "$cache/.build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work" "${AMPORA_LOCK:-}"' EXIT
mkdir "$work/out" "$work/tmp"
# The builder leaves folders in TMPDIR.
export TMPDIR="$work/tmp"
export GOWORK=off GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0

collector() {
	say "building otelcol $COLLECTOR_VERSION (some minutes the first time)"
	"$AMPORA_DEV/tools.sh" ocb
	printf '%s\n' "${manifest//@OUTPUT@/$work/otelcol}" >"$work/manifest.yaml"
	(cd "$work" && "$AMPORA_TOOLS/bin/ocb" --config manifest.yaml --ldflags="-s -w") >"$work/otelcol.log" 2>&1 || {
		cat "$work/otelcol.log" >&2
		die "cannot build otelcol"
	}
	mv "$work/otelcol/otelcol" "$work/out/otelcol"
}

# The supervisor's go.mod has replace directives, which `go install` refuses; a
# module that requires it ignores them.
supervisor() {
	local package=github.com/open-telemetry/opentelemetry-collector-contrib/cmd/opampsupervisor
	say "building opampsupervisor $SUPERVISOR_VERSION"
	mkdir "$work/supervisor"
	(
		cd "$work/supervisor"
		go mod init supervisor
		go get "$package@$SUPERVISOR_VERSION"
		go build -trimpath -ldflags="-s -w" -o "$work/out/opampsupervisor" "$package"
	) >"$work/supervisor.log" 2>&1 || {
		cat "$work/supervisor.log" >&2
		die "cannot build opampsupervisor"
	}
}

# A binary that does not start must never be published.
prove() {
	"$work/out/otelcol" components >"$work/out/components.yaml" || die "otelcol does not start"
	if [ "$variant" = manifest ]; then
		"$work/out/otelcol" validate --config="$AMPORA_DEV/agents/smoke.yaml" || die "otelcol refuses agents/smoke.yaml"
		"$work/out/opampsupervisor" --help >/dev/null 2>&1 || die "opampsupervisor does not start"
	fi
	printf '%s\n' "$inputs" >"$work/out/inputs.txt"
}

collector
[ "$variant" = reference ] || supervisor
prove
mv "$work/out" "$folder"
echo "$folder"
