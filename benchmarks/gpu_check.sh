#!/bin/sh
# Check and measure on one NVIDIA GPU what robis computes there; see benchmarks/README.md.
#   benchmarks/gpu_check.sh [--out FOLDER] [STEP ...]
#   benchmarks/gpu_check.sh --rehearse      the same on a CPU, at tiny sizes
set -eu
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "robis needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version). Set PYTHON to another one." >&2
    exit 1
}
PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" exec "$PYTHON" -m benchmarks.gpu_check "$@"
