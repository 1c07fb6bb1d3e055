PYTHON ?= python3
CORES  ?= $(shell nproc 2>/dev/null || echo 2)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# every job is a process of its own, which would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test hardening lint bench

setup:
	@$(PYTHON) scripts/bootstrap.py

demo: setup
	snakemake --cores $(CORES) results/metantk_doublemnist.json results/report.html
	@python -m pipeline summary results/metantk_doublemnist.json

test: setup
	python -m pytest

hardening: setup
	python -m pytest -m slow --numprocesses 0

lint: setup
	ruff check .
	ruff format --check .
	lint-imports
	snakefmt --check Snakefile workflow
	snakemake --lint

bench: setup
	python benchmarks/kernel.py --repeats 2 --out benchmarks/figures/kernel_cpu.json
	python benchmarks/training.py --threads 1 --rounds 3 --steps 3 --out benchmarks/figures/training_cpu.json
	python benchmarks/indicators.py --out benchmarks/figures/indicators_cpu.json
	python benchmarks/metad2a.py --looped 20 --out benchmarks/figures/metad2a_cpu.json
	python benchmarks/metalstm.py --out benchmarks/figures/metalstm_cpu.json
	python benchmarks/tnas.py --out benchmarks/figures/tnas_cpu.json
	python benchmarks/planning.py --targets 1000 --out benchmarks/figures/planning_cpu.json
