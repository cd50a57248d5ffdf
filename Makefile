# make book    sets up .venv, runs a notebook on sample images, builds the book
# make test    runs the tests but for the slow ones
# make test-all runs all tests
# make study   trains what the studies still lack: HOURS=3 for a limit, SEEDS=3 for more seeds,
#              WORKERS=4 or WORKERS=auto for several runs at once
# make publish shows what is recorded: executes the notebooks, renews the README's table
# make bench   measures what people wait for on this machine, as ratios
# make gpu-check tries training, resuming and scoring on a GPU, and measures its speed
# make lint    checks code and notebooks
# make links   checks the book's links to the outside, which needs a network
# make clean   removes what was built; neither the environment nor any result

.PHONY: book test test-all study publish bench gpu-check lint links clean
HOURS :=
SEEDS := 1
WORKERS :=

# A notebook's kernel and the programs it calls come from the environment, too.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
BIN := .venv/bin

# ONNX Runtime Web: by WebAssembly, and by WebGPU.
RUNTIME := onnxruntime-web@1.30.0
RUNTIME_FILES := ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm \
	ort.webgpu.bundle.min.mjs ort-wasm-simd-threaded.asyncify.wasm

# The quick run goes to _build/; the book shows the recorded ones in results/notebooks/.
# Without npm or a network the book lacks nothing but what its page Try it computes with.
book: .venv/installed
	-if command -v npm >/dev/null; then $(MAKE) --no-print-directory _build/tryit/network.onnx; fi
	mkdir -p _build/quick
	$(BIN)/papermill notebooks/ablation_depth.ipynb _build/quick/ablation_depth.ipynb -p preset quick
	$(BIN)/jupyter-book build book/ -W -n --keep-going

_build/tryit/network.onnx: vdsr/pretrained.safetensors vdsr/export.py Makefile .venv/installed
	mkdir -p $(@D)
	npm pack $(RUNTIME) --silent --fetch-retries 0 --pack-destination $(@D)
	tar -xmzf $(@D)/$(subst @,-,$(RUNTIME)).tgz -C $(@D) --strip-components 2 $(addprefix package/dist/,$(RUNTIME_FILES))
	rm $(@D)/$(subst @,-,$(RUNTIME)).tgz
	$(BIN)/python -m vdsr export $@

test: .venv/installed
	$(BIN)/python -m pytest -m "not slow"

# Two at a time on two cores; each test has one thread, since threads would wait for each other.
test-all: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

study: .venv/installed
	$(BIN)/vdsr study --seeds $(SEEDS) $(if $(HOURS),--hours $(HOURS)) $(if $(WORKERS),--workers $(WORKERS))

publish: .venv/installed
	$(BIN)/vdsr publish

bench: .venv/installed
	$(BIN)/vdsr bench

gpu-check: .venv/installed
	$(BIN)/python -m pytest -m gpu -ra
	$(BIN)/python -m vdsr bench gpu-enlarge gpu-step gpu-step-plain

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

links: .venv/installed
	$(BIN)/jupyter-book build book/ --builder linkcheck

clean:
	rm -rf _build book/notebooks .pytest_cache .ruff_cache .hypothesis mutants

.venv/installed: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[notebooks,book,export,fast,scale,dev]'
	touch $@
