# The first command may be `make demo` or `make test`: each makes the virtual environment that it needs.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
# The first of these that is 3.11 or newer and has venv is used; `make PYTHONS=/path/to/python3.13 ...` names another.
PYTHONS ?= python3.14 python3.13 python3.12 python3.11 python3
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input -q

# The tests run on the wheel's PostgreSQL 18, then those that use a database again on this older one, where installed.
OLD_POSTGRESQL ?= 15
PYTEST_OPTIONS ?= -n 3

# How large the graphs of `make chaos` are, how often each of its tests runs in a row, and the seed of the first time.
CHAOS_JOBS ?= 5000
CHAOS_ROUNDS ?= 1
CHAOS_SEED ?= 1

.PHONY: help demo test lint chaos bench docs clean

help:
	@echo "make demo   see a workflow run in dependency order, on a PostgreSQL that is started for it"
	@echo "make test   lint, types, import directions, and all tests"
	@echo "make lint   the first three of these"
	@echo "make chaos  kill workers, connections and servers under graphs of 5,000 jobs; CHAOS_ROUNDS=20 does it 20 times"
	@echo "make bench  measure this project and its peers, and write docs/benchmarks.md: 40 minutes, on an idle machine"
	@echo "make docs   check the documents: links, and the examples by running them"
	@echo "make clean  remove the virtual environment and all caches"

demo: $(VENV)/.run
	@$(PYTHON) -m procrastinate_deps.demos.demo_workflow

lint: $(VENV)/.dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

test: lint
	@if [ -x /usr/lib/postgresql/$(OLD_POSTGRESQL)/bin/postgres ]; then \
		echo "== database tests on PostgreSQL $(OLD_POSTGRESQL)" && \
		PROCRASTINATE_DEPS_TEST_PG=$(OLD_POSTGRESQL) $(PYTHON) -m pytest $(PYTEST_OPTIONS); \
	elif [ "$$CI" = true ]; then \
		echo "ERROR: PostgreSQL $(OLD_POSTGRESQL) is not installed (Debian: apt-get install postgresql-$(OLD_POSTGRESQL)), and CI must test on it" >&2; \
		exit 1; \
	else \
		echo "== SKIPPED: the database tests on PostgreSQL $(OLD_POSTGRESQL), which is not in /usr/lib/postgresql/$(OLD_POSTGRESQL)"; \
	fi
	@echo "== all tests, on PostgreSQL 18"
	@$(PYTHON) -m pytest $(PYTEST_OPTIONS)

chaos: $(VENV)/.dev
	PROCRASTINATE_DEPS_CHAOS_JOBS=$(CHAOS_JOBS) PROCRASTINATE_DEPS_CHAOS_ROUNDS=$(CHAOS_ROUNDS) \
		PROCRASTINATE_DEPS_CHAOS_SEED=$(CHAOS_SEED) $(PYTHON) -m pytest $(PYTEST_OPTIONS) tests/chaos

bench: $(VENV)/.dev
	$(PYTHON) -m benchmarks

docs: $(VENV)/.dev
	$(PYTHON) -m pytest tests/docs

clean:
	rm -rf $(VENV) .bench dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.run: pyproject.toml | $(PYTHON)
	@echo "installing what the demo needs in $(VENV)"
	@$(PIP) install -e '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(PYTHON)
	@echo "installing what the tests need in $(VENV)"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.run

$(PYTHON):
	@found=; usable=; \
	for name in $(PYTHONS); do \
		"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found="$$name"; \
		if "$$name" -c 'import ensurepip, venv' 2>/dev/null; then usable="$$name"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Python 3.11 or newer is needed and was not found: install it (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python)" >&2; exit 1; \
	elif [ -z "$$usable" ]; then \
		echo "$$found has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv, or $$(basename "$$found")-venv)" >&2; exit 1; \
	fi; \
	"$$usable" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
