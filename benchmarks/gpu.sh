#!/usr/bin/env bash
# The first thing to run on a machine with a GPU: five minutes, and a table even if half of it fails.
#
#   bash benchmarks/gpu.sh                    results and logs in runs/gpu
#   OUT=folder PYTHON=python3.12 bash benchmarks/gpu.sh
#   DEVICE=cpu bash benchmarks/gpu.sh         tries the script itself where there is no GPU
#
# It installs nothing and fetches nothing: it takes the Python that is there, with torch ≥ 2.11,
# torch-geometric, numba, pytest and hypothesis, and does without pymetis, kaminpar and isal. Its
# graph is drawn, cut (streaming) and stored on the spot.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1 DEVICE="${DEVICE:-cuda}"
PYTHON="${PYTHON:-python3}"
OUT="${OUT:-runs/gpu}"
mkdir -p "$OUT"
OUT="$(cd "$OUT" && pwd)"
export OUT GNNSCALE_CACHE="$OUT/cache"
rows="$OUT/table.txt"
: > "$rows"
failed=0

# part NAME SECONDS COMMAND…: run it within its own limit, keep its log, note how it ended.
part() {
    local name="$1" limit="$2" begun=$SECONDS code=0
    shift 2
    timeout -k 5 "$limit" "$@" > "$OUT/$name.log" 2>&1 || code=$?
    local how="ok"
    [ "$code" -eq 0 ] || { how="rc $code"; failed=$((failed + 1)); }
    [ "$code" -ne 124 ] || how="over $limit s"
    printf '%-14s %-11s %4d s   %s\n' "$name" "$how" "$((SECONDS - begun))" \
        "$(grep -v '^[[:space:]]*$' "$OUT/$name.log" | tail -n 1 | cut -c1-110)" >> "$rows"
}

# Warnings of another version of torch are no failure here.
pytests() {
    local name="$1" limit="$2"
    shift 2
    part "$name" "$limit" "$PYTHON" -m pytest -q -p no:cacheprovider \
        -o filterwarnings=default --tb=short "$@"
}

part environment 20 "$PYTHON" benchmarks/gpu_run.py environment
pytests kernels 80 tests/kernels/test_product.py tests/kernels/test_triton.py \
    tests/kernels/test_dropout.py tests/kernels/test_normalization.py
pytests batches 30 tests/loader/test_loader_device.py
pytests trainers 50 tests/train/test_devices.py
part training 50 "$PYTHON" benchmarks/gpu_run.py training
pytests compiling 30 tests/nn/blocks/test_compiling.py
part step_time 40 "$PYTHON" benchmarks/gpu_run.py step_time

echo
printf '%-14s %-11s %6s   %s\n' part ended "" "last line of its log"
cat "$rows"
echo
[ ! -f "$OUT/environment.log" ] || tail -n 8 "$OUT/environment.log"
echo "$failed parts failed; logs: $OUT"
[ "$failed" -eq 0 ]
