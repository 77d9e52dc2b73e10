# Each target sets up what it needs in .venv, with the versions of requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test viewer lint types benchmark-accuracy benchmark-latency benchmark-gpu fuzz audit clean

demo: $(READY)
	$(BIN)/python -m trajpred_ros.demo demo

# The middleware has once crashed in a test's own process; what crashes is run again, and the summary says so. It says
# what was skipped, too: for want of a browser, of ffmpeg, of the viewer (make viewer), of recordings, of a GPU.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -rs --reruns 1 --only-rerun "crashed while running"

# What `trajpred view` needs: 170 MB that nothing else does. Its tests are skipped without.
viewer: $(READY)
	$(BIN)/python -c 'import rerun' 2> /dev/null || $(BIN)/python -m pip install --disable-pip-version-check -q -c requirements.lock -e '.[view]'

benchmark-accuracy: $(READY)
	$(BIN)/python benchmarks/accuracy.py

benchmark-latency: $(READY)
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/replay_speed.py

# Needs an NVIDIA GPU, and onnxruntime for it: docs/performance.md, "On a GPU".
benchmark-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

# Each target for so long; options of libFuzzer in FUZZ_OPTIONS.
FUZZ_SECONDS ?= 60
fuzz: $(READY)
	$(BIN)/python -c 'import atheris' || $(BIN)/python -m pip install -q -c requirements.lock -e '.[fuzz]'
	set -e; for target in tracked predicted mcap sqlite3 folder artefact description; do \
		$(BIN)/python -m tests.fuzz.run $$target -max_total_time=$(FUZZ_SECONDS) $(FUZZ_OPTIONS); done

# Known faults of the locked versions, from osv.dev; fails where that cannot be reached. A version built for one machine
# only (+cpu) is the same release.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --disable-pip-version-check -q pip-audit
	grep -v '+cpu$$' requirements.lock > build/audit/requirements.txt
	build/audit/bin/pip-audit -s osv --no-deps --disable-pip -r build/audit/requirements.txt

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c requirements.lock -e '.[train,viz,ros,dev]'
	$(BIN)/trajpred-interfaces
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
