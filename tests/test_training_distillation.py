"""Teachers in training: online and cached alike, ensembles, no labels, unlabelled utterances, resuming."""

import dataclasses
import json
import shutil

import audmetric
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default, extract_teacher
from emojax.config import TeacherConfig, parse_experiment
from emojax.data import AUDIO, BatchStream, Unlabelled, open_corpus, read_index
from emojax.errors import CheckpointError, ConfigError, CorpusError
from emojax.evaluation import Predictions
from emojax.extraction import extract_store, parse_extraction
from emojax.files import with_digest, write_json
from emojax.parallel import MeshConfig, make_mesh
from emojax.reporting import evaluate_workdir
from emojax.teachers import calibrate, load_ensemble, load_teacher
from emojax.teachers.cache import fingerprint
from emojax.teachers.calibration import residual_units
from emojax.training import train_workdir
from tests import mini_corpus

pytestmark = pytest.mark.usefixtures("one_device_in_module")


def tree(data_dir, **distillation):
    config = default.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none"})
    config.data.update({"batch_size": 16, "bucket_seconds": (2.5,), "workers": 0})
    config.model.log_mel.network.update({"gru_layers": 1, "gru_size": 8, "conv_channels": 0, "embedding_size": 6})
    config.optimizer.update({"warmup_steps": 1, "learning_rate": 3e-3})
    config.training.update({"epochs": 2, "log_every_steps": 1})
    config.evaluation.bootstrap_resamples = 10
    config.distillation.update(distillation)
    return config


def train(config, workdir):
    train_workdir(parse_experiment(config.to_dict()), workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def teachers(mini_data_dir, tmp_path_factory):
    """Two trained models, and the cache of both together."""
    root = tmp_path_factory.mktemp("teachers")
    folders = []
    for seed in (0, 1):
        config = tree(mini_data_dir)
        config.seed, config.objective.emotion_weight = seed, 0.5
        config.model.log_mel.network.gru_layers = 2
        folders.append(root / f"teacher{seed}")
        train(config, folders[-1])
    return folders, cache_of(folders, mini_data_dir, "mini_corpus", root / "cache")


def teacher_fields(folders):
    return {"workdir": ",".join(map(str, folders)), "weights": (3.0, 1.0)[: len(folders)]}


def cache_config(folders, data_dir, corpus):
    cache = extract_teacher.get_config()
    cache.corpus.update({"name": corpus, "data_dir": str(data_dir)})
    cache.data.update({"batch_size": 16, "bucket_seconds": (2.5,), "workers": 0})
    cache.teacher.update(teacher_fields(folders))
    return cache.to_dict()


def cache_of(folders, data_dir, corpus, place):
    config = parse_extraction(cache_config(folders, data_dir, corpus))
    assert extract_store(config, place).utterances == 37 + 11 + 9
    assert extract_store(config, place).utterances == 0
    return place


def one_device_mesh():
    return make_mesh(MeshConfig(-1, 1), jax.devices()[:1])


EVERYTHING = {"attribute_weight": 1.0, "emotion_weight": 1.0, "embedding_weight": 1.0, "condition": "soft"}


def test_cached_outputs_equal_those_computed_in_the_step(mini_data_dir, teachers):
    folders, cache = teachers
    corpus = open_corpus("mini_corpus", mini_data_dir)
    index = read_index(corpus, "train")
    config = parse_experiment(tree(mini_data_dir).to_dict())
    settings = dataclasses.replace(config.distillation, **EVERYTHING)
    found = []
    for teacher_config in (
        TeacherConfig(**teacher_fields(folders), cache="", dtype="float32"),
        TeacherConfig("", (), str(cache), "float32"),
    ):
        for devices in (1, 8):
            mesh = make_mesh(MeshConfig(-1, 1), jax.local_devices()[:devices])
            teacher = load_teacher(teacher_config, settings, corpus.info.categories, mesh)
            inputs = teacher.batch_inputs(AUDIO, corpus.info.name, "train")
            stream = BatchStream(corpus, "train", index, config.data, mesh, training=True, inputs=inputs)
            calibration = calibrate(teacher.outputs, teacher.arrays.members, stream, settings)
            arrays = teacher.arrays.replace(calibration=calibration)
            found.append(jax.device_get(jax.jit(teacher)(arrays, stream.load(1))))
    for other in found[1:]:
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6), other, found[0]
        )
    assert found[0].embedding.shape == (16, 12)
    np.testing.assert_allclose(found[0].emotion_probabilities.sum(axis=1), 1.0, rtol=1e-5)
    batches = [jax.device_get((stream.load(n), jax.jit(teacher)(arrays, stream.load(n)))) for n in range(3)]
    attributes, embedding = (
        np.concatenate([getattr(output, name)[batch.weight > 0] for batch, output in batches])
        for name in ("attributes", "embedding")
    )
    assert len(attributes) == len(index)  # no row that only fills a batch
    np.testing.assert_allclose(found[0].attribute_variance[0], attributes.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found[0].embedding_variance[0], embedding.var(axis=0).sum(), rtol=1e-4)


class RenamedCorpus(mini_corpus.MiniCorpus):
    """The same utterances, whose categories are spelt otherwise; a few are of one that no model has."""

    name = "renamed_corpus"

    def _generate_examples(self, split):
        for number, example in super()._generate_examples(split):
            calm = example["emotion"] >= 0 and number % 4 == 1
            votes = {"emotion_votes": np.full(len(self.names), np.nan, np.float32)}
            yield number, example | votes | ({"emotion": 3} if calm else {})


def test_a_corpus_with_other_spellings_gets_the_scores_of_its_utterances(mini_data_dir, teachers, tmp_path):
    folder = teachers[0][0]
    names = ("Angry", "joy", "NEUTRAL", "calm")
    RenamedCorpus(data_dir=str(tmp_path), sizes={"test": 40}, names=names).download_and_prepare()
    found = evaluate_workdir(folder, "renamed_corpus", ("test",), str(tmp_path))["test"]
    table = Predictions.read_csv(
        folder / "evaluation" / "renamed_corpus-1.0.0" / "test.csv",
        dataclasses.replace(open_corpus("renamed_corpus", tmp_path).info, categories=names[:3]),
        "test",
    )
    labelled = table.emotion_labels >= 0
    truth, predicted = table.emotion_labels[labelled], table.predicted_emotions[labelled]
    assert found["uar"]["value"] == pytest.approx(audmetric.unweighted_average_recall(truth, predicted))
    assert found["categories"] == list(names[:3])
    assert found["category_match"]["mapping"] == {"Angry": ["anger"], "joy": ["happiness"], "NEUTRAL": ["neutral"]}
    assert found["category_match"]["skipped"] == 8
    assert found["baselines"]["random"]["uar"] > 0.2
    pairs = [f"{name}:" for name in names[:2]]
    lacking = evaluate_workdir(folder, "renamed_corpus", ("test",), str(tmp_path), pairs)["test"]
    assert lacking["ccc"] == found["ccc"]
    assert "uar" not in lacking
    assert lacking["undefined"]["uar"] == "model and corpus share 1 categories, 2 are needed"
    RenamedCorpus(data_dir=str(tmp_path / "only"), sizes={"test": 9}, names=names, rated=False).download_and_prepare()
    with pytest.raises(ConfigError, match=r"shares 1 categories with .*--category_map=THEIRS:OURS"):
        evaluate_workdir(folder, "renamed_corpus", ("test",), str(tmp_path / "only"), pairs)


def test_categories_spelt_otherwise_give_the_same_targets(mini_data_dir, teachers, capsys):
    settings = dataclasses.replace(parse_experiment(tree(mini_data_dir).to_dict()).distillation, emotion_weight=1.0)
    teacher_config = TeacherConfig(str(teachers[0][0]), (), "", "float32")
    mesh = make_mesh(MeshConfig(-1, 1), jax.devices()[:1])
    corpus = open_corpus("mini_corpus", mini_data_dir)
    batch = BatchStream(
        corpus, "train", read_index(corpus, "train"), parse_experiment(tree(mini_data_dir).to_dict()).data, mesh,
        training=True,
    ).load(0)  # fmt: skip
    found = []
    for categories in (("anger", "happiness", "neutral"), ("angry", "Joy", "neutral")):
        teacher = load_teacher(teacher_config, settings, categories, mesh)
        found.append(jax.device_get(jax.jit(teacher)(teacher.arrays, batch)).emotion_probabilities)
    np.testing.assert_array_equal(found[0], found[1])
    assert "angry = anger, Joy = happiness" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="share 1 categories, at least 2 are needed"):
        load_teacher(teacher_config, settings, ("angry", "calm"), mesh)


def test_training_from_a_cache_equals_training_with_the_teachers_in_the_step(mini_data_dir, teachers, tmp_path):
    folders, cache = teachers
    online, cached = tree(mini_data_dir, **EVERYTHING), tree(mini_data_dir, **EVERYTHING)
    online.teacher.update(teacher_fields(folders))
    cached.teacher.cache = str(cache)
    first, second = train(online, tmp_path / "online"), train(cached, tmp_path / "cached")
    for name in ("train/loss", "train/gradient_norm", "train/teacher/emotion", "train/trust/valence"):
        # The divergence, about 0.01, sums differences of log-probabilities of order 1 and has their absolute rounding.
        np.testing.assert_allclose(first[0][name], second[0][name], rtol=1e-6, atol=3e-8, err_msg=name)
    np.testing.assert_allclose(
        [line["train/loss"] for line in first], [line["train/loss"] for line in second], rtol=1e-4
    )
    summary = evaluate_workdir(tmp_path / "cached")["test"]
    assert {"ccc", "uar"} <= set(summary)  # categories were learned from the teacher alone


def test_utterances_too_short_for_the_teacher_are_skipped_with_its_cache(
    mini_data_dir, teachers, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        patched.setattr("emojax.models.EmotionModel.min_samples", 20_000)
        cache = cache_of(teachers[0], mini_data_dir, "mini_corpus", tmp_path / "cache")
    config = tree(mini_data_dir, **EVERYTHING)
    config.teacher.cache = str(cache)
    capsys.readouterr()
    train(config, tmp_path / "run")
    assert "utterances of fewer than 20000 samples" in capsys.readouterr().out


def test_a_cache_of_a_corpus_whose_audio_was_replaced_is_refused(teachers, tmp_path):
    cache = teachers[1]
    mini_corpus.build(tmp_path, noise=True)
    config = tree(tmp_path, attribute_weight=1.0)
    config.teacher.cache = str(cache)
    with pytest.raises(CheckpointError, match=rf"{cache}/train: was computed from other audio .*; delete {cache} and"):
        train(config, tmp_path / "student")
    with pytest.raises(CheckpointError, match=rf"{cache}/train: was computed from other audio .*; delete {cache} and"):
        extract_store(parse_extraction(cache_config(teachers[0], tmp_path, "mini_corpus")), cache)


def test_a_cache_of_a_teacher_with_other_weights_of_the_same_config_is_refused(mini_data_dir, teachers, tmp_path):
    (folder, _), cache = teachers
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    members = load_ensemble(TeacherConfig(str(again), (), "", "float32"), one_device_mesh()).members
    before = fingerprint(members[0])
    assert before == json.loads((cache / "store.json").read_text())["source"]["teacher"][0]
    variables = jax.tree.map(lambda leaf: leaf + 0, members[0].variables)
    assert fingerprint(dataclasses.replace(members[0], variables=variables)) == before
    leaves, structure = jax.tree.flatten(variables)
    leaves[-1] = leaves[-1] + 1e-3
    assert fingerprint(dataclasses.replace(members[0], variables=jax.tree.unflatten(structure, leaves))) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": [{"name": "outputs", "dtype": "float32", "shape": [6]}]}, r"must have >= 10 values, got \(6,\)"),
        ({"arrays": [{"name": "states", "dtype": "float32", "shape": [21]}]}, "arrays must be 'outputs' alone"),
        ({"source": {"teacher_categories": 3}}, r"source\.teacher_categories must be a list"),
        ({"source": {"weights": ["1"]}}, r"source\.weights\[0\] must be a number"),
    ],
)
def test_a_cache_with_damaged_metadata_is_refused(mini_data_dir, teachers, tmp_path, change, message):
    shutil.copytree(teachers[1], tmp_path / "cache")
    stored = json.loads((tmp_path / "cache" / "store.json").read_text())
    del stored["sha256"]
    change = change | {"source": stored["source"] | change.get("source", {})}
    write_json(tmp_path / "cache" / "store.json", with_digest(stored | change))
    settings = parse_experiment(tree(mini_data_dir).to_dict()).distillation
    with pytest.raises(CheckpointError, match=message):
        load_teacher(TeacherConfig("", (), str(tmp_path / "cache"), "float32"), settings, (), one_device_mesh())


def test_in_micro_batches_the_gradient_is_the_same(mini_data_dir, teachers, tmp_path):
    whole, parts = tree(mini_data_dir, **EVERYTHING), tree(mini_data_dir, **EVERYTHING)
    for config in (whole, parts):
        config.teacher.workdir = str(teachers[0][0])
        config.training.epochs = 1
    parts.training.micro_batches = 2
    first, second = train(whole, tmp_path / "whole"), train(parts, tmp_path / "parts")
    np.testing.assert_allclose(first[0]["train/gradient_norm"], second[0]["train/gradient_norm"], rtol=1e-5)


def test_a_student_learns_without_labels(mini_data_dir, teachers, tmp_path):
    config = tree(mini_data_dir, label_weight=0.0, attribute_weight=1.0)
    config.teacher.cache = str(teachers[1])
    config.training.epochs = 8
    lines = train(config, tmp_path / "student")
    assert lines[-1]["train/teacher/activation"] < lines[0]["train/teacher/activation"]
    assert lines[0]["train/loss"] == pytest.approx(
        np.mean([lines[0][f"train/teacher/{name}"] for name in ("activation", "valence", "dominance")]), rel=1e-5
    )


def test_a_corpus_whose_training_split_has_no_label_at_all_is_learned_from_the_teacher(teachers, tmp_path):
    mini_corpus.build(tmp_path / "data", hidden=("train",))
    config = tree(tmp_path / "data", label_weight=0.0, attribute_weight=1.0, emotion_weight=0.5)
    config.teacher.workdir = str(teachers[0][0])
    lines = train(config, tmp_path / "student")
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    summary = evaluate_workdir(tmp_path / "student")["test"]
    assert np.isfinite(summary["ccc"]["activation"]["value"])
    assert np.isfinite(summary["uar"]["value"])
    config.distillation.label_weight = 1.0
    with pytest.raises(CorpusError, match="split 'train' has no label that the objective uses"):
        train(config, tmp_path / "labelled")


def test_unlabelled_utterances_have_losses_of_the_teacher_alone(mini_data_dir, teachers, tmp_path):
    config = tree(mini_data_dir, attribute_weight=1.0, condition="residual")
    config.corpus.update({"train_split": "train[:40%]", "validation_split": "dev", "test_splits": ("test",)})
    config.corpus.unlabelled_split = "train[40%:]"
    config.teacher.cache = str(teachers[1])
    lines = train(config, tmp_path / "student")
    assert lines[0]["train/labels/valence"] == 8
    config.corpus.unlabelled_split = "dev"
    with pytest.raises(ConfigError, match="must not be a validation or test split"):
        train(config, tmp_path / "cheat")


class OtherCorpus(mini_corpus.MiniCorpus):
    """Further utterances, which nobody has rated."""

    name = "other_corpus"


def test_unlabelled_utterances_of_another_corpus_have_a_cache_of_their_own(mini_data_dir, teachers, tmp_path):
    folders, cache = teachers
    for built in (mini_corpus.MiniCorpus(data_dir=str(tmp_path)), OtherCorpus(data_dir=str(tmp_path), rated=False)):
        built.download_and_prepare()
    config = tree(tmp_path, attribute_weight=1.0)
    config.corpus.update({"unlabelled_name": "other_corpus", "unlabelled_split": "train"})
    config.teacher.update(teacher_fields(folders))
    online = train(config, tmp_path / "online")
    assert online[0]["train/labels/activation"] == 8
    config.teacher.update({"workdir": "", "weights": (), "cache": str(cache)})
    with pytest.raises(CheckpointError, match=r"has nothing of other_corpus/1\.0\.0, only of mini_corpus/1\.0\.0"):
        train(config, tmp_path / "lacking")
    further = cache_of(folders, tmp_path, "other_corpus", tmp_path / "further")
    config.teacher.cache = f"{cache},{further}"
    cached = train(config, tmp_path / "cached")
    np.testing.assert_allclose(online[0]["train/loss"], cached[0]["train/loss"], rtol=1e-6)
    alone = cache_of(folders[:1], tmp_path, "other_corpus", tmp_path / "alone")
    config.teacher.cache = f"{cache},{alone}"
    with pytest.raises(CheckpointError, match="alone: was made with teacher"):
        train(config, tmp_path / "of_others")


def test_a_mixed_batch_holds_both_and_hides_labels(mini_data_dir):
    corpus = open_corpus("mini_corpus", mini_data_dir)
    config = parse_experiment(tree(mini_data_dir).to_dict()).data
    part = Unlabelled(corpus, "train[40%:]", read_index(corpus, "train[40%:]"), AUDIO, 8)
    labelled = read_index(corpus, "train[:40%]")
    mesh = make_mesh(MeshConfig(-1, 1), jax.local_devices())
    stream = BatchStream(corpus, "train[:40%]", labelled, config, mesh, training=True, seed=3, unlabelled=part)
    batches = [jax.device_get(batch) for batch in stream]
    rows = np.concatenate([batch.index for batch in batches])
    assert sorted(rows[rows >= 0]) == list(range(len(labelled)))
    for batch in batches:
        assert np.isnan(batch.attributes[8:]).all()
        assert (batch.emotion[8:] == -1).all()
        assert (batch.num_samples[batch.weight > 0] > 0).all()
        assert (batch.weight[8:] > 0).sum() >= 5
    with pytest.raises(ConfigError, match="unlabelled_share"):
        BatchStream(
            corpus, "train", read_index(corpus, "train"), config, mesh, training=True,
            unlabelled=dataclasses.replace(part, rows=3),
        )  # fmt: skip


def test_a_run_that_was_stopped_continues_bit_for_bit(mini_data_dir, teachers, tmp_path):
    config = tree(mini_data_dir, **EVERYTHING)
    config.teacher.workdir = str(teachers[0][0])
    config.corpus.validation_split = "dev"  # after every epoch a checkpoint is saved
    whole = train(config, tmp_path / "whole")
    from emojax.training import run

    real = run.train

    def stopped(state, step, *rest):
        calls = iter(range(9))

        def failing(state, batch):
            if next(calls) == 4:
                raise KeyboardInterrupt
            return step(state, batch)

        return real(state, failing, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "stopped")
    again = train(config, tmp_path / "stopped")
    assert [line["train/loss"] for line in again] == [line["train/loss"] for line in whole]


def test_units_of_residuals_are_quantiles_after_the_line():
    random = np.random.default_rng(0)
    labels = random.uniform(size=(500, 3))
    predicted = 0.5 * labels + 0.3 + random.normal(size=(500, 3)) * 0.01
    labels[:50, 2] = np.nan
    settings = parse_experiment(default.get_config().to_dict()).distillation
    line, tau, spread = residual_units(predicted, np.zeros((500, 3)), labels, settings)
    np.testing.assert_allclose(line[1], 2.0, rtol=0.05)
    np.testing.assert_allclose(tau, 0.02 * 0.6745, rtol=0.15)
    assert np.isinf(spread).all()
    _, raw, _ = residual_units(predicted, np.zeros((500, 3)), labels, dataclasses.replace(settings, debias=False))
    assert (raw > 5 * tau).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distillation": {"attribute_weight": 1.0}}, r"teacher\.workdir or teacher\.cache must"),
        ({"teacher": {"workdir": "somewhere"}}, r"distillation must have a weight > 0"),
        ({"teacher": {"workdir": "absent"}, "distillation": {"attribute_weight": 1.0}}, "absent"),
        ({"teacher": {"cache": "absent"}, "distillation": {"attribute_weight": 1.0}}, "is not a finished store"),
        ({"teacher": {"workdir": "a,b", "weights": (1.0,)}}, r"teacher\.weights"),
        ({"corpus": {"unlabelled_split": "train"}}, r"unlabelled_split must be empty without distillation"),
    ],
)
def test_wrong_configs_are_refused_before_any_work(mini_data_dir, tmp_path, change, message):
    config = tree(mini_data_dir)
    for group, fields in change.items():
        config[group].update(fields)
    with pytest.raises((ConfigError, CheckpointError, CorpusError), match=message):
        train_workdir(parse_experiment(config.to_dict()), tmp_path / "run")


def test_no_gradient_flows_into_the_teacher(mini_data_dir, teachers):
    corpus = open_corpus("mini_corpus", mini_data_dir)
    mesh = make_mesh(MeshConfig(-1, 1), jax.devices()[:1])
    config = parse_experiment(tree(mini_data_dir).to_dict())
    teacher_config = TeacherConfig(str(teachers[0][0]), (), "", "bfloat16")
    teacher = load_teacher(teacher_config, config.distillation, corpus.info.categories, mesh)
    index = read_index(corpus, "train")
    batch = BatchStream(corpus, "train", index, config.data, mesh, training=True).load(0)

    def total(arrays):
        return jnp.nansum(teacher(arrays, batch).attributes)

    slopes = jax.grad(total)(teacher.arrays)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(slopes.members))
    assert teacher.source.members[0].config.model.dtype == "bfloat16"
