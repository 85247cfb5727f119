# `make demo` and `make test` are all a new user needs: python3 >= 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: help setup demo test test-cluster cluster browser lint format config bench bench-gpu clean

help:
	@echo "make demo    set up, generate images, run the whole pipeline, print metrics and the report's path"
	@echo "make setup   make .venv and install what constraints.txt pins"
	@echo "make test    set up, lint, check types, run all tests"
	@echo "make test-cluster  the part of the tests that runs jobs on a SLURM of its own (skipped where there can be none)"
	@echo "make format  rewrite the code in the project's style"
	@echo "make config  rewrite config/schema.json, the commented configs and docs/config.md from the settings"
	@echo "make bench   time every stage beside its straightforward formulation (docs/performance.md)"
	@echo "make bench-gpu  training and inference on a GPU; needs no setup where torch and timm are installed"
	@echo "make clean   delete the demo's data and results (not your own)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "robis needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Its jobs are small: one thread each, side by side; at most four, since each that runs a model takes 1.1 GB.
demo: CORES = $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
demo: setup
	$(BIN)/robis data demo --out data/demo
	$(BIN)/snakemake --quiet host reason --cores $(CORES) --max-threads 1
	$(BIN)/robis metrics results/demo

test: setup lint browser
	$(BIN)/pytest -n auto --dist worksteal --ignore tests/cluster
	@$(MAKE) --no-print-directory test-cluster

# One SLURM, one process: its jobs take the cores themselves.
test-cluster: setup cluster
	$(BIN)/pytest tests/cluster

cluster:
	@tests/debian_packages.sh SLURM 'munged slurmctld slurmd sbatch srun' munge slurmctld slurmd slurm-client

browser:
	@tests/debian_packages.sh Chromium chromium chromium fonts-dejavu-core

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

config: setup
	$(BIN)/python -m robis.workflow.reference

bench: setup
	$(BIN)/python -m benchmarks.bench $(ARGS)

# Also on a machine that has torch, timm, NumPy and OpenCV only; for example ARGS='--set batch=8'.
bench-gpu:
	PYTHONPATH=src $$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) \
		-m benchmarks.bench gpu --device cuda $(ARGS)

clean:
	rm -rf data/demo results/demo
