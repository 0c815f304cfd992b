# boxlite: `make demo` shows it, `make test` proves it, `make help` lists the rest.

SHELL := /bin/bash
OS    := $(shell uname -s)
ARCH  := $(shell uname -m)
CARGO ?= cargo
# The agent is linked statically: it is the only file of its initramfs.
GUEST_TARGET := $(ARCH)-unknown-linux-gnu

BUNDLE_DIR := target/bundle
BUNDLE     := target/bundle.tar.zst
AGENT      := target/$(GUEST_TARGET)/guest/boxlite-agent
export BOXLITE_BUNDLE := $(CURDIR)/$(BUNDLE)

.DEFAULT_GOAL := build
.PHONY: build go ffi c install demo test test-rust test-c test-go bench smoke lint fmt setup setup-build setup-run setup-test setup-bench kernel bundle fixtures clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: setup-run ## install what building and running need
setup-build:
	@scripts/setup.sh build
setup-run:
	@scripts/setup.sh run
setup-test:
	@scripts/setup.sh test
setup-bench:
	@scripts/setup.sh bench

kernel: ## the guest kernel (cached outside the tree)
	@mkdir -p $(BUNDLE_DIR)
	@kernel="$${BOXLITE_KERNEL:-$$(guest/kernel/build.sh)}" && [ -n "$$kernel" ] && { cmp -s "$$kernel" $(BUNDLE_DIR)/vmlinux || cp "$$kernel" $(BUNDLE_DIR)/vmlinux; }

# cargo decides what is out of date; the copies below change only when it does.
bundle: kernel ## what a machine needs beside its engine: shim, kernel, initramfs
	@RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --quiet --locked -p boxlite-agent --profile guest --target $(GUEST_TARGET)
	@env -u BOXLITE_BUNDLE $(CARGO) build --quiet --locked -p boxlite-shim --release
	@[ $(BUNDLE_DIR)/initramfs.cpio -nt $(AGENT) ] || guest/initramfs.sh $(AGENT) $(BUNDLE_DIR)/initramfs.cpio
	@cmp -s target/release/boxlite-shim $(BUNDLE_DIR)/boxlite-shim || install -m 0755 target/release/boxlite-shim $(BUNDLE_DIR)/boxlite-shim
	@[ $(BUNDLE) -nt $(BUNDLE_DIR)/initramfs.cpio ] && [ $(BUNDLE) -nt $(BUNDLE_DIR)/boxlite-shim ] && [ $(BUNDLE) -nt $(BUNDLE_DIR)/vmlinux ] || guest/bundle.sh $(BUNDLE_DIR) $(BUNDLE)

build: bundle ## target/release/boxlite
	@$(CARGO) build --locked --release -p boxlite-cli

ffi: bundle ## target/release/libboxlite.a and libboxlite.so
	@$(CARGO) build --locked --release -p boxlite-ffi
	@scripts/ffi.sh release

go: ffi ## what sdks/go links, put where it finds it
	@sdks/go/install-archive.sh target/release/libboxlite.a

c: ffi ## the C examples, in target/c
	@sdks/c/build.sh

install: ffi ## header, libraries, boxlite.pc, CMake package (PREFIX=/usr/local DESTDIR=)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" sdks/c/install.sh

demo: setup-run build ## an image, a box, its own kernel
	@scripts/demo.sh target/release/boxlite

fixtures: ## images to test with, made by other people's tools (cached outside the tree)
	@scripts/fixtures.sh

test: setup-test build ffi fixtures ## every test
	@scripts/test.sh && scripts/test-sdk.sh c && scripts/test-sdk.sh go

test-rust: setup-test build fixtures ## the tests of the core and of the command
	@scripts/test.sh

test-c: setup-test ffi fixtures ## the C SDK: header, symbols, programs, valgrind, an installation
	@scripts/test-sdk.sh c

test-go: setup-test go fixtures ## the Go SDK: vet, race detector, examples, a foreign module
	@scripts/test-sdk.sh go

bench: setup-bench build go fixtures ## measure everything beside its floors: bench/results, docs/BENCHMARKS.md
	@$(CARGO) build --locked --release -p boxlite-bench
	@file=$$(BOXLITE_BUNDLE_DIR="$(CURDIR)/$(BUNDLE_DIR)" target/release/boxlite-bench run --fixtures "$$(scripts/fixtures.sh)" $(BENCH)) && lab=$$(ls bench/results/*kvm-lab*.json 2>/dev/null | tail -n 1) && target/release/boxlite-bench render "$$file" $${lab:+--ratios "$$lab"} && echo "$$file"

smoke: ## a short end-to-end set against an installed or built boxlite; no compiler needed
	@scripts/smoke.sh

lint: ## rustfmt, clippy, shellcheck, licences
	@scripts/lint.sh

fmt:
	@$(CARGO) fmt --all

clean: ## what was built here (the kernel's cache stays)
	rm -rf target
