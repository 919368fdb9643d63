# Few verbs. Everything lands in .venv; a verb installs only when pyproject.toml or constraints.txt has changed.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
RUNTIME := .venv/.runtime
INSTALLED := .venv/.installed
INDEX := .cache/wikipedia-sample
DATA ?= data
Q ?= Where was Andre Agassi born?
JOBS ?= 2

.PHONY: help install ask test test-all test-avx2 lint bench bench-reader bench-serve bench-index bench-ray gpu memory torture screenshots clean

help: ## Show the verbs.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make .venv with ragx, everything it needs and the tools of its tests, at tested versions.

$(RUNTIME): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or set PYTHON=" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED): $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,quant]'
	@touch $@

$(INDEX)/CURRENT: indexes/wikipedia-sample.yaml | $(RUNTIME)
	$(BIN)/ragx index build --recipe indexes/wikipedia-sample.yaml --index $(INDEX)

ask: $(RUNTIME) $(INDEX)/CURRENT ## Answer Q="…" from 106 Wikipedia articles, with citations.
	@$(BIN)/ragx ask "$$Q" --index $(INDEX)
ask: export Q := $(Q)

test: export OMP_NUM_THREADS ?= 1
test: $(INSTALLED) ## Run the tests, but for the slow ones, in JOBS=2 processes.
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) --dist loadfile

test-all: $(INSTALLED) ## Run the slow tests too: torture, hostile files, Ray, browsers, real weights.
	$(BIN)/python -m pytest

test-avx2: export ATEN_CPU_CAPABILITY = avx2
test-avx2: export DNNL_MAX_CPU_ISA = AVX2
test-avx2: export MKL_ENABLE_INSTRUCTIONS = AVX2
test-avx2: export FAISS_OPT_LEVEL = avx2
test-avx2: $(INSTALLED) ## Run the numerical tests without AVX-512 (torch, oneDNN, MKL, FAISS).
	$(BIN)/python -m pytest -m "not slow" -k "not triton" tests/kernels tests/cepe/test_model.py tests/cepe/test_reference.py tests/engine/cpu tests/retrieval

lint: $(INSTALLED) ## Check style and types, and for unsafe code and packages.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive ragx kernels apps train
	$(BIN)/python .ci/audit.py

bench: $(INSTALLED) $(INDEX)/CURRENT ## Measure what docs/benchmarks.md reports.
	$(BIN)/python -m benchmarks

bench-reader: $(INSTALLED) ## Measure the CEPE reader against its decoder.
	$(BIN)/python -m benchmarks.reader
	$(BIN)/python -m benchmarks.reader --every-layer
	$(BIN)/python -m benchmarks.reader --lengths

bench-serve: $(INSTALLED) $(INDEX)/CURRENT ## Measure the HTTP server under load.
	$(BIN)/python -m benchmarks.serve

bench-index: $(INSTALLED) ## Measure indexes of 1M vectors: Flat, HNSW, IVF-PQ, float16, int8.
	$(BIN)/python -m benchmarks.index

gpu: $(INSTALLED) ## Pack what a machine with a GPU and no downloads needs to train a reader; DATA=FOLDER.
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --dest .cache/wheels --python-version 3.12 \
	  --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 --constraint constraints.txt \
	  pydantic pydantic-core annotated-types typing-inspection sentencex
	$(BIN)/python -m benchmarks.gpu pack --wheels .cache/wheels \
	  --data.texts.folder="$(DATA)" --data.questions.folder="$(DATA)"

memory: $(INSTALLED) ## Measure the memory that a build of 1M passages and an update take.
	$(BIN)/python -m tests.helpers.build_memory

bench-ray: $(INSTALLED) ## Measure an index build on Ray against the local engine.
	$(BIN)/python -m benchmarks.ray_build

torture: $(INSTALLED) ## Kill, starve and damage an index, as docs/reliability.md reports.
	$(BIN)/python -m tests.helpers.torture

screenshots: $(INSTALLED) $(INDEX)/CURRENT ## Take the documentation's pictures of the chat.
	$(BIN)/python -m benchmarks.screenshots

clean: ## Remove .venv and the sample index.
	rm -rf .venv $(INDEX)
