#!/bin/sh
# Check and measure on one NVIDIA GPU what robis computes there; see benchmarks/README.md.
#   benchmarks/gpu_check.sh [--out FOLDER] [STEP ...]
#   benchmarks/gpu_check.sh --rehearse      the same on a CPU, at tiny sizes
set -eu
cd "$(dirname "$0")/.."
PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m benchmarks.gpu_check "$@"
