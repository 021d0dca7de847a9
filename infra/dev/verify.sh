#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# verify.sh proves that what is checked in twice says the same twice: generated
# code and its sources, versions.env and the files that repeat it, go.mod and the
# imports. It changes nothing in the checkout, reports every difference it finds,
# and exits 1 if there was one.

set -euo pipefail
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"
cd "$AMPORA_ROOT"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

failures=0
fail() {
	say "verify: $*"
	failures=$((failures + 1))
}

# generated: a copy of the checkout, generated anew, equals itself.
generated() {
	local copy="$scratch/copy" before after
	mkdir "$copy"
	git ls-files -z --cached --others --exclude-standard |
		while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
		tar --null -T - -cf - | tar -xf - -C "$copy"
	"$AMPORA_DEV/tools.sh" buf protoc-gen-go protoc-gen-connect-go
	ln -s "$AMPORA_TOOLS" "$copy/.tools"
	(
		cd "$copy"
		echo /.tools >>.gitignore
		git init -q .
		git add -A
		before=$(git write-tree)
		make --no-print-directory generate >generate.log 2>&1 || {
			cat generate.log >&2
			exit 1
		}
		rm generate.log
		git add -A
		after=$(git write-tree)
		git diff --stat --exit-code "$before" "$after" >&2
	) || fail "generated code is not current: make generate"
}

# same WHAT WANT GOT
same() {
	[ "$2" = "$3" ] || fail "$1 is ${3:-missing}, versions.env says $2"
}

npm_version() { sed -n -E "s|^ *\"$2\": \"([^\"]*)\",?\$|\1|p" "$1"; }
go_version() { GOWORK=off go -C "$1" list -m -f '{{.Version}}' "$2" 2>/dev/null || true; }

versions() {
	local file=infra/dev/node/package.json package
	for package in buf-linux-x64 buf-linux-aarch64; do
		same "$file @bufbuild/$package" "$BUF_VERSION" "$(npm_version $file "@bufbuild/$package")"
	done
	same "$file @bufbuild/protoc-gen-es" "$PROTOC_GEN_ES_VERSION" "$(npm_version $file @bufbuild/protoc-gen-es)"
	file=infra/dev/postgres/package.json
	for package in darwin-arm64 darwin-x64 linux-arm64 linux-x64; do
		same "$file $package" "$POSTGRES_VERSION" "$(npm_version $file "@embedded-postgres/$package")"
	done
	same "proto/go.mod connect" "$PROTOC_GEN_CONNECT_GO_VERSION" "$(go_version proto connectrpc.com/connect/v2)"
	same "proto/go.mod protobuf" "$PROTOC_GEN_GO_VERSION" "$(go_version proto google.golang.org/protobuf)"
	same "proto/go.mod protovalidate" "$PROTOVALIDATE_PROTO_VERSION" \
		"$(go_version proto buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go)"
	if [ -e control/web/package.json ]; then
		same "control/web/package.json @bufbuild/protobuf" "$PROTOC_GEN_ES_VERSION" \
			"$(npm_version control/web/package.json @bufbuild/protobuf)"
	fi
	grep -q "protovalidate $PROTOVALIDATE_PROTO_VERSION\." proto/third_party/buf/validate/validate.proto ||
		fail "validate.proto is of another protovalidate: infra/dev/third-party.sh"
}

# tidy: every module stands alone, outside the workspace too.
tidy() {
	local module difference
	sed -n 's|^[[:space:]]*\./||p' go.work >"$scratch/modules"
	while read -r module; do
		if ! difference=$(GOWORK=off go -C "$module" mod tidy -diff 2>&1); then
			fail "$module/go.mod: go mod tidy -diff (GOWORK=off) says"
			grep -v '^go: downloading' <<<"$difference" | head -n 25 >&2 || true
		fi
	done <"$scratch/modules"
}

# absent PATTERN WHY PATHSPEC...
absent() {
	local pattern=$1 why=$2
	shift 2
	if git grep --untracked -nE "$pattern" -- "$@" >&2; then
		fail "$why"
	fi
}

guards() {
	absent '"resolved":' "lock files hold no download addresses" '*package-lock.json'
	absent '@late[s]t' "versions are exact" '*.sh' Makefile '*.mk' .ci '*package.json'
	absent '\b[tbf]\.Skip(f|Now)?\(' "a test that is skipped is a test that is missing" '*_test.go'
	absent '^replace .*=> *(/|\.\./\.\.)' "replace lines point at siblings" '*go.mod'
}

versions
guards
tidy
generated
[ "$failures" = 0 ] || die "$failures differences"
say "verify: everything agrees"
