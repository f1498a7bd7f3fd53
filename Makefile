# Everything a developer or CI runs. `make run` and `make test` need only python3.11+, make and git.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
INPUT ?=
SEEDS ?= 100
FROM ?= 0
NODES ?= 3
SECONDS ?= 30
ONCE ?=
MINUTES ?=
SEED ?=
ON ?=
KILLS ?=
PEERS ?= etcd,nats
REPEATS ?=
PACKAGES := proto storage raft node client command embedded testing

.PHONY: help setup run test chaos bench check docs format lint types imports generated proto links clean coverage fuzz

help:
	@echo 'make run [INPUT=file] [ONCE=1]   three nodes, real input, read back and compared'
	@echo 'make test [PYTEST_ARGS=...]      every test that this machine can run'
	@echo 'make chaos [MINUTES=2] [SEED=K] [ON=compose|processes] [KILLS=N]   faults under load, judged'
	@echo 'make check                       format, lint, types, imports, generated code, pages'
	@echo 'make docs                        the pages of docs/, into docs/_build/html'
	@echo 'make simulate SEEDS=N [FROM=K] [NODES=3|5] [SECONDS=30] [TRACE=seed] [MIX=name]'
	@echo '                                 faults at random, on a simulated clock, network and disk'
	@echo 'make bench [ONLY=case,...] [PEERS=etcd,nats] [REPEATS=5]   measure it, beside peers where they are'
	@echo 'make fuzz [SECONDS=60] [SEED=N]   bytes that nobody meant'
	@echo 'make format | lint | types | imports | generated | proto | coverage | clean'

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo 'python 3.11 or newer is needed: install it, or set PYTHON=' >&2; exit 1; }
	@$(PYTHON) deploy/make_venv.py $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip 'setuptools>=80' wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup
	@exec $(BIN)/quorumlog local --directory var $(if $(INPUT),--input $(INPUT)) $(if $(ONCE),--once)

# Units share the cores; clusters of processes and containers come after them, one at a time.
test: setup
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(BIN)/python -m pytest -m 'not cluster' --numprocesses auto --dist worksteal
	@$(BIN)/python -m pytest -m cluster
else
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

# Faults drawn from a seed against a cluster under load; the last line is JSON. KILLS=30 measures failover instead.
chaos: setup
	@$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(ON),--on $(ON)) $(if $(ONLY),--only $(ONLY)) $(if $(KILLS),--kills $(KILLS))

# Whole clusters on a simulated clock, network and disk, from seeds; the last line is JSON.
simulate: setup
	@$(BIN)/python -m tests.simulation $(if $(TRACE),--trace $(TRACE),--seeds $(SEEDS) --from $(FROM)) \
		--nodes $(NODES) --seconds $(SECONDS) $(if $(MIX),--mix $(MIX))

# Real processes under load; results in bench/results/latest.json.
bench: setup
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) --peers '$(PEERS)' $(if $(REPEATS),--repeats $(REPEATS))

# Every decoder of bytes from a network or a disk, with changed samples; what is found stays in tests/fuzz/corpus.
fuzz: setup
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

check: lint types imports generated docs

# A warning is an error: a link that leads nowhere, a page that no table of contents has, a name that is gone. All is built
# anew each time: of pages that have not changed nothing would be said again.
docs: setup
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet --builder html docs docs/_build/html

format: setup
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

# The package-dir map hides the packages from mypy and import-linter: show them a tree of links.
links:
	@mkdir -p .links/quorumlog
	@for package in $(PACKAGES); do ln -sfn ../../$$package .links/quorumlog/$$package; done
	@for file in quorumlog/*.py quorumlog/py.typed; do ln -sfn ../../$$file .links/$$file; done

types: setup links
	@MYPYPATH=.links $(BIN)/mypy --strict -p quorumlog | tee .links/mypy.txt; \
	expected=$$(ls quorumlog/*.py $(addsuffix /*.py,$(PACKAGES)) $(addsuffix /*.pyi,$(PACKAGES)) 2>/dev/null | sed 's/\.pyi$$/.py/' | sort -u | wc -l); \
	grep -q "no issues found in $$expected source files" .links/mypy.txt || { echo "mypy: expected a clean run over $$expected files" >&2; exit 1; }
	@MYPYPATH=.links:. $(BIN)/mypy --strict -p bench
	@MYPYPATH=.links $(BIN)/mypy --strict examples/*.py

imports: setup links
	@cd .links && ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache

generated: setup
	@$(BIN)/python proto/generate.py --check

proto: setup
	@$(BIN)/python proto/generate.py

coverage: setup
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .links var build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
