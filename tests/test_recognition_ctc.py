"""Transcripts from CTC checkpoints, against transformers."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import transformers

from emojax.encoders import load_encoder
from emojax.errors import AudioError, CheckpointError
from emojax.recognition import load_recognizer
from emojax.recognition.ctc import read_ctc_vocabulary
from tests import speech_checkpoints

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LABELS = {token: label for label, token in enumerate(TOKENS)}

OTHER_LABELS = {"a": 0, "n't": 1, "[SPACE]": 2, "[PAD]": 3, "[UNK]": 4, ",": 5, "'s": 6}
OTHER_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "word_delimiter_token": "[SPACE]"}


def write_tokenizer(folder, labels=LABELS, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(labels))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module", params=["Hubert", "Wav2Vec2"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = speech_checkpoints.make_model(request.param, "ForCTC", vocab_size=len(TOKENS))
    with torch.no_grad():
        model.lm_head.weight *= 3
    speech_checkpoints.write_checkpoint(folder, model, normalize=True)
    return model, write_tokenizer(folder), load_recognizer(folder)


def test_transcript_equals_that_of_transformers(pair):
    model, tokenizer, recognizer = pair
    clips = speech_checkpoints.waveforms((4000, 1000, 40))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = []
    for clip, ours in zip(clips, recognizer.logits(clips), strict=True):
        with torch.no_grad():
            logits = model(extractor(clip, sampling_rate=16_000, return_tensors="pt").input_values).logits[0]
        np.testing.assert_allclose(ours, logits, atol=1e-4)
        expected.append(tokenizer.decode(logits.argmax(dim=-1)))
    found = recognizer.transcribe_all(clips)
    assert [transcript.text for transcript in found] == expected
    assert recognizer.transcribe(clips[0]).text == expected[0]
    with torch.no_grad():
        logits = model(extractor(clips[0], sampling_rate=16_000, return_tensors="pt").input_values).logits[0]
    best = torch.log_softmax(logits, dim=-1).max(dim=-1).values.mean()
    np.testing.assert_allclose(found[0].segments[0].log_probability, best, atol=1e-4)
    assert len(expected[0]) > 3


def test_too_short_audio_is_refused(pair):
    with pytest.raises(AudioError, match=r"must have at least \d+ samples"):
        pair[2].transcribe(np.zeros(39, np.float32))


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (LABELS, {}),
        (LABELS, {"do_lower_case": True, "replace_word_delimiter_char": "_"}),
        (LABELS, {"clean_up_tokenization_spaces": True}),
        (OTHER_LABELS, {**OTHER_TOKENS, "clean_up_tokenization_spaces": True}),
    ],
    ids=["plain", "lower", "tight", "named"],
)
def test_decoding_equals_that_of_transformers(tmp_path, labels, settings):
    tokenizer = write_tokenizer(tmp_path, labels, **settings)
    vocabulary = read_ctc_vocabulary(tmp_path)

    @hypothesis.settings(deadline=None, max_examples=100)
    @hypothesis.given(st.lists(st.integers(0, len(labels) + 3), max_size=40))
    def check(sequence):
        assert vocabulary.decode(sequence) == tokenizer.decode(sequence)

    check()
    assert vocabulary.decode([]) == ""


def test_repetitions_merge_unless_a_blank_parts_them(tmp_path):
    write_tokenizer(tmp_path)
    ids = [LABELS[token] for token in ("H", "H", "<pad>", "E", "L", "L", "<pad>", "L", "O", "|", "|", "<pad>", "A")]
    assert read_ctc_vocabulary(tmp_path).decode(ids) == "HELLO A"


def test_vocabulary_of_the_language_that_is_named(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"eng": {"<pad>": 0, "a": 1}, "fra": {"<pad>": 0, "b": 1}}))
    with pytest.raises(CheckpointError, match=r"vocab\.json\.labels\.eng must be an integer, got {"):
        read_ctc_vocabulary(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"target_lang": "fra"}))
    assert read_ctc_vocabulary(tmp_path).decode([1]) == "b"
    settings.write_text(json.dumps({"target_lang": "deu"}))
    with pytest.raises(CheckpointError, match="must have target_lang 'deu', has eng, fra"):
        read_ctc_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", {"a": 1.5}, "labels.a must be an integer, got 1.5"),
        ("vocab.json", {"a": 10**15}, "labels.a must be >= 0 and <= 1048576, got 10+"),
        ("vocab.json", {"fra": 3}, "labels must be a group, got 3"),
        ("tokenizer_config.json", {"target_lang": ["fra"]}, "target_lang must be text, got "),
        ("tokenizer_config.json", {"pad_token": 3}, "pad_token must be text or a group or None, got 3"),
        ("tokenizer_config.json", {"pad_token": {"text": "a"}}, "pad_token must be text or a group or None, got "),
        ("tokenizer_config.json", {"do_lower_case": "no"}, "do_lower_case must be True or False, got 'no'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "a"}}, "added_tokens_decoder: 'x' must be an integer"),
        ("tokenizer_config.json", {"added_tokens_decoder": [3]}, "added_tokens_decoder must be a group, got "),
        ("added_tokens.json", {"a": "b"}, "labels.a must be an integer, got 'b'"),
        ("special_tokens_map.json", {"unk_token": []}, "unk_token must be text or a group or None, got "),
    ],
)
def test_vocabulary_files_of_wrong_types_are_refused_in_one_line(tmp_path, file, content, message):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 1}))
    settings = {"target_lang": "fra"} if "fra" in content else {}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_ctc_vocabulary(tmp_path)
    assert "\n" not in str(caught.value)


def test_checkpoint_without_head_is_an_encoder_but_no_recognizer(tmp_path):
    speech_checkpoints.write_checkpoint(tmp_path, speech_checkpoints.make_model("Hubert"))
    load_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="has no CTC head"):
        load_recognizer(tmp_path)
