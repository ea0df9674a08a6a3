# What is done with this checkout; `make` alone lists it.
SHELL := bash
.DEFAULT_GOAL := help
.SUFFIXES:

PROFILE ?= dev## How to build for run and demo: dev (quick to build) or release (quick to run)
ARGS ?=## Further arguments of run, test, bench

TARGET_DIR = $(shell cargo metadata --locked --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
FAIL_POINTS = $(if $(filter dev,$(PROFILE)),--features ez-state/fail-points)
PROGRAMS = $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
CARGO_DENY_VERSION := 0.20.2
# Where the SDKs, the property-based tester and the agent programs are; installs what is missing.
CLIENTS = sdk=$$(scripts/python-env) && fuzz=$$(scripts/python-env tests/fuzz/requirements.txt) && \
	agents=$$(scripts/node-env) && EZ_TEST_PYTHON=$$sdk EZ_TEST_FUZZ_PYTHON=$$fuzz EZ_TEST_AGENTS=$$agents
LINT = python=$$(scripts/python-env tests/lint/requirements.txt) && bin=$${python%/*}

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@awk -F ' \\?=|## ' '/^[A-Z]+ \?=.*## / { printf "  %-18s %s\n", $$1 "=", $$3 }' $(MAKEFILE_LIST)

# Product and test kit are always built together: built alone, each would ask for other features of the libraries, and
# `make run`, `make demo` and `make test` would compile much of the tree once more for each. For the same reason a dev build
# has the places where tests let the process die (EZ_TEST_FAIL_POINT); a release build has none.
.PHONY: build
build: ## Build ez-api and the test kit's programs
	cargo build --locked --profile $(PROFILE) --package ez-api --package ez-testkit --bins $(FAIL_POINTS)

.PHONY: run
run: build ## Start both planes on SQLite and in-process state, with data in ./data
	@"$(PROGRAMS)/ez-api" serve $(ARGS)

.PHONY: demo
demo: build ## Show the main job with a simulated vendor: set-up, two calls, their accounts
	@"$(PROGRAMS)/demo" --ez-api "$(PROGRAMS)/ez-api"

# Built first, so that the servers only run while something uses them.
.PHONY: test
test: ## Run every test in its short form, on both backends
	cargo test --locked --workspace --no-run
	$(CLIENTS) scripts/with-servers cargo test --locked --workspace --no-fail-fast $(ARGS)

# A filter that matches nothing would be a success to cargo.
.PHONY: soak
soak: ## Run the long tests (named soak_*), one after another: hours
	cargo test --locked --workspace --no-run
	@cargo test --locked --workspace --quiet --tests -- --ignored --list soak_ | grep ': test$$' || \
		{ echo 'make soak: there is no test named soak_*' >&2; exit 1; }
	$(CLIENTS) scripts/with-servers \
		cargo test --locked --workspace --tests --no-fail-fast -- --ignored --nocapture --test-threads 1 soak_

.PHONY: fuzz
fuzz: ## Call the control plane in ways that a tool makes up from its OpenAPI document, in the short form
	cargo test --locked --workspace --no-run
	$(CLIENTS) scripts/with-servers cargo test --locked --workspace --test sandbox -- --nocapture made_up_calls $(ARGS)

.PHONY: fuzz-protocol
fuzz-protocol: ## Feed the decoders of the protocols what libFuzzer makes up (ARGS="--seconds N TARGET")
	scripts/fuzz-protocol $(ARGS)

.PHONY: fuzz-protocol-short
fuzz-protocol-short: ## The same for two seconds each
	scripts/fuzz-protocol --seconds 2

.PHONY: bench
bench: ## Measure what the gateway adds to a call, beside nginx and a hyper pass-through, and what translation costs
	scripts/bench $(ARGS)

.PHONY: bench-large
bench-large: ## Measure with tens of millions of rows
	scripts/bench --large $(ARGS)

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	cargo fmt --manifest-path crates/ez-protocol/fuzz/Cargo.toml

.PHONY: lint
lint: lint-format lint-clippy lint-dependencies lint-arrows lint-text lint-shell lint-docker lint-openapi ## Check the code without running it

.PHONY: lint-format
lint-format:
	cargo fmt --all --check
	cargo fmt --manifest-path crates/ez-protocol/fuzz/Cargo.toml --check

.PHONY: lint-clippy
lint-clippy:
	cargo clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: lint-dependencies
lint-dependencies:
	deny=$$(scripts/cargo-tool cargo-deny $(CARGO_DENY_VERSION)) && "$$deny" --locked check bans licenses sources

.PHONY: lint-arrows
lint-arrows:
	scripts/check-arrows --self-test
	scripts/check-arrows

.PHONY: lint-text
lint-text:
	$(LINT) && "$$bin/typos"

.PHONY: lint-shell
lint-shell:
	$(LINT) && grep --files-with-matches --extended-regexp '^#!.*\bbash$$' scripts/* .ci/* | xargs "$$bin/shellcheck"

.PHONY: lint-docker
lint-docker:
	scripts/lint-docker

.PHONY: lint-openapi
lint-openapi:
	scripts/lint-openapi

.PHONY: generate
generate: build ## Renew the files that are made from the code
	scripts/generate "$(PROGRAMS)/ez-api"

.PHONY: check-generated
check-generated: build ## Fail when a file that is made from the code is stale
	scripts/generate --check "$(PROGRAMS)/ez-api"

.PHONY: ci
ci: ## Do all that has to pass before a change goes in
	.ci/run

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean
