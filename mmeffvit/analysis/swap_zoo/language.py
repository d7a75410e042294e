"""A language model that is on no disk: BERT of one layer with random weights.

Detectors that read text load BERT by its name, from the net. What is tried is the image's side.
"""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def random_bert(model: dict[str, Any]) -> Iterator[None]:
    """While inside, a model's config names a BERT that exists, if transformers is installed."""
    language = model.get("language_model")
    if language is None or importlib.util.find_spec("transformers") is None:
        yield
        return
    with TemporaryDirectory() as folder:
        _write(Path(folder))
        language["name"] = folder
        if isinstance(model.get("bbox_head"), dict) and "lang_model_name" in model["bbox_head"]:
            model["bbox_head"]["lang_model_name"] = folder
        yield


def _write(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = string.ascii_lowercase + string.digits
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    words += [f"##{letter}" for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), num_hidden_layers=1, intermediate_size=64, hidden_size=768
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
