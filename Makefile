# A new user needs only `make demo` and `make test`. They require Python 3.11 or newer, make and git.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: help setup demo test test-cluster cluster browser storage lint format config wheel docs bench bench-gpu clean

help:
	@echo "make demo    set up, generate images, run the whole pipeline, print metrics and the report's path"
	@echo "make setup   make .venv with the versions of constraints.txt"
	@echo "make test    set up, lint, check types, run all tests"
	@echo "make test-cluster  run the tests that need SLURM on a temporary one (skipped if it cannot be installed)"
	@echo "make format  rewrite the code in the project's style"
	@echo "make config  rewrite config/schema.json, the commented configs and docs/config.md from the settings"
	@echo "make wheel   build dist/robis-*.whl, which runs without a checkout"
	@echo "make docs    build the documentation site, build/site/index.html"
	@echo "make bench   compare every stage with its straightforward formulation (docs/performance.md)"
	@echo "make bench-gpu  measure training and inference on a GPU; needs no setup if torch and timm are installed"
	@echo "make clean   delete data and results of the demo, nothing else"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "robis needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/robis demo

test: setup lint browser storage
	$(BIN)/pytest -n auto --dist worksteal --ignore tests/cluster
	@$(MAKE) --no-print-directory test-cluster

# In one process: there is one SLURM, whose jobs use the cores.
test-cluster: setup cluster
	$(BIN)/pytest tests/cluster

cluster:
	@tests/debian_packages.sh SLURM 'munged slurmctld slurmd sbatch srun' munge slurmctld slurmd slurm-client

browser:
	@tests/debian_packages.sh Chromium chromium chromium fonts-dejavu-core

storage:
	@tests/debian_packages.sh rsync rsync rsync

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

wheel: setup
	$(BIN)/python -m hatchling build --target wheel

# A copy of the pages as they are: MkDocs refuses a folder that holds what it writes.
PAGES := README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff config/README.md benchmarks/README.md docs examples/tutorial.ipynb

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	rm -rf build && mkdir -p build/pages
	tar -cf - $(PAGES) | tar -xf - -C build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open build/site/index.html"

bench: setup
	$(BIN)/python -m benchmarks.bench $(ARGS)

# Needs only torch, timm, NumPy and OpenCV. For less memory: ARGS='--set batch=8'.
bench-gpu:
	PYTHONPATH=src $$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) \
		-m benchmarks.bench gpu --device cuda $(ARGS)

clean:
	rm -rf data/demo results/demo
