"""XLM-RoBERTa against transformers' PyTorch model, with its sentencepiece-like tokenizer."""

import numpy as np
import pytest
import transformers

from emojax.encoders import checkpoint_fingerprint, load_encoder
from emojax.encoders.families import family_of
from emojax.errors import CheckpointError
from tests import encoder_contract, text_checkpoints

PIECES = ("▁", "▁a", "a", "b", "▁be", "e", "é", "▁wort", "schatz", "▁中", "文", ".", "c")
VOCABULARY = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [
    (piece, -1.0 - 0.1 * index) for index, piece in enumerate(PIECES)
]
SIZES = {**text_checkpoints.SIZES, "type_vocab_size": 1}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = text_checkpoints.make_model("XLMRobertaModel", sizes=SIZES)
    folder = tmp_path_factory.mktemp("xlm_roberta")
    model.save_pretrained(folder)
    transformers.XLMRobertaTokenizer(vocab=[*VOCABULARY, ("<mask>", 0.0)]).save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("changes", [{}, {"pad_token_id": 3, "hidden_act": "gelu_new", "type_vocab_size": 2}])
def test_every_hidden_state_equals_pytorch(tmp_path, changes):
    model = text_checkpoints.make_model("XLMRobertaModel", seed=1, sizes=SIZES, **changes)
    folder = text_checkpoints.write_checkpoint(tmp_path, model)
    encoder_contract.assert_states_equal_pytorch(model, load_encoder(folder), atol=1e-5)


def test_gradients_equal_pytorch(pair):
    encoder_contract.assert_gradients_equal_pytorch(pair[0].base_model, load_encoder(pair[1]))


def test_texts_are_tokenized_as_by_auto_tokenizer(pair):
    model, folder = pair
    texts = ["a be wortschatz.", "", "中文 é", "Unknown  words\ttoo", "a " * 10]
    expected = transformers.AutoTokenizer.from_pretrained(folder)(texts).input_ids
    encoder = load_encoder(folder)
    assert [tokens.tolist() for tokens in encoder.inputs.prepare(texts)] == expected
    assert expected[1] == [0, 2]
    assert expected[0][1:3] == [VOCABULARY.index(("▁a", -1.1)), VOCABULARY.index(("▁be", -1.4))]
    for states, tokens in zip(encoder.encode(texts), expected, strict=True):
        output = encoder_contract.torch_output(model, np.array(tokens))
        np.testing.assert_allclose(states, output.last_hidden_state[0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_saved_encoder_is_read_back(pair, tmp_path, scan_layers):
    encoder_contract.assert_saved_encoder_is_read_back(*pair, tmp_path, scan_layers)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a be").input_ids == load_encoder(pair[1]).inputs.prepare("a be")[0].tolist()


def test_parameters_have_axes_and_are_frozen_by_path(pair):
    encoder_contract.assert_parameters_have_axes(pair[1])
    encoder_contract.assert_freezing_by_path(load_encoder(pair[1]), "embeddings")


@pytest.mark.parametrize("architecture", ["XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"])
def test_task_checkpoints_load_without_their_heads(tmp_path, architecture):
    task = text_checkpoints.make_model(architecture, sizes=SIZES)
    encoder = load_encoder(text_checkpoints.write_checkpoint(tmp_path, task))
    kernel = task.roberta.encoder.layer[1].intermediate.dense.weight.detach().numpy().T
    np.testing.assert_array_equal(encoder.params["layer_1"]["mlp_in"]["kernel"], kernel)


def test_the_sentencepiece_model_is_part_of_the_fingerprint(pair, tmp_path):
    for file in pair[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert checkpoint_fingerprint(tmp_path) == checkpoint_fingerprint(pair[1])
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"pieces")
    assert checkpoint_fingerprint(tmp_path) != checkpoint_fingerprint(pair[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_position_embeddings": 2}, "max_position_embeddings must be > 2, got 2"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
        ({"is_decoder": True}, "is_decoder must be False, got True"),
        ({"num_attention_heads": 5}, r"num_attention_heads must divide hidden_size \(32\), got 5"),
    ],
)
def test_unsupported_configuration_is_named(changes, message):
    with pytest.raises(CheckpointError, match=message):
        family_of({"model_type": "xlm-roberta", **SIZES, **changes})
