#!/usr/bin/env bash
# Trains every row of docs/reproduction.md on EmoBank spoken, three seeds each, and fills its tables.
#   scripts/reproduce_emobank.sh [RUNS]     (what is finished is not done again; some hours on 2 CPU cores)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${1:-runs/reproduction}
STORES=$RUNS/stores
CORPUS=emobank_spoken/full
MINILM=${MINILM:-sentence-transformers/all-MiniLM-L6-v2}
SEEDS=${SEEDS:-0 1 2}

train() { # NAME CONFIG [override ...]: one run per seed
  local name=$1 config=$2
  shift 2
  for seed in $SEEDS; do
    local workdir=$RUNS/${name}_seed$seed
    [ -f "$workdir/evaluation/test.json" ] && continue
    $PYTHON launch.py --config="configs/$config.py" --workdir="$workdir" --config.seed="$seed" "$@"
  done
}

extract() { # NAME CHECKPOINT
  [ -f "$STORES/$1/summary.json" ] || $PYTHON launch.py --mode=extract --config=configs/extract.py \
    --workdir="$STORES/$1" --config.corpus.name=$CORPUS --config.encoder.checkpoint="$2"
}

teach() { # NAME WORKDIRS: what teachers say of the whole corpus
  [ -d "$STORES/$1/test" ] || $PYTHON launch.py --mode=extract --config=configs/extract_teacher.py \
    --workdir="$STORES/$1" --config.corpus.name=$CORPUS --config.teacher.workdir="$2"
}

$PYTHON -m tfds_builders emobank_spoken --config=full
extract minilm "$MINILM"
HUBERT=$RUNS/hubert_tiny/encoder
[ -f "$HUBERT/model.safetensors" ] || $PYTHON launch.py --mode=pretrain --config=configs/pretrain_hubert_tiny.py \
  --workdir="$RUNS/hubert_tiny"
extract hubert_tiny "$HUBERT"
LEXICAL="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.store=$STORES/minilm"
ACOUSTIC="--config.model.acoustic.checkpoint=$HUBERT --config.model.acoustic.store=$STORES/hubert_tiny"

# Representations and their fusion.
train mfb mfb_emobank
train lexical lexical_emobank $LEXICAL
train acoustic acoustic_emobank $ACOUSTIC
train fusion fusion_emobank $LEXICAL
for number in 0 1 2; do # one attribute at a time, for what learning three together changes
  weights=(0.0 0.0 0.0)
  weights[number]=1.0
  train "lexical_only_$number" lexical_emobank $LEXICAL \
    "--config.objective.attribute_weights=(${weights[0]},${weights[1]},${weights[2]})"
done

# Students of the fusion.
teach fusion "$RUNS/fusion_seed0"
TEACHER="--config.teacher.cache=$STORES/fusion"
train student student_emobank
train student_embedding student_emobank $TEACHER --config.distillation.embedding_weight=0.3
train student_prediction student_emobank $TEACHER --config.distillation.attribute_weight=1.0
train student_both student_emobank $TEACHER \
  --config.distillation.attribute_weight=1.0 --config.distillation.embedding_weight=0.3
for condition in residual hard relative soft; do
  train "student_$condition" student_emobank $TEACHER \
    --config.distillation.attribute_weight=1.0 --config.distillation.condition=$condition
done
train student_no_labels student_emobank $TEACHER \
  --config.distillation.attribute_weight=1.0 --config.distillation.label_weight=0.0

# Half of the labels; the other half of the utterances unlabelled.
HALF="--config.corpus.train_split=train[:50%]"
train student_half student_emobank "$HALF"
train student_half_taught student_emobank "$HALF" $TEACHER --config.distillation.attribute_weight=1.0
train student_half_unlabelled student_emobank "$HALF" "--config.corpus.unlabelled_split=train[50%:]" $TEACHER \
  --config.distillation.attribute_weight=1.0

$PYTHON -m emojax.reproduction docs/reproduction.md "$RUNS"/*_seed*
