# Covenant. `make demo` and `make test` need nothing but make, git and Python 3.11 or newer; they set up .venv by themselves.
#
#   TORCH_INDEX_URL   a package index with PyTorch's CPU builds, for machines whose default index would bring CUDA
#                     (PyTorch's installation page names one)
#   PYTHON            the Python that .venv is made from

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A real MLflow server for the tests that hand models to one: it does not go together with what is pinned here.
MLFLOW_VENV ?= .venv-mlflow
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
TORCH_FROM := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
# The bundles that `make bundle` makes; there is `simulation` too.
BUNDLES ?= agent centre
# Two cores are what the suites are sized for.
WORKERS ?= 2

.PHONY: install bundle demo browser test test-long again gates check format docs pictures texts bench protos clean

install: $(VENV)/.installed

demo: $(VENV)/.installed
	@$(BIN)/covenant demo

# A file's tests stay together: those of one federation share it. tests/conftest.py has the order of the files.
test: $(VENV)/.installed-dev $(VENV)/kserve/.downloaded
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow" tests

# The console is tested in a real browser. CI has to have one; elsewhere those tests are skipped without it.
test-long: $(VENV)/.installed-dev $(MLFLOW_VENV)/.installed $(if $(filter true,$(CI)),browser)
	COVENANT_TEST_MLFLOW=$(abspath $(MLFLOW_VENV)) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow tests

# What failed last, once more, with nothing beside it: where whole federations share two cores, a process may come too late for its test. What fails again has failed.
again: $(VENV)/.installed-dev
	COVENANT_TEST_MLFLOW=$(abspath $(MLFLOW_VENV)) $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 -v tests

# The project's own plan has to hold what it promises; CI shows reports/ of a run that does not.
gates: $(VENV)/.installed-dev
	@mkdir -p reports
	$(BIN)/covenant simulate simulation/demo/plan-none.yaml --data simulation/data/lending_club.parquet --partition by:region --twice \
	  --assert 'auc >= 0.70' --assert 'site_auc_min >= 0.65' --assert 'rounds == 25' --html reports/demo.html --junit reports/demo.xml
	$(BIN)/covenant simulate simulation/demo/plan-none.yaml --data simulation/data/lending_club.parquet --partition by:region --dropout 0.2 \
	  --assert 'auc >= 0.70' --assert 'dropouts_survived >= 0.2' --html reports/dropouts.html --junit reports/dropouts.xml
	$(BIN)/covenant simulate simulation/demo/plan.yaml --data simulation/data/lending_club.parquet --partition by:region --twice \
	  --assert 'epsilon <= 6' --assert 'site_auc_min >= 0.6' --assert 'rounds == 60' --html reports/private.html --junit reports/private.xml

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m coordinator.console.catalogue --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(VENV)/.installed-dev
	$(BIN)/python protos/generate.py

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

texts: $(VENV)/.installed-dev
	$(BIN)/python -m coordinator.console.catalogue

# Debian's Chromium, from its own packages.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { echo "installing Chromium ..."; \
	  $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install --yes -qq --no-install-recommends chromium; }

# The console's pages as docs/console.md shows them, from a demo that is started for it: five minutes.
pictures: $(VENV)/.installed-dev browser
	$(BIN)/python -m docs.pictures

bench: $(VENV)/.installed
	$(BIN)/covenant bench exchange --peer

# Installations without the internet, for a site and for the centre; RELEASE_KEY is an Ed25519 key in PEM.
bundle: $(VENV)/.installed-dev
	@test -n "$(RELEASE_KEY)" || { echo "name the key that signs: make bundle RELEASE_KEY=release.key (openssl genpkey -algorithm ed25519 makes one)"; exit 2; }
	@for each in $(BUNDLES); do \
	  $(BIN)/python -m protos.bundles make bundle --for $$each --key $(RELEASE_KEY) $(if $(TORCH_INDEX_URL),--torch-index $(TORCH_INDEX_URL)) || exit; done

clean:
	rm -rf $(VENV) $(MLFLOW_VENV) bundle covenant-demo site reports

# What KServe's own package says of an InferenceService, read by a test and never installed: it does not go together with what is pinned here.
$(VENV)/kserve/.downloaded: $(VENV)/.python
	@echo "fetching KServe's description of an InferenceService ..."
	$(PIP) download --no-deps --dest $(@D) kserve==0.21.0 kubernetes==34.1.0
	@touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing; install it with:"; \
	       $(PYTHON) -c 'import sys; print("  sudo apt-get install python%d.%d-venv" % sys.version_info[:2])'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing into $(VENV): torch first, which is large ..."
	$(PIP) install $(TORCH_FROM) -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[coordinator,simulation]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests need ..."
	$(PIP) install -c constraints.txt -e '.[coordinator,simulation,dev]'
	@touch $@

$(MLFLOW_VENV)/.installed: $(VENV)/.python
	@echo "installing an MLflow server into $(MLFLOW_VENV) ..."
	$(PYTHON) -m venv $(MLFLOW_VENV)
	$(MLFLOW_VENV)/bin/python -m pip install --quiet --disable-pip-version-check mlflow==3.17.2
	@touch $@
