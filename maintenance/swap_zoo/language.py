"""A small BERT with random weights, where a detector of words wants one that is downloaded."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmeffvit.configs import convert

#: what configs of mmdet name
PUBLISHED = "bert-base-uncased"


def write_bert(folder: Path, words: Iterable[str] = ()) -> None:
    """Write a BERT of one layer, in the width of the published one, that spells unknown words.

    Args:
        folder: Gets the weights and the tokenizer.
        words: Words that are one token each.

    Raises:
        ImportError: transformers is not installed.
    """
    from transformers import BertConfig, BertModel, BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = dict.fromkeys([*special, *words, *letters, *(f"##{letter}" for letter in letters)])
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    config = BertConfig(vocab_size=len(tokens), num_hidden_layers=1, intermediate_size=64)
    BertModel(config).save_pretrained(folder)


def with_bert(model: Any, folder: Path) -> Any:
    """A copy of a model's config that reads the BERT in `folder`."""
    return convert(model, lambda value: str(folder) if value == PUBLISHED else value)
