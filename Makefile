# The index of the project. `make run` and `make test` need Rust and Node; everything else they install from Debian.

.PHONY: run test check ui ui-check ui-test faults bench bench-check fmt

SHELL := /bin/bash
CARGO ?= cargo

# Serves on http://127.0.0.1:8080 with the databases in ./data and the offline demo model.
# `make run ARGS="--addr 127.0.0.1:9000"` passes flags on.
run: .tools ui
	$(CARGO) build --release --package collodi
	exec ./target/release/collodi serve $(ARGS)

# Everything that has to hold before a change lands.
test: .tools .faketime .chromium check ui-check ui bench-check
	./scripts/test
	$(MAKE) --no-print-directory ui-test

# Form: formatting, lints, the direction of dependencies.
check: .tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	./scripts/check-deps

# The web application, which the server is built with; made anew only when something of it changed.
ui: ui/dist/index.html

ui/dist/index.html: ui/node_modules ui/index.html ui/vite.config.ts ui/tsconfig.json $(shell find ui/src -type f)
	cd ui && npm run --silent build

ui/node_modules: ui/package.json ui/package-lock.json
	cd ui && npm ci --no-audit --no-fund --loglevel=error
	touch ui/node_modules

# Form of the web application, and that its types are those of the API.
ui-check: ui/node_modules
	cd ui && npm run --silent check && npm run --silent types -- --check

# Parts by themselves, then the page in Chromium against the server as it was built.
ui-test: ui .chromium
	cd ui && npm test --silent
	$(CARGO) build --package collodi --quiet
	cd ui && npm run --silent e2e

# The whole fault campaign: kills, full disks, broken files, two servers on one registry (at most six minutes).
faults: .tools .faketime
	COLLODI_FAULTS=full $(CARGO) test --release --package collodi --test faults -- --nocapture --test-threads=1

# Ratios against limits and peers on this machine; takes some minutes and wants the machine to itself.
bench: .tools .valgrind .chromium ui
	$(CARGO) build --release --workspace
	$(CARGO) run --release --quiet --package collodi-bench -- all
	cd ui && COLLODI_BINARY=../target/release/collodi npm run --silent measure

# Counts only: instructions and bytes do not depend on how busy the machine is.
bench-check: .tools .valgrind
	$(CARGO) build --release --workspace --quiet
	$(CARGO) run --release --quiet --package collodi-bench -- check

fmt:
	$(CARGO) fmt --all

.PHONY: .tools .valgrind .faketime .chromium
.tools:
	@./scripts/require cargo cc node npm

.chromium:
	@./scripts/require chromium

.valgrind:
	@./scripts/require valgrind

.faketime:
	@./scripts/require faketime
