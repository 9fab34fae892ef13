# make help lists the targets; make alone runs the quick checks.

SHELL := /bin/bash
BIN := bin
PROGRAMS := $(filter-out internal,$(notdir $(wildcard cmd/*)))
# Packages whose tests need no daemon.
UNIT := $(shell go list ./... | grep -v /test/)

.PHONY: all build dev fmt vet lint unit deps demo test script conformance proto bench crash vm fuzz gen generated help clean

all: fmt vet lint unit ## the quick checks: format, vet, lint, unit tests

build: ## build every program into bin/
	CGO_ENABLED=0 go build -o $(BIN)/ $(addprefix ./cmd/,$(PROGRAMS))

dev: build ## a private daemon in ./.dev until Ctrl-C; prints what to set to use it
	@mkdir -p .dev
	@printf 'export PATH=%s:$$PATH\nexport ORLOP_ADDRESS=%s CONTAINERD_ADDRESS=%s\n' $(CURDIR)/$(BIN) $(CURDIR)/.dev/state/orlopd.sock $(CURDIR)/.dev/state/orlopd.sock
	@exec $(BIN)/orlopd --root $(CURDIR)/.dev/root --state $(CURDIR)/.dev/state

fmt: ## fail if a file isn't formatted
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted: $$out"; exit 1; }

vet: ## go vet
	go vet ./...

lint: ## staticcheck, pinned as a Go tool
	go tool staticcheck -checks=inherit,-ST1000,-SA1019 ./...

unit: ## unit tests; those that need root say so and skip without
	go test $(UNIT)

deps: ## install what the tests drive Orlop with (Debian packages)
	@test/deps.sh
	@criu check >/dev/null 2>&1 || test/criu.sh

demo: build ## the main job: make an image, push it, pull it, run it, exec into it, clean up
	@test/deps.sh
	@test/demo.sh

test: build deps fmt vet lint generated ## everything; leaves nothing behind
	go test $(UNIT)
	go test -count=1 -timeout 20m ./test/...

script: deps ## drive the programs by test/script; RUN=part of a script's name
	go test -count=1 ./test/script -run '/scripts/$(RUN)'

conformance: build deps ## suites of others: containerd's stores, the OCI runtime
	go test -count=1 -timeout 30m -v ./test/conformance/...

proto: ## the .proto files: style, and that they only grow since main
	go test -count=1 ./test/proto

bench: build deps ## measure beside every peer on this machine; ROUNDS=15 ONLY=start,bridge,exec,many,memory,pull
	go run ./test/bench/peers -rounds $(or $(ROUNDS),15) $(if $(ONLY),-only $(ONLY))
	go test -run - -bench . ./test/bench ./internal/inflate

crash: build deps ## kill the daemon ROUNDS=100 times and cut the power; SEED=1
	go test -count=1 -timeout 24h ./test/crash -rounds $(or $(ROUNDS),100) -seed $(or $(SEED),1)

vm: ## control groups of both versions and systemd, in virtual machines (QEMU; 5 minutes, 1 GB of cache)
	go test -count=1 -timeout 30m -v ./test/vm -boot

fuzz: ## run every fuzz target for TIME=20s; ONLY=part of a name
	@test/fuzz.sh $(or $(TIME),20s) $(ONLY)

gen: ## generate code and golden files
	go generate ./...

generated: ## fail if make gen would change anything
	@before=$$(git diff | sha256sum; git status --porcelain); go generate ./... && \
	after=$$(git diff | sha256sum; git status --porcelain); \
	test "$$before" = "$$after" || { echo "make gen changes files:"; git status --short; exit 1; }

clean: ## remove what was built
	rm -rf $(BIN)

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13
