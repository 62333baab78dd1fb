# A front for meson: `make help` says what there is. Packages that are missing are installed by run and test only.
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

BUILD ?= build
PREFIX ?= /usr/local
HELM ?= helm
FUZZ_SECONDS ?= 20
BENCH_IDLE_SECONDS ?= 20
FLAKY_COUNT ?= 20
MESON := $(if $(wildcard /usr/bin/meson),/usr/bin/meson,meson)
CLANG = $(firstword $(shell command -v clang-14 clang) clang)
CLANG_FORMAT = $(firstword $(shell command -v clang-format-14 clang-format) clang-format)
FORMATTED = $(shell git ls-files '*.c' '*.h')
# The sanitizers' reports fail the test that caused them.
SANITIZED = ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

.PHONY: all build run test unit integration flaky sanitize tsan clang fuzz bench image manifest install install-check format format-check house-check deps clean help
.DEFAULT_GOAL := all
all: build

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@echo "== configuring $(BUILD)"
	@$(MESON) setup $(BUILD) --prefix $(PREFIX)

deps:
	@scripts/install-deps build

run: deps
	@echo "== building gpushare"
	@$(MAKE) build
	@echo "== starting the main job: four workloads share one GPU$(if $(REAL),, of a simulated node (make run REAL=1 takes this machine's)); Ctrl-C ends it"
	@$(BUILD)/gpushare demo $(if $(REAL),--real)

test:
	@scripts/install-deps build test
	@echo "== building gpushare and its tests"
	@$(MAKE) build
	@tests/run --build $(BUILD)

unit integration: build
	@tests/run --build $(BUILD) --suite $@ $(TESTS)

# Tests of time and state, again and again: one run in twenty that fails is a fault, of the product or of the test.
flaky: build
	@tests/flaky --build $(BUILD) --count $(FLAKY_COUNT) $(TESTS)

# The program and the unit tests with ASan and UBSan. The simulated libraries are loaded by programs that have no
# sanitizer (nvidia-smi, Python), so integration tests take those of the plain build; the unit tests cover their code.
sanitize: build
	@scripts/install-deps build test
	@[ -f build-sanitize/build.ninja ] || $(MESON) setup build-sanitize -Db_sanitize=address,undefined
	@ninja -C build-sanitize
	@scripts/mix-builds build-sanitize $(BUILD) build-sanitize/mixed
	@status=0; $(SANITIZED) tests/run --build build-sanitize --suite unit || status=1; \
	$(SANITIZED) tests/run --build build-sanitize/mixed --suite integration || status=1; exit $$status

# The unit tests, and the integration tests in which the loop and worker threads meet; with the plain build's libraries, as above.
# Address randomisation of new kernels is more than TSan of gcc 12 can take, so it is off where that is allowed.
TSAN_INTEGRATION = $(addprefix tests/integration/,mps/test_mps_node.py mps/test_mps_hostile.py mig/test_mig_node.py node/test_node_faults.py node/test_labels.py)
tsan: build
	@scripts/install-deps build test
	@[ -f build-tsan/build.ninja ] || $(MESON) setup build-tsan -Db_sanitize=thread
	@ninja -C build-tsan
	@scripts/mix-builds build-tsan $(BUILD) build-tsan/mixed
	@status=0; fixed=$$(setarch -R true 2>/dev/null && echo setarch -R); \
	export TSAN_OPTIONS="halt_on_error=1 suppressions=$(CURDIR)/tests/tsan.supp"; \
	$$fixed tests/run --build build-tsan --suite unit || status=1; \
	$$fixed tests/run --build build-tsan/mixed --suite integration $(TSAN_INTEGRATION) || status=1; exit $$status

clang:
	@scripts/install-deps build check
	@[ -f build-clang/build.ninja ] || CC=$(CLANG) $(MESON) setup build-clang
	@ninja -C build-clang
	@tests/run --build build-clang --suite unit

fuzz:
	@scripts/install-deps build check
	@[ -f build-fuzz/build.ninja ] || CC=$(CLANG) $(MESON) setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-fuzz
	@scripts/fuzz build-fuzz $(FUZZ_SECONDS)

bench: build
	@ninja -C $(BUILD) tests/bench/bench tests/bench/bench_mig tests/bench/bench_mps
	@echo "== measuring on a simulated node (about two minutes)"
	@BENCH_IDLE_SECONDS=$(BENCH_IDLE_SECONDS) $(BUILD)/gpushare sim 8xA100-80GB -- $(BUILD)/tests/bench/bench $(BUILD)/gpushare
	@GPUSHARE_BUILD=$(abspath $(BUILD)) $(BUILD)/gpushare sim 8xA100-80GB -- tests/bench/bench_grpc.py
	@$(BUILD)/gpushare sim 8xA100-80GB --mig none -- $(BUILD)/tests/bench/bench_mig
	@$(BUILD)/gpushare sim 8xA100-80GB -- $(BUILD)/tests/bench/bench_mps $(BUILD)/gpushare

# The container image as an OCI archive in $(BUILD)/image, with its SBOM beside it.
image:
	@scripts/install-deps build image
	@scripts/image --output $(BUILD)/image

# deploy/gpushare.yaml from the chart; HELM=/path/to/helm, if it is not on the path.
manifest:
	@HELM=$(HELM) scripts/manifest

# A real Kubernetes on this machine, with the container image and the chart; KEEP=1 leaves it up.
e2e:
	@scripts/install-deps build image e2e
	@$(MAKE) build
	@tests/e2e/run --build $(BUILD) $(if $(KEEP),--keep) $(TESTS)

install: build
	@$(MESON) install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

# What an installed gpushare is and does, from a folder of its own.
install-check: build
	@tests/run --build $(BUILD) --suite integration tests/integration/cli/test_install.py

format:
	@$(CLANG_FORMAT) -i $(FORMATTED)

format-check:
	@scripts/install-deps check
	@$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED) && echo "== $(words $(FORMATTED)) files are formatted"

# Whether the project is as its pages say: rooms and who may use whom, links, commits' subjects.
house-check:
	@scripts/check-house

clean:
	@rm -rf $(BUILD) build-sanitize build-tsan build-clang build-fuzz build-image

help:
	@echo "make               build; the program is $(BUILD)/gpushare"
	@echo "make run           install what is missing, build, and watch four workloads share a GPU (REAL=1: a real one)"
	@echo "make test          install what is missing, build, and run all tests"
	@echo "make unit          the unit tests only; TESTS='NAME...' some of them"
	@echo "make integration   the integration tests only; TESTS='tests/integration/mig' some of them"
	@echo "make flaky         the tests of MPS, MIG, health and storms FLAKY_COUNT=$(FLAKY_COUNT) times in a row; TESTS='...' some of them"
	@echo "make sanitize      all tests with AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tsan          the unit tests, and integration tests with worker threads, with ThreadSanitizer"
	@echo "make clang         build with clang, warnings as errors, and run the unit tests"
	@echo "make fuzz          each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)"
	@echo "make bench         the figures, each beside its target"
	@echo "make image         the container image as an OCI archive, in $(BUILD)/image"
	@echo "make manifest      deploy/gpushare.yaml from the chart, with Helm"
	@echo "make e2e           a real Kubernetes on this machine, with gpushare in it (root; KEEP=1 leaves it up)"
	@echo "make install       DESTDIR=... and, before the first build, PREFIX=$(PREFIX)"
	@echo "make install-check whether an installed gpushare is whole and runs"
	@echo "make format        format the sources; format-check only looks"
	@echo "make house-check   rooms, links and commits, against what the pages say"
	@echo "make clean         remove what was built"
