"""Tiny random Whisper checkpoints with decoder and vocabulary, made by transformers' PyTorch model, for the tests."""

import json

import numpy as np
import torch
import transformers

from tests import speech_checkpoints

POSITIONS = 60
"""Frames of 20 ms: the longest window has 1.2 s."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (".", "!", ",", "Ã¼", "ing", *(f"Ġ{a}" for a in _LETTERS), *(f"Ġ{a}{a}" for a in _LETTERS))
SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|fr|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
IDS = {token: number for number, token in enumerate((*WORDS, *SPECIAL))}
END, START, NO_TIMESTAMPS = (IDS[f"<|{name}|>"] for name in ("endoftext", "startoftranscript", "notimestamps"))
VOCAB_SIZE = len(IDS) + POSITIONS + 1

SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "max_source_positions": POSITIONS,
    "max_target_positions": 24,
    "vocab_size": VOCAB_SIZE,
    "pad_token_id": END,
    "bos_token_id": END,
    "eos_token_id": END,
    "decoder_start_token_id": START,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


def make(folder, multilingual=False, timestamps=False, seed=0, **changes):
    """Writes a checkpoint; returns PyTorch's model with its generation settings, and the folder.

    Random weights predict time stamps anywhere; without `timestamps` they are suppressed.
    """
    model = speech_checkpoints.make_model("Whisper", "ForConditionalGeneration", seed, **{**SIZES, **changes})
    decoder = model.model.decoder
    with torch.no_grad():  # texts that depend on the recording, do not repeat one token, and end
        decoder.embed_positions.weight *= 10
        decoder.embed_tokens.weight[END] *= 1.6
        for layer in decoder.layers:
            layer.encoder_attn.q_proj.weight *= 5
            layer.encoder_attn.out_proj.weight *= 3
    settings = {
        "alignment_heads": [[1, 0], [1, 1]],
        "begin_suppress_tokens": [IDS["."], END],
        "suppress_tokens": [IDS["!"], *range(START, NO_TIMESTAMPS if timestamps else VOCAB_SIZE)],
        "no_timestamps_token_id": NO_TIMESTAMPS,
        "max_initial_timestamp_index": 50,
        "is_multilingual": multilingual,
    }
    if multilingual:
        settings["lang_to_id"] = {f"<|{code}|>": IDS[f"<|{code}|>"] for code in ("en", "de", "fr")}
        settings["task_to_id"] = {task: IDS[f"<|{task}|>"] for task in ("transcribe", "translate")}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: IDS[token] for token in WORDS}))
    (folder / "added_tokens.json").write_text(json.dumps({token: IDS[token] for token in SPECIAL}))
    return model, folder


def features(model, clips):
    """PyTorch's features of clips, each padded by silence to the longest window."""
    extract = transformers.WhisperFeatureExtractor(model.config.num_mel_bins)
    padded = [np.pad(clip, (0, POSITIONS * 320 - len(clip))) for clip in clips]
    return extract(padded, sampling_rate=16_000, padding=False, return_tensors="pt").input_features


def generate(model, clips, **settings):
    """Tokens of each clip by PyTorch: text and time stamps."""
    with torch.inference_mode():
        rows = model.generate(features(model, clips), **{"max_new_tokens": 20, **settings}).tolist()
    special = set(range(END, NO_TIMESTAMPS + 1))
    return [[token for token in row if token not in special] for row in rows]
