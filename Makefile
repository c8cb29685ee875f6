# `make up` and `make test` are the two commands a newcomer needs; both install what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV   := .venv
PY     := $(VENV)/bin/python
CARGO  := cargo
export PYO3_PYTHON := $(abspath $(PY))

# What the cluster uses from Debian. gcc compiles the C inside the TLS library.
DEBIAN := gcc libc6-dev iproute2 nftables curl xz-utils bzip2 unzip
# What several masters meet in; their tests say why they are skipped where it is absent.
DEBIAN_CLUSTER := util-linux zookeeper default-jre-headless etcd-server containernetworking-plugins
# What the tests need beyond that: clients, and what builds a client's C.
# Docker's engine is Debian's where there is none: tests start one of their own, in a folder and on a socket of its own.
DEBIAN_TEST := $(DEBIAN) $(if $(shell command -v dockerd),,docker.io) python3-venv python3-dev bind9-dnsutils procps crun e2fsprogs xfsprogs docker-registry uidmap $(DEBIAN_CLUSTER)

say = @printf '\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help up down status test cluster-test vm-test debian-cluster check fmt bench fuzz sim sim-nightly setup debian debian-test venv python clean

help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: venv

debian: PACKAGES = $(DEBIAN)
debian-test: PACKAGES = $(DEBIAN_TEST)
debian-cluster: PACKAGES = $(DEBIAN) $(DEBIAN_CLUSTER)
debian debian-test debian-cluster:
	@missing=(); for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing+=($$p); done; \
	if (( $${#missing[@]} )); then \
	  if (( $$(id -u) == 0 )); then \
	    printf '\033[1m== Installing Debian packages: %s\033[0m\n' "$${missing[*]}"; \
	    apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	  else \
	    printf 'These Debian packages are missing; as root run: apt-get install %s\n' "$${missing[*]}"; \
	    command -v gcc >/dev/null || exit 1; \
	  fi; \
	fi

venv: $(VENV)/.made

$(VENV)/.made: bindings/python/requirements-dev.txt tests/conformance/requirements.txt tests/conformance/install.sh | debian-test
	$(call say,Making the Python environment $(VENV))
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed'; exit 1; }
	@python3 -m venv $(VENV)
	@$(PY) -m pip install -q --disable-pip-version-check -r bindings/python/requirements-dev.txt
	@tests/conformance/install.sh $(VENV)
	@touch $@

python: venv ## Build the Python package into the virtual environment.
	$(call say,Building the Python package)
	@cd bindings/python && VIRTUAL_ENV=$(abspath $(VENV)) ../../$(VENV)/bin/maturin develop -q --release

up: debian ## Build, start a one-node cluster with a sample service, and leave it running.
	$(call say,Building the programs)
	@$(CARGO) build --release
	$(call say,Starting a one-node cluster)
	@target=$$($(CARGO) metadata --no-deps --format-version 1 --offline | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	"$$target/release/dcos" local up --sample

down: ## Stop the cluster of `make up` and leave nothing behind.
	@target=$$($(CARGO) metadata --no-deps --format-version 1 --offline | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	"$$target/release/dcos" local down

status: ## What the cluster of `make up` is doing.
	@target=$$($(CARGO) metadata --no-deps --format-version 1 --offline | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	"$$target/release/dcos" local status

test: setup ## Every test: Rust, Python, conformance with unmodified clients, real processes.
	$(call say,Building the programs and the tests)
	@$(CARGO) build
	$(call say,Rust tests)
	@if command -v cargo-nextest >/dev/null; then $(CARGO) nextest run --no-fail-fast; else $(CARGO) test --no-fail-fast; fi
	@$(CARGO) test --doc -q
	$(call say,The generated message code is what the schema says)
	@$(CARGO) test -q -p regen
	@$(MAKE) --no-print-directory sim
	$(call say,Building the Python package)
	@cd bindings/python && VIRTUAL_ENV=$(abspath $(VENV)) ../../$(VENV)/bin/maturin develop -q
	$(call say,Python types)
	@if command -v node >/dev/null; then $(VENV)/bin/pyright -p bindings/python; else echo 'skipped: pyright needs node'; fi
	$(call say,Python tests and conformance of unmodified clients)
	@# An example with tests of its own is built as those alone by what runs them.
	@$(CARGO) build -q --example custom_orchestrator --example custom_executor
	@# Most of a test is waiting for a cluster. Tests of one file share theirs; those of test_local.py look at the whole host.
	@$(PY) -m pytest -q -n 2 --dist loadfile bindings/python/tests tests/conformance --ignore tests/conformance/test_local.py
	@$(PY) -m pytest -q tests/conformance/test_local.py

cluster-test: debian-cluster ## Three masters, four agents: leaders are killed, frozen and cut off, on ZooKeeper and on etcd; six hosts with all of the network (root).
	$(call say,Building the programs)
	@$(CARGO) build -p dcos-master -p dcos-agent -p cluster-tests
	@$(CARGO) run -q -p cluster-tests --bin cluster-drill

vm-test: setup ## Containers on Debian's own kernel with cgroup v2 alone, in a virtual machine over this one's files (root; 10 min, without KVM 40).
	@command -v cargo-nextest >/dev/null || $(CARGO) install cargo-nextest --locked --quiet
	$(call say,Building the tests)
	@mkdir -p target/vm
	@$(CARGO) nextest list -p dcos-containerizer -p dcos-launcher --list-type binaries-only --message-format json > target/vm/binaries.json
	@$(CARGO) metadata --format-version 1 > target/vm/packages.json
	$(call say,Testing containers in the virtual machine)
	@NEXTEST_HIDE_PROGRESS_BAR=1 VM_ENV=NEXTEST_HIDE_PROGRESS_BAR tests/vm/run $$(command -v cargo-nextest) nextest run --no-fail-fast \
	  --binaries-metadata target/vm/binaries.json --cargo-metadata target/vm/packages.json -E "$$(grep -v "^#" tests/vm/tests)"
	$(call say,Building the programs)
	@$(CARGO) build -q -p dcos-master -p dcos-agent -p dcos-launcher -p dcos
	$(call say,Testing limits of ordinary users there)
	@target=$$($(CARGO) metadata --no-deps --format-version 1 --offline | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	DCOS_BIN="$$target/debug" VM_ENV=DCOS_BIN tests/vm/run $(PY) -m pytest -q -p no:cacheprovider -k 'delegated or systemd' \
	  tests/conformance/test_rootless.py tests/conformance/test_rootless_systemd.py

check: venv ## Format, lints, documentation links, dependencies and licences.
	$(call say,Format)
	@$(CARGO) fmt --all --check
	$(call say,Clippy)
	@$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(call say,Documentation)
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --no-deps --quiet
	$(call say,Dependencies and licences)
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --quiet
	@$(CARGO) deny --log-level error check bans licenses sources

fmt: ## Format everything.
	@$(CARGO) fmt --all

bench: ## The benchmarks, each beside a peer or a limit.
	@$(CARGO) build -q --release
	@for manifest in $$(grep -lF '[[bench]]' dcos-*/Cargo.toml dcos-*/*/Cargo.toml tests/*/Cargo.toml); do \
	  crate=$$(sed -nE 's/^name = "([^"]*)".*/\1/p' $$manifest | head -1); \
	  for bench in $$(sed -nE '/^\[\[bench\]\]/{n;s/^name = "([^"]*)".*/\1/p}' $$manifest); do \
	    $(CARGO) bench -q -p $$crate --bench $$bench; done; done

fuzz: ## Each fuzz target for a minute.
	@tests/fuzz/run.sh 60

sim: ## Two thousand simulated clusters with Marathon and Metronome, both killed at writes to their stores.
	$(call say,Simulated clusters)
	@$(CARGO) run -q -p sim --profile sim -- --seeds 2000 --size services

sim-nightly: ## Ten thousand simulated clusters, the largest of 5,000 agents and 100 frameworks.
	@CARGO_PROFILE_SIM_OPT_LEVEL=3 $(CARGO) run -q -p sim --profile sim -- --seeds 10000

clean: ## Remove what was built.
	@$(CARGO) clean && rm -rf $(VENV)
