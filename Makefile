.PHONY: setup demo test check bench wheel-check clean

VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready

# One environment for everything: torch first, so that pip never resolves a CUDA build for it.
$(STAMP): pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet "torch==2.13.*"
	$(PY) -m pip install --quiet -e ".[dev]" "torch==2.13.*"
	touch $(STAMP)

setup: $(STAMP)

# The demo needs the host back end only, so it installs only that.
$(VENV)-demo/.ready: pyproject.toml
	test -x $(VENV)-demo/bin/python || python3 -m venv $(VENV)-demo
	$(VENV)-demo/bin/python -m pip install --quiet "torch==2.13.*"
	$(VENV)-demo/bin/python -m pip install --quiet -e . "torch==2.13.*"
	touch $@

demo: $(VENV)-demo/.ready
	$(VENV)-demo/bin/python examples/automotive/render.py --count 96 --out edgegen-out/street-scenes
	$(VENV)-demo/bin/edgegen compress examples/automotive/street_unet.safetensors --target host --effort quick \
		--data edgegen-out/street-scenes/labels --out edgegen-out/demo --resume

# Two workers on two cores: more threads per worker would only wait for each other. Training forks its input workers, so its
# tests get processes of their own, as in a run: the converters that other tests load bring threads that a fork does not survive.
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP)
	$(PY) -m pytest -n 2 --dist loadfile tests/distill
	$(PY) -m pytest -n 2 --dist loadfile --ignore tests/distill

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY)
	$(VENV)/bin/lint-imports

wheel-check: $(STAMP)
	rm -rf dist build/wheel-venv
	$(PY) -m build --wheel --outdir dist .
	python3 -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet typer rich
	build/wheel-venv/bin/python -m pip install --quiet --no-deps dist/*.whl
	cd build && wheel-venv/bin/edgegen targets && wheel-venv/bin/edgegen cp recipes/balanced wheel-venv/copied.toml

bench: $(STAMP)
	$(PY) benchmarks/headline.py

clean:
	rm -rf build dist edgegen-out $(VENV)-demo
