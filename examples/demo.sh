#!/usr/bin/env bash
# Train, export and predict without PyTorch. `make demo` creates the two environments and runs this.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/demo
say() { printf '\n== %s\n' "$*"; }

say "Fine-tuning on 490 reviews"
.venv/bin/manylabel train examples/reviews.csv --output build/demo/run --force | tee build/demo/train.txt

say "Exporting, and comparing every variant with PyTorch"
.venv/bin/manylabel export build/demo/run --output build/demo/bundle --force | tee build/demo/export.txt

say "Measuring speed, compared with PyTorch, on the test reviews"
# Without the other contenders: compiled PyTorch alone takes a minute to start.
.venv/bin/manylabel bench build/demo/bundle --data examples/reviews.csv --checkpoint build/demo/run --seconds 2 \
    --contender "manylabel fp32" --contender "manylabel int8" --contender pipeline --contender pytorch | tee build/demo/bench.txt

say "Predicting without PyTorch ($(.venv-runtime/bin/python -c 'import importlib.util as u; print("torch is", "here" if u.find_spec("torch") else "absent")'))"
.venv-runtime/bin/manylabel predict build/demo/bundle --table --top-k 4 \
    "The hotline had me wait for an hour, and then the app crashed while I was paying." \
    "Lovely shoes for the money, but they came a week late." \
    "Rückgabe war ein Kinderspiel, nur das Geld lässt seit drei Wochen auf sich warten."

say "F1 of the model (PyTorch, texts it was not trained on)"
cat build/demo/train.txt
say "Parity of the bundle with PyTorch (validation texts)"
cat build/demo/export.txt
say "Speed and accuracy compared with PyTorch (test texts)"
cat build/demo/bench.txt
