# The index of the project. `make run` and `make test` need Rust and Node; everything else they install from Debian.

.PHONY: run test check build faults bench bench-check fmt

SHELL := /bin/bash
CARGO ?= cargo

# Serves on http://127.0.0.1:8080 with the databases in ./data and the offline demo model.
# `make run ARGS="--addr 127.0.0.1:9000"` passes flags on.
run: .tools
	$(CARGO) build --release --package collodi
	exec ./target/release/collodi serve $(ARGS)

# Everything that has to hold before a change lands.
test: .tools .faketime check bench-check
	./scripts/test

# Form: formatting, lints, the direction of dependencies.
check: .tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	./scripts/check-deps

# The whole fault campaign: kills, full disks, broken files, two servers on one registry (at most six minutes).
faults: .tools .faketime
	COLLODI_FAULTS=full $(CARGO) test --release --package collodi --test faults -- --nocapture --test-threads=1

# Ratios against limits and peers on this machine; takes some minutes and wants the machine to itself.
bench: .tools .valgrind
	$(CARGO) build --release --workspace
	$(CARGO) run --release --quiet --package collodi-bench -- all

# Counts only: instructions and bytes do not depend on how busy the machine is.
bench-check: .tools .valgrind
	$(CARGO) build --release --workspace --quiet
	$(CARGO) run --release --quiet --package collodi-bench -- check

fmt:
	$(CARGO) fmt --all

.PHONY: .tools .valgrind .faketime
.tools:
	@./scripts/require cargo cc

.valgrind:
	@./scripts/require valgrind

.faketime:
	@./scripts/require faketime
