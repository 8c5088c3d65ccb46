"""Transcripts of a corpus: what is stored, resumed, read in place of the corpus's own, and refused."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import emojax.__main__
from configs import extract_teacher, transcribe
from emojax.content import column_digest
from emojax.data import BatchInputs, open_corpus, open_split, read_index
from emojax.data.loading import BatchLoader
from emojax.data.plan import BatchPlan
from emojax.data.transcripts import find_transcripts
from emojax.encoders import checkpoint_fingerprint, load_encoder
from emojax.errors import CheckpointError, ConfigError
from emojax.extraction import extract_store, filling, parse_extraction, shards
from emojax.feature_store import Store, TranscriptSource, TranscriptStore, write_lines
from emojax.launcher import modes
from emojax.metrics.word_errors import word_errors
from emojax.recognition import DecodingOptions, Segment, Transcript, load_recognizer
from emojax.reporting import evaluate_workdir
from emojax.schema import to_tree
from emojax.training import train_workdir
from emojax.transcription import parse_transcription, run, transcribe_corpus, transcribe_with
from emojax.transcription.counts import TranscriptCounts
from emojax.workdir import batch_inputs
from tests import mini_corpus, speech_checkpoints, test_extraction, test_training_encoders, whisper_checkpoints
from tests.test_recognition_ctc import TOKENS, write_tokenizer

pytestmark = pytest.mark.usefixtures("one_device_in_module")

CORPUS = "mini_corpus/1.0.0"
SOURCE = TranscriptSource("abc", {"dtype": "float32"})


class FakeRecognizer:
    """Texts that depend on the length of a recording alone."""

    min_samples = 6000

    def __init__(self):
        self.calls = []

    def transcribe(self, audio):
        return self.transcribe_all([audio])[0]

    def transcribe_all(self, recordings):
        self.calls.append([len(audio) for audio in recordings])
        return [fake_transcript(len(audio)) for audio in recordings]


def fake_transcript(num_samples):
    if num_samples < FakeRecognizer.min_samples or num_samples % 5 == 0:
        return Transcript("")
    text = " ".join("abcdefgh"[num_samples // 7**place % 8] for place in range(4))
    segment = Segment(text, 0.0, num_samples / 16_000, -1.5 if num_samples % 3 == 0 else -0.1, 0.8)
    return Transcript(text, (segment,), "en", loops=int(num_samples % 4 == 0))


def config(data_dir, checkpoint="fake", splits=(), **decoding):
    tree = transcribe.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "splits": splits})
    tree.recognizer.checkpoint = str(checkpoint)
    tree.recognizer.decoding.update(decoding)
    return parse_transcription(tree.to_dict())


def transcribe_fake(data_dir, folder, **changes):
    return transcribe_with(FakeRecognizer(), SOURCE, config(data_dir, **changes), folder)


@pytest.fixture(scope="module")
def store(mini_data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "store"
    transcribe_fake(mini_data_dir, folder)
    return folder


def examples(data_dir, split):
    return list(open_split(open_corpus("mini_corpus", data_dir), split))


def lines(store, split):
    return [json.loads(line) for path in sorted((store / split).glob("*.jsonl")) for line in path.open()]


def test_a_line_per_utterance_and_an_index_of_corpus_and_recognizer(mini_data_dir, store):
    metadata = json.loads((store / "store.json").read_text())
    assert metadata["corpus"] == CORPUS
    assert metadata["source"] == {"recognizer": "abc", "options": {"dtype": "float32"}}
    index = read_index(open_corpus("mini_corpus", mini_data_dir), "test")
    split = json.loads((store / "test" / "split.json").read_text())
    assert split["content"] == {"id": index.content["id"], "audio": index.content["audio"]}
    for line, example in zip(lines(store, "test"), examples(mini_data_dir, "test"), strict=True):
        expected = fake_transcript(len(example["audio"]))
        assert line["id"] == example["id"].decode()
        assert (line["text"], line["loops"], line["language"]) == (expected.text, expected.loops, expected.language)
        if expected.segments:
            assert line["segments"][0]["end"] == len(example["audio"]) / 16_000
            assert line["log_probability"] == pytest.approx(expected.segments[0].log_probability)
        reference = example["transcript"].decode()
        assert (line.get("word_errors"), line.get("reference_words", 0)) == (
            word_errors(expected.text, reference) if reference else (None, 0)
        )


def test_counts_are_those_of_the_whole_store_after_a_resumed_run_too(mini_data_dir, tmp_path):
    outcome = transcribe_fake(mini_data_dir, tmp_path / "store", splits=("dev", "test"))
    again = transcribe_fake(mini_data_dir, tmp_path / "store", splits=("dev", "test"))
    assert (again.run.utterances, again.splits) == (0, outcome.splits)
    found = outcome.splits["dev"]
    expected = [fake_transcript(len(example["audio"])) for example in examples(mini_data_dir, "dev")]
    assert found.utterances == mini_corpus.SIZES["dev"]
    assert found.empty == sum(not transcript.text for transcript in expected) > 0
    assert found.looped == sum(transcript.loops > 0 for transcript in expected) > 0
    assert found.low_confidence == sum((transcript.log_probability or 0) < -1 for transcript in expected) > 0
    references = [example["transcript"].decode().split() for example in examples(mini_data_dir, "dev")]
    assert found.reference_words == sum(map(len, references))
    assert found.word_error_rate >= 1
    assert "word error rate" in str(found)
    assert "word error rate" not in str(TranscriptCounts(3, 1, 0, 0, 0, 0))
    saved = json.loads((tmp_path / "store" / "summary.json").read_text())
    assert saved["splits"]["dev"]["empty"] == found.empty
    assert saved["checkpoint"] == "fake"


def test_recordings_of_similar_length_are_transcribed_together_and_short_ones_not(mini_data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_AT_ONCE", 4)
    recognizer = FakeRecognizer()
    outcome = transcribe_with(recognizer, SOURCE, config(mini_data_dir, splits=("train",)), tmp_path / "store")
    lengths = [len(example["audio"]) for example in examples(mini_data_dir, "train")]
    assert outcome.run.short == sum(length < 6000 for length in lengths) > 0
    assert [length for call in recognizer.calls for length in call] == sorted(n for n in lengths if n >= 6000)
    assert all(len(call) <= 4 for call in recognizer.calls)


def test_an_interrupted_transcription_continues_and_equals_a_whole_one(mini_data_dir, store, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_UTTERANCES", 10)
    write, written = run.write_lines, []

    def interrupted(directory, metadata, shard, *rest):
        written.append(shard)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(directory, metadata, shard, *rest)

    monkeypatch.setattr(run, "write_lines", interrupted)
    first = transcribe_fake(mini_data_dir, tmp_path / "store", splits=("train",))
    assert (first.run.utterances, first.run.interrupted_by, first.splits) == (20, signal.SIGTERM, {})
    with pytest.raises(CheckpointError, match="2 of 4 shards are missing"):
        TranscriptStore.open(tmp_path / "store").split("train")
    monkeypatch.setattr(filling, "own_shards", lambda count: range(1, count, 2))  # those of the second of two processes
    monkeypatch.setattr(run, "is_first_process", lambda: False)
    assert transcribe_fake(mini_data_dir, tmp_path / "store", splits=("train",)).run.utterances == 7
    monkeypatch.undo()
    monkeypatch.setattr(shards, "_SHARD_UTTERANCES", 10)
    assert transcribe_fake(mini_data_dir, tmp_path / "store", splits=("train",)).run.utterances == 10
    assert lines(tmp_path / "store", "train") == lines(store, "train")
    other = TranscriptSource("other", {"dtype": "float32"})
    with pytest.raises(CheckpointError, match=r"was made with recognizer 'abc', not 'other'"):
        transcribe_with(FakeRecognizer(), other, config(mini_data_dir), tmp_path / "store")


def tokens(data_dir, tokenizer, split, transcripts=None):
    corpus = open_corpus("mini_corpus", data_dir)
    index = read_index(corpus, split)
    inputs = BatchInputs(audio=False, tokenizer=str(tokenizer), transcripts=transcripts).for_split(index)
    plan = BatchPlan(index.num_samples, (40_000,), len(index), 0, False)
    batch = BatchLoader(corpus, split, plan, inputs, 6)(0)
    order = np.argsort(batch.index)
    return [row[:count].tolist() for row, count in zip(batch.tokens[order], batch.num_tokens[order], strict=True)]


@pytest.mark.parametrize("split", ["train", "train[30%:]", "dev+test", "train[:20%]+train[80%:]"])
def test_batches_hold_the_tokens_of_recognised_texts(mini_data_dir, checkpoints, store, split):
    tokenizer = load_encoder(checkpoints["lexical"], params=False).inputs.tokenizer
    texts = [fake_transcript(len(example["audio"])).text for example in examples(mini_data_dir, split)]
    expected = [tokenizer(text, truncation=True, max_length=6)["input_ids"] if text else [] for text in texts]
    found = tokens(mini_data_dir, checkpoints["lexical"], split, find_transcripts(str(store), CORPUS, split, "here"))
    assert found == expected
    assert [] in found
    assert found != tokens(mini_data_dir, checkpoints["lexical"], split)


def test_transcripts_that_do_not_fit_the_corpus_are_refused_in_one_line(mini_data_dir, store, tmp_path):
    def read(folder, data_dir=mini_data_dir, split="test", corpus=CORPUS):
        transcripts = find_transcripts(str(folder), corpus, split, "config.model.lexical.transcripts")
        transcripts.for_split(read_index(open_corpus("mini_corpus", data_dir), split))

    with pytest.raises(CheckpointError, match=rf"config\.model\.lexical\.transcripts: .* only of {CORPUS} \({store}\)"):
        read(store, corpus="other/1.0.0")
    mini_corpus.build(tmp_path / "noise", noise=True)
    with pytest.raises(CheckpointError, match="test: was computed from other audio than the corpus has now; delete"):
        read(store, tmp_path / "noise")
    mini_corpus.build(tmp_path / "more", sizes={"test": 12})
    with pytest.raises(CheckpointError, match=rf"{store}: has no transcript of 'test_0\d\d' \(split 'test'\)"):
        read(store, tmp_path / "more")
    with pytest.raises(CheckpointError, match="no split 'more'; it has dev, test, train"):
        TranscriptStore.open(store).split("more")
    file = Path("test", "00000-of-00001.jsonl")
    for change, message in (
        (lambda text: text[:-1], "has no transcript of 'test_00.', it ends after 8 lines"),
        (lambda text: [*text, text[0]], "must have 9 lines, has more"),
        (lambda text: [text[1], text[0], *text[2:]], "line 1: must be of 'test_00.', got 'test_0"),
        (lambda text: ["3\n", *text[1:]], "line 1: must be an object with a text"),
        (lambda text: ["{\n", *text[1:]], "line 1: is not valid JSON"),
    ):
        damaged = shutil.copytree(store, tmp_path / "damaged", dirs_exist_ok=True)
        content = change((store / file).read_text().splitlines(keepends=True))
        (damaged / file).write_text("".join(content))
        with pytest.raises(CheckpointError, match=message) as caught:
            read(damaged)
        assert "\n" not in str(caught.value)


def test_a_store_of_another_kind_is_refused(mini_data_dir, checkpoints, store, tmp_path):
    with pytest.raises(CheckpointError, match=r"store\.json: arrays must not be empty in a store of hidden states"):
        Store(store)
    extract_store(test_extraction.config(mini_data_dir, checkpoints["lexical"]), tmp_path / "states")
    with pytest.raises(CheckpointError, match="states: holds no transcripts; `--mode=transcribe` writes them"):
        find_transcripts(f"{store}, {tmp_path / 'states'}", CORPUS, "test", "here")
    with pytest.raises(ConfigError, match=r"config\.recognizer\.checkpoint must not be empty"):
        config(mini_data_dir, checkpoint="")


def test_numbers_that_are_not_finite_are_refused(mini_data_dir, tmp_path, monkeypatch):
    segment = Segment("a", 0.0, 1.0, float("nan"), 0.8)
    monkeypatch.setattr(FakeRecognizer, "transcribe_all", lambda _, clips: [Transcript("a", (segment,))] * len(clips))
    with pytest.raises(CheckpointError, match="a number that is not finite"):
        transcribe_fake(mini_data_dir, tmp_path / "store", splits=("test",))


def test_lexical_states_of_recognised_texts(mini_data_dir, checkpoints, store, trained, tmp_path):
    changes = {"transcripts": str(store), "max_tokens": test_training_encoders.MAX_TOKENS}
    job = test_extraction.config(mini_data_dir, checkpoints["lexical"], splits=(), layers=(1, -1), **changes)
    outcome = extract_store(job, tmp_path / "lexical")
    encoder = load_encoder(checkpoints["lexical"])
    split = Store(tmp_path / "lexical").split("test")
    texts = [fake_transcript(len(example["audio"])).text for example in examples(mini_data_dir, "test")]
    for number, text in enumerate(texts):
        assert len(split[number]["states"]) == (min(len(encoder.encode(text)), 6) if text else 0)
    assert outcome.empty == sum(not line["text"] for name in mini_corpus.SIZES for line in lines(store, name)) > 0
    digest = json.loads((tmp_path / "lexical" / "test" / "split.json").read_text())["content"]["transcript"]
    assert digest == column_digest("transcript", texts)

    def inputs(transcripts):
        changes = {"model__lexical__transcripts": transcripts}
        model = test_training_encoders.experiment(mini_data_dir, checkpoints, tmp_path, ("lexical",), **changes).model
        index = read_index(open_corpus("mini_corpus", mini_data_dir), "train")
        return batch_inputs(trained[0], model, CORPUS, "train", test_training_encoders.MAX_TOKENS, ()).for_split(index)

    with pytest.raises(CheckpointError, match="lexical/train: was computed from other transcripts than"):
        inputs("")
    assert not inputs(str(store)).tokenizer


@pytest.fixture(scope="module")
def trained(mini_data_dir, checkpoints, store, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    experiment = test_training_encoders.experiment(
        mini_data_dir,
        checkpoints,
        modalities=("lexical",),
        model__lexical__transcripts=str(store),
        corpus__validation_split="dev",
        training__epochs=1,
    )
    train_workdir(experiment, workdir)
    return workdir, experiment


def test_training_evaluation_and_continuation_read_recognised_texts(mini_data_dir, store, trained, tmp_path, capsys):
    workdir, experiment = shutil.copytree(trained[0], tmp_path / "trained"), trained[1]
    digest = json.loads((workdir / "corpus.json").read_text())["content"]["transcript"]
    assert digest == column_digest("transcript", [line["text"] for line in lines(store, "train")])
    recognised = evaluate_workdir(workdir)["test"]
    assert recognised["transcripts"] == str(store)
    other = shutil.copytree(store, tmp_path / "other")
    texts = [line | {"text": ""} for line in lines(other, "test")]
    write_lines(other / "test", TranscriptStore.open(other).split("test").metadata, 0, texts)
    silent = evaluate_workdir(workdir, transcripts=str(other))["test"]
    assert silent["transcripts"] == str(other)
    assert silent["ccc"]["valence"]["value"] != recognised["ccc"]["valence"]["value"]
    changed = shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(changed / "checkpoints")
    texts = [line | {"text": "a"} for line in lines(store, "train")]
    kept = shutil.copytree(store, tmp_path / "kept")
    try:
        write_lines(store / "train", TranscriptStore.open(store).split("train").metadata, 0, texts)
        with pytest.raises(CheckpointError, match=r"has changed since the run started \(transcript differ\)"):
            train_workdir(experiment, changed)
    finally:
        shutil.copytree(kept, store, dirs_exist_ok=True)
    shutil.rmtree(other / "dev")
    with pytest.raises(CheckpointError, match="no split 'dev'"):
        evaluate_workdir(workdir, splits=("dev",), transcripts=str(other))


def test_a_teacher_takes_recognised_texts(mini_data_dir, store, trained, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "trained")
    evaluate_workdir(workdir)

    def outputs(folder, transcripts):
        tree = extract_teacher.get_config()
        tree.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ("test",)})
        tree.teacher.update({"workdir": str(workdir), "transcripts": transcripts})
        tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "max_tokens": 6})
        extract_store(parse_extraction(tree.to_dict()), folder)
        return np.stack([arrays["outputs"] for arrays in Store(folder).split("test").__getitems__(range(9))])

    own, recognised = outputs(tmp_path / "own", ""), outputs(tmp_path / "texts", str(store))
    assert np.abs(own - recognised).max() > 1e-4
    tables = (workdir / "evaluation" / "test.csv").read_text().splitlines()
    column = next(i for i, name in enumerate(tables[0].split(",")) if "valence" in name and "pred" in name)
    expected = [float(line.split(",")[column]) for line in tables[1:]]
    np.testing.assert_allclose(1 + 6 * recognised[:, 0, 1], expected, atol=1e-4)
    source = json.loads((tmp_path / "texts" / "store.json").read_text())["source"]
    assert source["transcripts"] == TranscriptStore.open(store).fingerprint


def test_a_student_and_its_teacher_share_their_transcripts(mini_data_dir, checkpoints, store, trained, tmp_path):
    workdir, _ = trained
    changes = {"teacher__workdir": str(workdir), "distillation__attribute_weight": 1.0}
    experiment = test_training_encoders.experiment(
        mini_data_dir, checkpoints, modalities=("lexical",), teacher__transcripts=str(store), **changes
    )
    with pytest.raises(ConfigError, match=r"config\.teacher\.transcripts must be those of the student"):
        train_workdir(experiment, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"teacher\.transcripts must be '' without teacher\.workdir"):
        test_training_encoders.experiment(mini_data_dir, checkpoints, teacher__transcripts=str(store))


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctc")
    model = speech_checkpoints.make_model("Hubert", "ForCTC", vocab_size=len(TOKENS))
    speech_checkpoints.write_checkpoint(folder, model, normalize=True)
    write_tokenizer(folder, do_lower_case=True)
    return folder


def test_the_command_transcribes_with_a_checkpoint(mini_data_dir, ctc, tmp_path, monkeypatch, capsys):
    tree = to_tree(config(mini_data_dir, ctc, splits=("test",)))
    monkeypatch.setattr(modes, "config_tree", lambda: tree)
    assert modes._MODES["transcribe"](tmp_path / "store") == 0
    output = capsys.readouterr()
    assert "test: 9 transcripts, 0 empty, 0 with loops cut, 9 of low confidence" in output.out
    assert "9 utterances transcribed; " in output.out
    assert "transcribe mini_corpus/1.0.0 test: 9/9 utterances (100 %)" in output.err
    line, example = lines(tmp_path / "store", "test")[0], examples(mini_data_dir, "test")[0]
    assert line["text"] == load_recognizer(ctc).transcribe(example["audio"].astype(np.float32) / 2**15).text != ""
    assert modes._MODES["transcribe"](tmp_path / "store") == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_whisper_transcribes_with_options_and_a_ctc_head_has_none(mini_data_dir, ctc, tmp_path):
    _, folder = whisper_checkpoints.make(tmp_path / "whisper", multilingual=True, timestamps=True)
    options = {"temperatures": (0.0,), "max_tokens": 6, "language": "de", "batch_size": 8}
    job = config(mini_data_dir, folder, splits=("test",), **options)
    outcome = transcribe_corpus(job, tmp_path / "store")
    assert outcome.splits["test"].utterances == 9
    source = json.loads((tmp_path / "store" / "store.json").read_text())["source"]
    assert source["recognizer"] == checkpoint_fingerprint(folder)
    assert source["options"]["language"] == "de"
    assert "batch_size" not in source["options"]
    longest, found = max(zip(examples(mini_data_dir, "test"), lines(tmp_path / "store", "test"), strict=True),
                         key=lambda pair: len(pair[0]["audio"]))  # fmt: skip
    assert len(longest["audio"]) > whisper_checkpoints.POSITIONS * 320  # in windows
    decoding = DecodingOptions(**options)
    expected = load_recognizer(folder, decoding=decoding).transcribe(longest["audio"].astype(np.float32) / 2**15)
    assert (found["text"], found["language"]) == (expected.text, "de")
    for segment, other in zip(found["segments"], dataclasses.asdict(expected)["segments"], strict=True):
        assert (segment["start"], segment["end"], segment["text"]) == (other["start"], other["end"], other["text"])
        assert segment["no_speech_probability"] == pytest.approx(other["no_speech_probability"], rel=1e-4)
    with pytest.raises(CheckpointError, match="was made with options "):
        transcribe_corpus(config(mini_data_dir, folder, language="en"), tmp_path / "store")
    with pytest.raises(ConfigError, match=r"config\.recognizer\.decoding must have its defaults for a hubert"):
        transcribe_corpus(config(mini_data_dir, ctc, beam_size=2), tmp_path / "other")


def test_predict_transcribes_the_files(mini_data_dir, ctc, trained, tmp_path, capsys):
    import soundfile

    workdir, _ = trained
    for number, example in enumerate(examples(mini_data_dir, "test")[:2]):
        soundfile.write(tmp_path / f"{number}.wav", example["audio"], 16_000)
    arguments = ["predict", str(workdir), str(tmp_path), "--format=jsonl"]
    assert emojax.__main__.main(arguments) == 0
    alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert emojax.__main__.main([*arguments, f"--recognizer={ctc}"]) == 0
    worded = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    model = emojax.load(workdir)
    for row, before in zip(worded, alone, strict=True):
        assert row["transcript"]
        expected = model.predict(row["file"], transcripts=row["transcript"]).attributes
        assert row["attributes"] == pytest.approx(expected, abs=1e-4)
        assert "transcript" not in before


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("", "", (0, 0)),
        ("Well, that’s fine!", "well that's FINE", (0, 3)),
        ("a b c", "a x c", (1, 3)),
        ("a c", "a b c", (1, 3)),
        ("a b b c", "a b c", (1, 3)),
        ("", "one two", (2, 2)),
        ("one two", "", (2, 0)),
        ("b c d", "a b c", (2, 3)),
    ],
)
def test_word_errors(text, reference, expected):
    assert word_errors(text, reference) == expected
