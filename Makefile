# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# The entry to everything a developer or a machine runs here. Tools come by exact
# version from infra/dev/versions.env; nothing but Go, Node and git is assumed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

DEV := infra/dev
MODULES := $(shell sed -n 's|^[[:space:]]*\./||p' go.work)
# Every folder below a cmd/ is a program of that name.
PROGRAMS = $(wildcard control/cmd/* gateway/cmd/* loadtest/cmd/*)
# How much make bench measures: BENCH_AGENTS=200 BENCH_RUNS=1 is a short one.
BENCH_AGENTS ?= 5000
BENCH_RUNS ?= 5
BENCH_FLAGS ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.tools/node/node_modules/.bin:$(PATH)

# each: $(call each,COMMAND) runs COMMAND in every module that has Go code, goes
# on after a failure and fails at the end, naming the modules.
define each
	failed=; \
	for module in $(MODULES); do \
		[ -n "$$(find $$module -name '*.go' -print -quit)" ] || continue; \
		echo "-- $$module"; \
		(cd $$module && $(1)) || failed="$$failed $$module"; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }
endef

# services: sets AMPORA_TEST_POSTGRES_URL and AMPORA_TEST_REDIS_URL, unless the
# caller brought servers of its own. The tests of the Redis bus kill and replace
# servers, so they start their own all the same, as do those of key services.
define services
	$(DEV)/tools.sh redis-server softhsm2 vaulttransit; \
	if [ -z "$${AMPORA_TEST_POSTGRES_URL:-}" ] || [ -z "$${AMPORA_TEST_REDIS_URL:-}" ]; then \
		$(DEV)/services.sh up; \
		exports=$$($(DEV)/services.sh env); \
		eval "$$exports"; \
	fi
endef

##@ Everyday

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## Start everything, enrol a real collector and roll a configuration out.
	$(DEV)/demo.sh

.PHONY: run
run: build ## Start the all-in-one in development mode.
	AMPORA_MODE=development bin/ampora

.PHONY: check
check: lint verify build test ## Everything to run before a commit.

##@ Parts

.PHONY: build
build: ## Build all programs into bin/.
	@mkdir -p bin
	@for program in $(PROGRAMS); do \
		echo "-- bin/$$(basename $$program)"; \
		CGO_ENABLED=0 go build -trimpath \
			-ldflags "-X gitlab.com/ampora/ampora/shared/ops.version=$(VERSION)" \
			-o bin/ ./$$program; \
	done

.PHONY: pkcs11
pkcs11: ## Build bin/pkcs11/ampora-control, which can use HSMs: with cgo, for machines like this one.
	@mkdir -p bin/pkcs11
	CGO_ENABLED=1 go build -trimpath \
		-ldflags "-X gitlab.com/ampora/ampora/shared/ops.version=$(VERSION)" \
		-o bin/pkcs11/ ./control/cmd/ampora-control

.PHONY: test
test: ## Run all tests on a PostgreSQL and a Redis of their own.
	@$(services); $(call each,go test -timeout=20m $(TEST_FLAGS) ./...)

# SQLite, which is C in the form of Go, is none of ours to look for races in, and far slower where it is looked.
race_flags := -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false

# What is explored, and has no goroutines, is explored further without (docs/reference/rollout-safety.md).
test-race: export AMPORA_EXPLORE_STATES ?= 4000
.PHONY: test-race
test-race: ## Run all tests under the race detector.
	@$(services); $(call each,CGO_ENABLED=1 go test $(race_flags) -timeout=20m $(TEST_FLAGS) ./...)

.PHONY: e2e
e2e: build ## Run the end-to-end tests: our programs, real agents.
	@$(DEV)/tools.sh haproxy redis-server; agents=$$($(DEV)/agents.sh); $(services); \
	if [ -d loadtest/e2e ]; then \
		cd loadtest/e2e; \
		AMPORA_E2E_AGENTS_DIR="$$agents" AMPORA_E2E_BIN_DIR="$(CURDIR)/bin" \
			go test -tags=e2e -count=1 -timeout=30m -parallel=5 $(TEST_FLAGS) ./...; \
	else \
		echo "loadtest/e2e does not exist: no end-to-end tests ran" >&2; \
	fi

.PHONY: verdict
verdict: ## Ask a real collector of many components, which takes minutes to build, what it says of our golden configurations.
	@agents=$$($(DEV)/agents.sh reference); cd loadtest/e2e; \
	AMPORA_E2E_AGENTS_DIR="$$agents" go test -tags=e2e -count=1 -v -run='^TestVerdict$$' $(TEST_FLAGS) .

.PHONY: scale
scale: build ## Run the tests with thousands of agents, which take the better part of an hour.
	@$(DEV)/tools.sh haproxy redis-server; $(services); \
	cd loadtest/scale; AMPORA_E2E_BIN_DIR="$(CURDIR)/bin" go test -tags=scale -count=1 -timeout=90m -v $(TEST_FLAGS) ./...

.PHONY: bench
bench: build ## Run all benchmarks, and measure ampora against a plain server.
	@$(services); $(call each,go test -run='^$$' -bench=. -benchmem $(TEST_FLAGS) ./...); \
	for target in "ampora=bin/bench launch --bin bin/ampora" "split=bin/bench launch-split"; do \
		bin/bench --target "yardstick=bin/yardstick" --target "$$target" --agents $(BENCH_AGENTS) --runs $(BENCH_RUNS) \
			--report bin/bench-$${target%%=*}.json --table bin/bench-$${target%%=*}.md $(BENCH_FLAGS); \
	done

.PHONY: lint
lint: ## Look at Go, proto and shell with strict eyes.
	@$(DEV)/tools.sh golangci-lint buf
	@$(call each,golangci-lint run --config=$(CURDIR)/.golangci.yml ./...)
	buf lint
	buf format --diff --exit-code
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck; shellcheck -x $$(git ls-files '*.sh') .ci/run; \
	fi

.PHONY: fmt
fmt: ## Format Go and proto in place.
	@$(DEV)/tools.sh golangci-lint buf
	@$(call each,golangci-lint fmt --config=$(CURDIR)/.golangci.yml ./...)
	buf format --write

.PHONY: breaking
breaking: ## Compare proto/ with the main branch for incompatible changes.
	@$(DEV)/tools.sh buf
	buf breaking --against '.git#branch=main'

.PHONY: generate
generate: ## Write generated code anew.
	@$(DEV)/tools.sh buf protoc-gen-go protoc-gen-connect-go
	buf generate
	@$(call each,go generate ./...)

.PHONY: verify
verify: ## Prove that generated code, versions and go.mod files are current.
	@$(DEV)/verify.sh

.PHONY: deadcode
deadcode: ## List functions that no program reaches.
	@$(DEV)/tools.sh deadcode
	deadcode $(addprefix ./,$(PROGRAMS))

##@ Services

.PHONY: services-up
services-up: ## Start the PostgreSQL and the Redis of the tests.
	@$(DEV)/services.sh up
	@$(DEV)/services.sh env

.PHONY: services-down
services-down: ## Stop them and delete their data.
	@$(DEV)/services.sh down

##@ Machines

.PHONY: ci
ci: export TEST_FLAGS += -count=1
ci: lint verify build pkcs11 test-race e2e ## What a pipeline runs, from empty caches.
