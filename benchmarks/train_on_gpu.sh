#!/usr/bin/env bash
# A fit of recipe default on a GPU, through JAX: fit, measure the input, and pack the RUN into parts that travel.
#
#     benchmarks/train_on_gpu.sh DATA OUT [options of edgecxr train, such as --backbone-weights FILE --epochs 12]
#
# Needs `pip install '.[train-gpu]'` (or, where CUDA libraries and JAX are there already, keras, optree, namex, numpy,
# pillow, typer, opencv-python-headless, scikit-learn and matplotlib). Ends with OUT/run.tar.part-* of 15 MiB each,
# which `cat OUT/run.tar.part-* | tar x` turns into the RUN for `edgecxr export`; OUT/input.json says whether the GPU
# waited for pictures, OUT/train.log what each epoch took. The same command goes on with a run that was cut off, and with
# what comes after it.
set -euo pipefail
data=$1 out=$2
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
export KERAS_BACKEND=jax PYTHONPATH="$here:$here/export${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out"
work=${WORK:-$out/work} # of the RUN and its cache; name one on a fast disk
mkdir -p "$work"
resume=()
[ ! -e "$work/run" ] || resume=(--resume)
if [ ! -e "$work/run/run.json" ]; then # not finished yet
  python -m edgecxr train "$data" -o "$work/run" --device gpu -j 8 --cache "$work/cache" "${resume[@]}" "$@" 2>&1 |
    tee -a "$out/train.log"
fi
python "$here/benchmarks/training_input.py" --step --batch-size 64 -o "$out/input.json"
rm -f "$out"/run.tar.part-*
tar c -C "$work" run | split -b 15M - "$out/run.tar.part-"
