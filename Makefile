# make test    everything, with the race detector; a skipped test is a failure
# make demo    what is done with a card, 3DES and SM4, on a throw-away SoftHSM token, nothing to configure
# make build   the one binary, in bin/
# make lint    formatting, vet, staticcheck, modules, wording
# make generate, make bench [BENCH=regexp], make search [ROUNDS=200], make audit-large [ENTRIES=10000000], make audit-kills [ROUNDS=200], make flood [WINDOWS=20], make fuzz-short [FUZZTIME=10s]
#
# demo needs softhsm2 and a C compiler, test openCryptoki, PostgreSQL, Chromium and a Vault server too; both install what is missing: see .ci/setup,
# the one list.

export PATH := $(PATH):/usr/local/go/bin
SHELL := /bin/bash -o pipefail

BENCH    ?= .
FUZZTIME ?= 10s
ROUNDS   ?= 200
ENTRIES  ?= 10000000
WINDOWS  ?= 20

.PHONY: all build test demo lint generate bench search audit-large audit-kills flood fuzz-short setup packages packages-demo

all: build

build:
	go build -trimpath -o bin/ ./cmd/pursekeeper

packages:
	@.ci/setup packages

packages-demo:
	@.ci/setup demo

setup:
	@.ci/setup

test: setup
	go test -race -count=1 -timeout 40m -json ./... | go run ./internal/house/testlog

demo: packages-demo
	go run ./cmd/pursekeeper demo

lint:
	.ci/run lint

generate:
	cd api && go tool buf lint && go tool buf generate

bench: packages
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

# The search for a broken invariant of the load, long: make test runs its short form.
search: packages
	PURSEKEEPER_MACHINE_ROUNDS=$(ROUNDS) go test ./signer/ledger -run NoScript -timeout 2h

# A log of ten million entries, sealed and verified: what it took, and the memory. It needs 8 GB in TMPDIR.
audit-large:
	PURSEKEEPER_AUDIT_ENTRIES=$(ENTRIES) go test ./cmd/pursekeeper -run '^TestLargeLog$$' -v -timeout 2h

# The sealer killed again and again, long: make test runs its short form.
audit-kills:
	PURSEKEEPER_SEALER_KILLS=$(ROUNDS) go test ./audit/sealer -run '^TestKilledSealer$$' -v -timeout 2h

# One client floods at ten times the capacity, another at a steady pace keeps its p99: WINDOWS windows without the flood and with it. make test runs its short form.
flood: packages
	PURSEKEEPER_FLOOD_WINDOWS=$(WINDOWS) PURSEKEEPER_FLOOD_TIMES=10 go test ./signer/rpc -run '^TestAFloodLeavesAnotherItsTime$$' -v -timeout 1h

# Each fuzz target for a short while; the seeds of all of them run in every `make test`.
fuzz-short: packages
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null | cut -c6-); do \
	    echo "$$dir $$target"; \
	    (cd "$$dir" && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s .) || exit 1; \
	  done; \
	done
