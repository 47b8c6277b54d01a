# `make` lists the targets. Everything is run from the repository's root.
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN     ?= bin
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)

# Linters have a module of their own, so that they are nobody's dependency.
GOLANGCI := go tool -modfile=tools/go.mod golangci-lint

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## build, then play a tour of the main job (needs no root, ends by itself)
	@scripts/demo.sh

.PHONY: deploy-cycle
deploy-cycle: build ## play the story of a fleet on this machine (needs haproxy, no root, ends by itself)
	@cd test/etcd && go run ./deploycycle -listener $(abspath $(BIN))/listener -example $(CURDIR)/examples/deploy-cycle

.PHONY: test
test: ## all tests with the race detector; as root or in CI installs what they need
	@scripts/test.sh $(TESTFLAGS)

.PHONY: test-systemd
test-systemd: ## the agent as a service of a real systemd, in a container (needs root; part of make test)
	@scripts/test-systemd.sh

# The store clients' libraries and what they and the API drag in make most of
# the binary: without inlining there, and without gRPC's tracing pages, it is
# 2 MB smaller. What a run waits for is not among these; digests and ciphers are
# assembly anyway.
DRAGGED := google.golang.org go.uber.org go.etcd.io/etcd golang.org/x github.com/nats-io github.com/grpc-ecosystem \
	github.com/klauspost github.com/spf13 github.com/go-json-experiment vendor/golang.org/x \
	github.com/BurntSushi net text/template text/tabwriter encoding/gob encoding/asn1 crypto/tls crypto/x509 \
	crypto/internal/fips140 math/big regexp flag mime log/slog encoding/json reflect \
	./api ./balancer ./cmd/listener ./config ./graph ./internal ./manifest ./provision ./publish ./render ./status ./store
SMALL := -tags grpcnotrace $(foreach p,$(DRAGGED),-gcflags='$(p)/...=-l')

.PHONY: build
build: ## bin/listener, one static binary
	CGO_ENABLED=0 go build -trimpath $(SMALL) -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/listener ./cmd/listener

.PHONY: deb rpm release
deb: ## dist/*.deb for amd64 and arm64 (ARCHES=amd64 for one)
rpm: ## dist/*.rpm for amd64 and arm64
release: ## packages, archives, a bill of materials and SHA256SUMS in dist/
deb rpm release:
	@scripts/package.sh $@

.PHONY: test-packages
test-packages: ## install, upgrade, remove and purge what `make release` makes (needs root; part of make test)
	@scripts/test-packages.sh

.PHONY: lint
lint: ## golangci-lint, gofumpt included (built on first use, which takes some minutes)
	$(GOLANGCI) run
	@for m in test/*/ tools/package/; do (cd $$m && go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run -c $(CURDIR)/.golangci.yml) || exit 1; done

.PHONY: fmt
fmt: ## format with gofumpt
	$(GOLANGCI) fmt

.PHONY: bench
bench: ## measure the agent beside a floor (15 minutes); BENCHFLAGS=./PACKAGE runs a package's own
	go test -run '^$$' -bench . -timeout 0 $(or $(BENCHFLAGS),-benchtime 1x ./cmd/listener)
	@[[ -n "$(BENCHFLAGS)" ]] || for m in test/*/; do go -C $$m test -run '^$$' -bench . -benchtime 1x -timeout 0 . || exit 1; done

.PHONY: soak
soak: ## the long tests, for SOAK=10m each, then 10,000 bursts of writes to each store, with faults
	SOAK=$(or $(SOAK),10m) go test -run '^TestSoak' -count=1 -timeout 0 -v ./...
	@export STORETEST_BURSTS=$(or $(STORETEST_BURSTS),10000) STORETEST_FAULTS=$(or $(STORETEST_FAULTS),1000); \
	for m in . test/*/; do \
		p=./...; [[ $$m != . ]] || p='./store/local ./store/storetest'; \
		go -C $$m test -run '^Test(Contract|Memory|Soak).*/bursts_with_faults$$' -count=1 -timeout 0 -v $$p || exit 1; \
	done

.PHONY: fuzz
fuzz: ## every fuzz target, for FUZZTIME=10s each
	@scripts/fuzz.sh

.PHONY: cover
cover: ## what the tests reach; bin/cover.html has it line by line
	@mkdir -p $(BIN)
	go test -coverpkg=./... -coverprofile=$(BIN)/cover.out ./...
	go tool cover -html=$(BIN)/cover.out -o $(BIN)/cover.html
	@go tool cover -func=$(BIN)/cover.out | tail -1

.PHONY: install
install: build ## install the binary to PREFIX=/usr/local (DESTDIR for packagers)
	install -D -m 0755 $(BIN)/listener $(DESTDIR)$(PREFIX)/bin/listener

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
