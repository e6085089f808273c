# Everything a person or CI does with this repository. Needs Python 3.11-3.13 and make, nothing else.
PYTHON ?= python3
PROFILE ?= classroom
PORT ?= 8866
NOTEBOOKS ?= notebooks
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
LARGE := {'websocket_max_message_size': 200000000}# bytes; a recording of 100 MB can be uploaded
LOCK := pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
	--generate-hashes --no-emit-package torch --custom-compile-command "make lock"

.PHONY: help setup reproduce app demo lab docs slides test test-fast test-long test-browser check format lock sbom clean
.DELETE_ON_ERROR:

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

setup: $(READY) ## make .venv and install everything (done once, repeated when the lock changes)

reproduce: $(READY) ## run all notebooks, profile classroom; goes on where it stopped; prints the report's path
	@$(VENV)/bin/oskdft reproduce --profile classroom --resume

app: $(READY) ## build the page that verifies speakers in the browser into app/dist; needs npm, once
	@$(PY) app/build.py

demo: app ## serve that page on this machine (PORT=8866) and print its address; Ctrl-C ends it
	@$(PY) app/serve.py $(PORT)

lab: $(READY) ## open the notebooks in JupyterLab (PORT=8866, NOTEBOOKS=folder); large uploads arrive
	@$(PY) -m jupyterlab --ServerApp.root_dir="$(NOTEBOOKS)/.." \
	  --LabApp.default_url="/lab/tree/$(notdir $(NOTEBOOKS))" --port=$(PORT) --ServerApp.tornado_settings="$(LARGE)" \
	  --ServerApp.ip=127.0.0.1 --ServerApp.allow_remote_access=False \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None

docs: $(READY) ## build the site from the executed series (PROFILE=smoke: a quick one); prints its path
	@$(VENV)/bin/oskdft reproduce --profile $(PROFILE) --resume
	@$(PY) docs/build.py runs/$(PROFILE)

slides: $(READY) ## build the slides of the three lessons into build/slides: HTML, and PDF where Chromium is found
	@$(PY) docs/slides/build.py

test: $(READY) ## run all tests, three at a time, on this machine's data only
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## run what is not marked slow, for the daily loop: under two minutes on two cores
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-long: $(READY) ## run the long versions of the fault and rubbish tests; writes benchmarks/reliability.md
	@HF_HUB_OFFLINE=1 $(PY) -m tests.system.faults.campaign

test-browser: $(READY) ## use notebooks, widgets and app in headless Chromium; screenshots in runs/browser
	@HF_HUB_OFFLINE=1 $(PY) -m pytest tests/browser -rP

check: $(READY) ## lint, and compare the formatting with ruff's
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

format: $(READY) ## repair what ruff can repair, strip notebook outputs
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format
	@find notebooks -name '*.ipynb' -exec $(PY) -m nbstripout {} +

sbom: $(READY) ## list what is installed: build/sbom.json (CycloneDX) and build/licences.txt
	@test -x build/sbom-env/bin/cyclonedx-py || { $(PYTHON) -m venv build/sbom-env && \
	  build/sbom-env/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0; }
	@build/sbom-env/bin/cyclonedx-py environment $(PY) --of JSON --output-reproducible -o build/sbom.json
	@PYTHONPATH=. $(PY) tests/tools/licences.py > build/licences.txt
	@echo build/sbom.json build/licences.txt

lock: ## re-make requirements.lock from the newest releases that pyproject.toml admits
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && $(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/python" -m pip --disable-pip-version-check install --quiet uv && \
	"$$tools/bin/uv" $(LOCK) --output-file requirements.lock

clean: ## remove what make can make again; runs/ and data/ stay
	@rm -rf $(VENV) build dist app/dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find oskdft tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Without the stamp the last set-up did not finish: start over. With an old stamp: update in place.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) \
	else f"Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is {v}; name another: make setup PYTHON=python3.12")'
	@test -f $@ && $(PY) -c '' || { echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $@
	@echo "installing $(TORCH), the build that pip chooses for this machine"
	@$(PIP) install --quiet $(TORCH)
	@echo "installing everything else from requirements.lock"
	@$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(PY) -m oskdft.commands.doctor --fix
	@touch $@
