# make lab    set up, then open JupyterLab on the lessons     LAB_ARGS="--no-browser --port 8890" to pass options
# make test   set up, then run everything that CI runs
# make site   set up, run the lessons, build the site and serve it on http://localhost:8000
# make weights   train the sticker model again                TRAIN_ARGS="…"
# make bench     measure speed, write docs/benchmarks.md      BENCH_ARGS="…"
# make clean     remove what was made, but for the weights
#
# On Linux without a GPU, PIP_EXTRA_INDEX_URL set to PyTorch's CPU wheel index saves gigabytes (see docs/run.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
WORKERS ?= 2
NOTEBOOKS := notebooks assignments

.DELETE_ON_ERROR:
.PHONY: lab test checks unit notebooks built-site site weights bench setup clean

setup: $(READY)

# The last line makes the stamp, so that a killed set-up is taken up again and a finished one is not repeated.
# torch goes first and by its exact pin: a looser request may fetch another build of several gigabytes.
$(READY): pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "The course needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1). Set PYTHON, as in: make PYTHON=python3.12 lab"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "Python's venv module does not work here (Debian and Ubuntu: apt-get install python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	-$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements
	@touch $@

lab: $(READY)
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(LAB_ARGS)

test: checks unit built-site
	@$(BIN)/python -m tools.programs

checks: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: checks
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile

# Executes every notebook, asserts included, and keeps the executed copies: the site shows those and runs nothing.
notebooks: $(READY)
	rm -rf build/executed build/claims
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 300 --durations-min=20 \
	  -n $(WORKERS) --dist loadfile --nb-dump build/executed $(NOTEBOOKS)

built-site: notebooks
	$(BIN)/python -m tools.build_site
	$(BIN)/python -m tools.check_site build/site

site: built-site
	$(BIN)/python -m http.server --bind localhost --directory build/site 8000

weights: $(READY)
	$(BIN)/python -m course.train $(TRAIN_ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.editors
	$(BIN)/python -m benchmarks.restoration
	$(BIN)/python -m benchmarks.attention

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
