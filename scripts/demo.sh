#!/usr/bin/env bash
# The whole path on scikit-learn's 1,797 embedded digits, without a network: train three classifiers, judge, predict, compare.
# `make demo` sets up and runs this. docs/log.md says how the settings of cnn-digits were chosen.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1 # images of 8x8 are too small to be shared by threads
runs=runs/demo

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    title "$ $*"
    "$@"
}

run frostline train digits --recipe cnn-digits --out $runs/digits-vgg --overwrite
run frostline train digits --recipe cnn-digits --set network=cnn-small --out $runs/digits-small --overwrite
run frostline train digits --recipe cifar-fast-frozen --out $runs/digits-frozen --overwrite
run frostline evaluate $runs/digits-vgg digits
run python scripts/digit_images.py $runs/images
run frostline predict $runs/images --model $runs/digits-vgg --top 2
run frostline compare $runs/digits-vgg $runs/digits-small $runs/digits-frozen
run frostline predict $runs/images

title "Where everything is"
cat <<TEXT
  $runs/digits-vgg       the run: settings, scores, predictions, history; run.json says what is in it
  $runs/digits-vgg/model    the model: predicts without torch
  $runs/digits-vgg/plots    learning curves and confusion matrices
  $runs/images           ten digits of the test split as PNG files
TEXT
title "What to type next (the program is .venv/bin/frostline; \`source .venv/bin/activate\` makes it \`frostline\`)"
cat <<TEXT
  frostline train FOLDER            on your own images: a folder of class folders
  frostline train cifar10           downloads CIFAR-10, and ImageNet weights once
  frostline predict PHOTO.jpg --model RUN
  frostline recipes                 the named experiments
TEXT
