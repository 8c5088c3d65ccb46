"""Recognition with Whisper checkpoints, against transformers' `generate`."""

import numpy as np
import pytest

from emojax.recognition import DecodingOptions, load_recognizer
from tests import speech_checkpoints, whisper_checkpoints

ONE_TEMPERATURE = {
    "temperatures": (0.0,),
    "compression_ratio_threshold": None,
    "log_probability_threshold": None,
    "batch_size": 2,
    "max_tokens": 20,
}

CLIPS = speech_checkpoints.waveforms((19_200, 9_000, 400, 12_345))


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    return whisper_checkpoints.make(tmp_path_factory.mktemp("english"))


def load(folder, **options):
    return load_recognizer(folder, decoding=DecodingOptions(**{**ONE_TEMPERATURE, **options}))


def test_text_equals_that_of_transformers(english):
    model, folder = english
    recognizer = load(folder)
    expected = [recognizer.tokens.decode(row).strip() for row in whisper_checkpoints.generate(model, CLIPS)]
    found = recognizer.transcribe_all(CLIPS)
    assert [transcript.text for transcript in found] == expected
    assert recognizer.transcribe(CLIPS[1]).text == expected[1]
    assert len(set(expected)) == len(expected)
    assert [transcript.language for transcript in found] == ["en"] * 4
    (segment,) = found[1].segments
    assert (segment.start, segment.end, segment.temperature) == (0.0, 9_000 / 16_000, 0.0)
    assert np.log(1e-4) < segment.log_probability < 0
