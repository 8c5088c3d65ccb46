"""Tiny random checkpoints of text encoders, made by transformers' PyTorch models, for the tests of the encoders."""

import pathlib

import numpy as np
import tokenizers
import torch
import transformers

WORDS = ("a", "b", "c", "d", "e", "f", "g", "h")
VOCABULARY = ("<s>", "<pad>", "</s>", "<unk>", *WORDS)
SIZES = {
    "vocab_size": 20,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 30,
    "type_vocab_size": 2,
}


def make_model(architecture: str, seed: int = 0, sizes=SIZES, **changes) -> torch.nn.Module:
    """A model in evaluation mode with no parameter at its default: biases and norms are perturbed too."""
    kind = getattr(transformers, architecture)
    torch.manual_seed(seed)
    model = kind(kind.config_class(**{**sizes, "pad_token_id": 1, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def write_tokenizer(folder: pathlib.Path) -> None:
    """A tokenizer of single letters with start and end tokens."""
    words = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


def write_checkpoint(folder: pathlib.Path, model: torch.nn.Module, **settings) -> pathlib.Path:
    """Saves a model the way transformers does, with a tokenizer."""
    model.save_pretrained(folder, **settings)
    write_tokenizer(folder)
    return folder


def torch_states(model: torch.nn.Module, tokens: np.ndarray) -> np.ndarray:
    """(layers + 1, L, D) of one sequence alone."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor(tokens[None].astype(np.int64)), output_hidden_states=True)
    return np.stack([states[0].numpy() for states in output.hidden_states])
