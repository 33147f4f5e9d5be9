# Everything a person or a CI job runs. The work is done by scripts/, which say what they do and how long it took.
# Builds and tools live under $XDG_CACHE_HOME (or ~/.cache)/clawlock, never in the checkout.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clawlock/target

.DEFAULT_GOAL := help
.PHONY: help build test fmt crds docs deny advisories conformance demo demo-dev e2e e2e-full bench bench-operator bench-openclaw fuzz mutants e2e-up e2e-down e2e-conformance images charts

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the clawlock binary, optimised and stripped
	@scripts/toolchain
	cargo build --release --locked -p clawlock
	@ls -l "$$CARGO_TARGET_DIR/release/clawlock"

test: ## everything a change must pass: format, lints, tests, drift of generated files, supply chain, conformance
	@scripts/test

fmt: ## format the Rust code
	@scripts/toolchain
	cargo fmt --all

crds: ## write crds/yaml from the API types
	@scripts/toolchain
	cargo run --locked -p clawlock-crds --bin crdgen

docs: ## write the generated tables of docs/
	@scripts/toolchain
	CLAWLOCK_WRITE_DOCS=1 cargo test --locked -p clawlock-proxy --test documentation

deny: ## licences, sources, banned crates, who may depend on whom
	@scripts/toolchain
	@scripts/deny bans licenses sources

advisories: ## known vulnerabilities of the dependencies; needs the advisory database
	@scripts/toolchain
	@scripts/deny advisories

conformance: ## real HTTP clients under clawlock dev, and h2spec against the listeners
	@scripts/toolchain
	@conformance/run

demo: ## an unchanged OpenClaw on a kind cluster, told step by step; makes the cluster
	@scripts/toolchain
	@demo/kind/run

demo-dev: ## the same on this machine alone: an unmodified OpenClaw under clawlock dev
	@scripts/toolchain
	@demo/run

e2e: ## the tests against a real cluster; makes the cluster
	@scripts/toolchain
	@e2e/run

e2e-full: ## those, and the ones that break parts which all tenants share; writes e2e/RESULTS.md
	@scripts/toolchain
	@e2e/full

bench: ## side by side with minimal proxies and with peers
	@scripts/toolchain
	@bench/run

bench-operator: ## memory, edits, streams and injection with 10,000 simulated agents and a real API server
	@scripts/toolchain
	@bench/operator/run

bench-openclaw: ## what the guard plugin adds to a tool call of a real OpenClaw
	@scripts/toolchain
	@bench/openclaw/run

images: ## the three container images, as docker archives in the cache folder
	@scripts/images

charts: ## checks of the Helm charts, and of what is generated from them
	@scripts/charts

fuzz: ## every fuzz target, FUZZ_SECONDS (60) each
	@scripts/toolchain
	@scripts/fuzz

mutants: ## how many changed lines of the policy engine its tests notice; long
	@scripts/toolchain
	@scripts/mutants

e2e-up: ## a Kubernetes cluster of two nodes for the tests, made by kind; twice does nothing
	@e2e/cluster up

e2e-down: ## end that cluster
	@e2e/cluster down

e2e-conformance: ## Kubernetes' own NetworkPolicy tests against it, and those of its parts; writes e2e/CONFORMANCE.md
	@e2e/kind/unit
	@e2e/cluster up
	@e2e/cluster prove
	@e2e/cluster conformance
