# Herald's targets. `make` alone lists them. Everything built lands in bin/, which git ignores.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Static programs, and one build cache for programs and tests: a different CGO_ENABLED or -trimpath would compile all of
# client-go twice. Images are built with -trimpath (see .ko.yaml).
export CGO_ENABLED := 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MODULES := . e2etest e2etest/kube tools tools/golangci-lint tools/ko
# What make deps installs; the programs the lab and the tests call.
DEBIAN_PACKAGES := ca-certificates conntrack curl git iproute2 iptables iputils-arping iputils-ping ndisc6 nftables procps tcpdump
# The tests run routers too. (A variable of a target holds for its prerequisites, here deps.)
test test-scenarios: DEBIAN_PACKAGES += bird2 frr

KUBE_VERSION := $(shell awk '$$1 == "k8s.io/kubernetes" {print $$2; exit}' e2etest/kube/go.mod 2>/dev/null)
KUBE_MINOR := $(word 2,$(subst ., ,$(KUBE_VERSION)))
KUBE_LDFLAGS := -s -w \
	-X k8s.io/component-base/version.gitVersion=$(KUBE_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=$(KUBE_MINOR) \
	-X k8s.io/component-base/version.gitTreeState=clean \
	-X k8s.io/client-go/pkg/version.gitVersion=$(KUBE_VERSION)

##@ Start here

.PHONY: help
help: ## | | this list
	@awk -f tools/help.awk $(MAKEFILE_LIST)

# First among the prerequisites: nobody should wait for a build to learn this.
.PHONY: root
root:
	@((EUID == 0)) || { echo "make $(MAKECMDGOALS): it makes network namespaces: run it as root" >&2; exit 1; }

.PHONY: demo
demo: root deps bin/demo lab-programs ## 13m | 15s | a cluster, a Service, a client, a cut cable: watch Herald work (root)
	bin/demo $(DEMO_ARGS)

.PHONY: test
test: root deps bin/gotestsum lab-programs ## 25m | 15m | levels 1 to 6, as CI runs them (root)
	@tools/test.sh unit drivers api scenarios

##@ Programs

.PHONY: build
build: ## 2m | 5s | the programs of cmd/ into bin/
	@mkdir -p bin
	go build -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

# The tag the chart asks for unless told otherwise.
IMAGE_TAG ?= $(shell awk '$$1 == "appVersion:" {print $$2}' charts/herald/Chart.yaml)
.PHONY: images
images: bin/ko ## 4m | 20s | images of controller and speaker: pushed to REGISTRY, or without it as bin/images.tar
	VERSION=$(VERSION) KO_DOCKER_REPO=$(or $(REGISTRY),heraldlb) bin/ko build --base-import-paths --tags $(IMAGE_TAG) \
		$(if $(REGISTRY),,--push=false --tarball bin/images.tar) $(KO_ARGS) ./cmd/controller ./cmd/speaker

##@ Tests, fast to slow (docs/testing.md says what each level is)

.PHONY: test-unit
test-unit: bin/gotestsum ## 2m | 15s | levels 1 to 3: planners, machines, loops
	@tools/test.sh unit

.PHONY: test-drivers
test-drivers: bin/gotestsum ## 2m | 30s | level 4: ARP, NDP, netlink, gossip in network namespaces
	@tools/test.sh drivers

.PHONY: test-api
test-api: bin/gotestsum bin/kube bin/helm build ## 10m | 1m | level 5: CRDs against a real kube-apiserver, and the chart
	@tools/test.sh api

.PHONY: test-scenarios
test-scenarios: root deps bin/gotestsum lab-programs ## 13m | 12m | level 6: scenarios in the lab (root); RUN=regexp picks some
	@tools/test.sh scenarios

# make test goes through the first 10,000.
SEEDS ?= 1000000
FIRST_SEED ?= 10001
.PHONY: sim
sim: ## 2m | 1h | simulate histories of clusters: SEEDS of them, from FIRST_SEED on; a failure names its seed
	go test ./internal/core/sim -run '^TestHistories$$' -v -count 1 -timeout 0 -seeds $(SEEDS) -first-seed $(FIRST_SEED)

.PHONY: bench
bench: root deps bin/bench lab-programs ## 70m | 1h | measure; JSON lines to BENCH_OUT, options in BENCH_ARGS (root)
	BENCH_OUT=$(or $(BENCH_OUT),bin/bench.jsonl) bin/bench $(BENCH_ARGS)

##@ The lab by hand (root)

LAB_ARGS ?=
.PHONY: lab-up lab-status lab-shell lab-down
lab-up: root deps lab-programs ## 13m | 10s | start a lab with Herald in it; options in LAB_ARGS
	bin/lab up $(LAB_ARGS)
lab-status: bin/lab ## | 1s | what is running
	bin/lab status $(LAB_ARGS)
lab-shell: bin/lab ## | 1s | a shell inside, with kubectl and heraldctl
	bin/lab shell $(LAB_ARGS)
lab-down: bin/lab ## | 2s | stop it; nothing is left behind
	bin/lab down $(LAB_ARGS)

##@ The house

.PHONY: generate
generate: bin/helm ## 4m | 20s | deep copies, CRDs, docs/reasons.md, config/manifests
	go generate ./...
	tools/render-manifests.sh

.PHONY: verify
verify: bin/helm ## 5m | 1m | generated files and go.mod up to date, gofmt, chart
	@tools/verify.sh $(MODULES)

.PHONY: lint
# Not e2etest/kube: its one file of 60 lines would make the linter load all of Kubernetes.
lint: bin/golangci-lint ## 6m | 1m | golangci-lint and go vet over the modules with code of our own
	@rc=0; for m in . e2etest; do \
		echo "lint $$m"; (cd $$m && $(CURDIR)/bin/golangci-lint run -c $(CURDIR)/.golangci.yaml ./...) || rc=1; \
	done; exit $$rc

.PHONY: deps
deps: ## 1m | 0s | install the Debian packages the lab and the tests call
	@tools/deps.sh $(DEBIAN_PACKAGES)

.PHONY: clean
clean: ## | 1s | remove bin/
	rm -rf bin

# --- what the targets above are made of ---

# All that a lab runs. The programs of the product are rebuilt every time: go build knows what is current.
.PHONY: lab-programs
lab-programs: bin/kube bin/helm bin/lab build

.PHONY: FORCE
FORCE:

bin/lab bin/demo bin/bench: FORCE
	@mkdir -p bin
	cd e2etest && go build -o ../$@ ./cmd/$(@F)

bin/kube: $(wildcard e2etest/kube/*.go) e2etest/kube/go.mod e2etest/kube/go.sum
	@mkdir -p bin
	@echo "building Kubernetes $(KUBE_VERSION) into $@: 8 minutes the first time on 2 cores, then only when its version changes"
	@# The waiting is a read that nothing ever answers: a sleep would outlive the build.
	@exec 3<> <(:); (n=0; while ! read -rt 60 -u 3 && kill -0 $$$$ 2>/dev/null; do \
		n=$$((n + 1)); echo "still building Kubernetes, $$n min"; done) & trap "kill $$!" EXIT; \
	cd e2etest/kube && go build -trimpath -ldflags "$(KUBE_LDFLAGS)" -o ../../$@ .
	@touch $@

TOOL_helm := helm.sh/helm/v4/cmd/helm
TOOL_gotestsum := gotest.tools/gotestsum
TOOL_controller-gen := sigs.k8s.io/controller-tools/cmd/controller-gen
bin/helm bin/gotestsum bin/controller-gen: tools/go.mod tools/go.sum
	@mkdir -p bin
	go build -C tools -trimpath -ldflags "-s -w" -o ../$@ $(TOOL_$(@F))
	@touch $@

TOOL_golangci-lint := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
TOOL_ko := github.com/google/ko
.SECONDEXPANSION:
bin/golangci-lint bin/ko: tools/$$(@F)/go.mod tools/$$(@F)/go.sum
	@mkdir -p bin
	go build -C tools/$(@F) -trimpath -ldflags "-s -w" -o ../../$@ $(TOOL_$(@F))
	@touch $@
