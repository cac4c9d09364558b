# make demo    the main job on a simulated site with Ceph and backups: break it, measure, judge, heal, seal
# make test    the project's own lint, types and tests
# Both make what they need in .venv first. Everything else: `make help`.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
TESTERS ?= 4
LABS ?= 6
unexport PYTHONDONTWRITEBYTECODE  # hundreds of processes would each compile everything again

.PHONY: help demo test test-daemons lint types unit coverage bench proof lock clean

help:
	@echo "make demo      the main job on a simulated site with Ceph and backups (2 to 3 minutes);"
	@echo "               the report lies in reports/latest"
	@echo "make test      lint, types, and all tests (TESTERS=$(TESTERS) at the same time)"
	@echo "make test-daemons  the tests against real daemons, as root (LABS=$(LABS) laboratories side by side; ten minutes);"
	@echo "               installs Debian's packages for them (AGAIN=1: only what failed the last time, one by one)"
	@echo "make coverage  the tests again, with what they reached"
	@echo "make bench     how long it takes, and how right its figures are (some minutes)"
	@echo "make proof     every kill with every healer, every defect and every healthy variant with every test, random"
	@echo "               scenarios (SCENARIOS=$(SCENARIOS)), a long campaign twice, and the truth over many more histories"
	@echo "               (hours; STRIKES=K/N plays every N-th from the K-th on)"
	@echo "make lock      the lock files anew from pyproject.toml (needs uv)"
	@echo "make clean     without .venv and caches; reports stay"

demo: $(VENV)/run.stamp
	@rm -f $(VENV)/demo-key $(VENV)/demo-key.pub
	@$(BIN)/python -c "from pathlib import Path; from pytest_pveha.evidence.sshsig import throwaway_key; \
	throwaway_key(Path('$(VENV)/demo-key'), 'throw-away key of make demo')"
	@echo "The evidence is signed with a THROW-AWAY key, made for this run alone: its seal shows that nothing was"
	@echo "changed since, not who vouches for it. The site is simulated: nothing real is touched, or proven."
	$(BIN)/pytest --inventory inventories/sim-hyperconverged.yml -m destructive --pveha-signing-key $(VENV)/demo-key
	@echo "report: file://$(CURDIR)/reports/latest/report.html"

test: lint types unit

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

unit: $(VENV)/dev.stamp
	$(BIN)/pytest tests -q -W error -n $(TESTERS) --dist worksteal -m "not proof and not daemons"

# what the tests write on this host: gone at the end, and a killed run's when the next one begins
LAB_FILES := /tmp/pveha-lab-$(shell printf %s "$(CURDIR)" | cksum | cut -d' ' -f1)

test-daemons: $(VENV)/dev.stamp
	@$(BIN)/python tests/daemons/packages.py
	@rm -rf $(LAB_FILES) && mkdir -m 700 $(LAB_FILES)
	TMPDIR=$(LAB_FILES) $(BIN)/pytest tests/daemons -q -W error -rs -m "not proof" --basetemp=$(LAB_FILES)/t \
	$(if $(AGAIN),--lf,-n $(LABS) --dist loadfile); status=$$?; rm -rf $(LAB_FILES); exit $$status

coverage: $(VENV)/dev.stamp
	$(BIN)/coverage run -m pytest tests -q -m "not proof and not daemons"
	$(BIN)/coverage combine --quiet --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/figures.py

PROOF := reports/proof
SCENARIOS ?= 200

proof: $(VENV)/dev.stamp
	@rm -rf $(PROOF) && mkdir -p $(PROOF)
	@SCENARIOS=$(SCENARIOS) PROOF_TABLES=$(CURDIR)/$(PROOF) CRASH_TABLE=$(CURDIR)/$(PROOF)/crashes.jsonl \
	$(BIN)/pytest tests -q -W error -n $(TESTERS) -m proof; status=$$?; \
	$(BIN)/python benchmarks/tables.py $(PROOF); exit $$status
	$(BIN)/python benchmarks/figures.py --only truth --seeds 200

# --- the virtual environment ------------------------------------------------------------------------------------
# Made again whenever what it is made from has changed. The newest Python from 3.11 on; PYTHON=… names another.

define MAKE_VENV
@if ! $(BIN)/python -c '' 2>/dev/null; then \
  python=; old=; \
  for each in $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3); do \
    $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
    if $$each -c 'import ensurepip, venv' 2>/dev/null; then python=$$each; break; fi; \
    old=$$each; \
  done; \
  if [ -z "$$python" ] && [ -n "$$old" ]; then \
    echo "$$old cannot make virtual environments; as root: apt-get install python3-venv" >&2; exit 1; \
  elif [ -z "$$python" ]; then \
    echo "Python 3.11 or newer is needed, and was not found ($(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1 | head -1))." >&2; \
    echo "Debian 12 and Ubuntu 24.04 have it: apt-get install python3-venv. Or name one: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.12" >&2; \
    exit 1; \
  fi; \
  echo "making $(VENV) with $$($$python --version)"; \
  rm -rf $(VENV) && $$python -m venv $(VENV); \
fi
endef

$(VENV)/run.stamp: requirements.lock pyproject.toml
	$(MAKE_VENV)
	@echo "installing requirements.lock (the first time, this takes half a minute)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "installing requirements-dev.lock"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# --- upkeep -----------------------------------------------------------------------------------------------------

COMPILE := uv pip compile --quiet --no-config --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

lock:
	echo 'hatchling>=1.27' | $(COMPILE) --upgrade pyproject.toml - -o requirements.lock >/dev/null
	$(COMPILE) --upgrade --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock >/dev/null

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* dist
