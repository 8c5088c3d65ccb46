"""A corpus of a few short tones, written by TFDS in the project's schema: what the other tests run on."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from configs import default

SCALE = (1.0, 7.0)
CATEGORIES = ("anger", "happiness", "neutral")
SIZES = {"train": 37, "dev": 11, "test": 9}


class MiniCorpus(tfds.core.GeneratorBasedBuilder):
    """Tones whose pitch follows activation and whose loudness follows dominance; length 0.3 to 2.2 s."""

    VERSION = tfds.core.Version("1.0.0")
    name = "mini_corpus"

    def __init__(self, *, sizes=None, rated=True, categorised=True, hidden=(), noise=False, names=CATEGORIES, **kwargs):
        self.sizes, self.names = SIZES if sizes is None else sizes, names
        self.rated, self.categorised, self.hidden, self.noise = rated, categorised, hidden, noise
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        categories = self.names if self.categorised else ()
        features = {
            "id": tfds.features.Text(),
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES),
            "transcript": tfds.features.Text(),
            "attributes": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "attributes_std": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "emotion": tfds.features.Scalar(dtype=np.int64),
            "emotion_votes": tfds.features.Tensor(shape=(len(categories),), dtype=np.float32),
            "speaker": tfds.features.Text(),
            "gender": tfds.features.Text(),
            "duration": tfds.features.Scalar(dtype=np.float32),
        }
        metadata = {
            "scale": list(SCALE),
            "categories": list(categories),
            "speech": "synthesised",
            "attribute_source": "derived" if self.rated else "none",
            "licence": "CC0-1.0",
            "citation": "none",
            "split_assignment": {"train": "train", "validation": "dev", "test": ["test"]},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(metadata),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.sizes}

    def _generate_examples(self, split):
        for number in range(self.sizes[split]):
            example = make_example(split, number, self.rated, len(CATEGORIES) if self.categorised else 0)
            if self.noise:  # of the same length
                random = np.random.default_rng(number)
                example["audio"] = random.integers(-3000, 3000, len(example["audio"]), dtype=np.int16)
            unknown = {"attributes": np.full(3, np.nan, np.float32), "emotion": -1}
            yield number, example | (unknown if split in self.hidden else {})


def make_example(split: str, number: int, rated: bool, num_categories: int):
    rng = np.random.default_rng([len(split), number])
    activation, valence, dominance = rng.uniform(*SCALE, 3)
    num_samples = int(rng.integers(4_800, 35_200))
    pitch = 100 + 300 * (activation - 1) / 6
    tone = np.sin(2 * np.pi * pitch * np.arange(num_samples) / 16_000)
    level = 1_000 + 9_000 * (dominance - 1) / 6
    attributes = np.array([activation, valence, dominance], np.float32)
    if number % 7 == 3:
        attributes[1] = np.nan
    emotion = int(activation > 3) + int(activation > 5) if num_categories and number % 5 else -1
    return {
        "id": f"{split}_{number:03d}",
        "audio": (level * tone + rng.normal(0, 30, num_samples)).astype(np.int16),
        "transcript": "" if number % 6 == 0 else f"utterance number {number}",
        "attributes": attributes if rated else np.full(3, np.nan, np.float32),
        "attributes_std": np.full(3, np.nan, np.float32),
        "emotion": emotion,
        "emotion_votes": np.full(num_categories, np.nan, np.float32),
        "speaker": f"{split}-{number % 4}",
        "gender": "",
        "duration": num_samples / 16_000,
    }


def build(data_dir: Path, **options) -> Path:
    """Builds it under `data_dir` and returns its folder."""
    builder = MiniCorpus(data_dir=str(data_dir), **options)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def log_mel_config(data_dir):
    """Config tree of a small log-mel model of attributes and categories on this corpus, evaluated on `test`."""
    config = default.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir)})
    config.corpus.update({"validation_split": "dev", "test_splits": ("test",)})
    config.data.update({"batch_size": 8, "bucket_seconds": (1.0, 2.5), "workers": 0})
    config.model.log_mel.network.update({"gru_layers": 1, "gru_size": 8, "conv_channels": 8, "embedding_size": 8})
    config.objective.emotion_weight = 0.5
    config.training.epochs = 1
    config.evaluation.bootstrap_resamples = 20
    return config
