"""GLIP and Grounding DINO call a name of tokenizers that transformers 5 no longer has."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from maintenance.swap_zoo.language import write_bert
from mmeffvit.compat import tokenizers


def test_a_language_model_reads_words(tmp_path):
    pytest.importorskip("mmdet")
    pytest.importorskip("transformers")
    write_bert(tmp_path, ("person", "dog"))
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build({"type": "BertModel", "name": str(tmp_path), "max_tokens": 8})
    called = model.tokenizer("person. dog.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        read = model(["person. dog.", "dog."])
    assert read["embedded"].shape == (2, 8, 768)
    assert torch.isfinite(read["embedded"]).all()
    assert read["masks"].sum(1).tolist() == [called.shape[1], called.shape[1] - 2]


class Auto:
    """What transformers has: with the name until 4, without it since 5."""

    other = "kept"

    def __init__(self, **names):
        self.names = names

    def from_pretrained(self, name, **kwargs):
        made = type("Tokenizer", (), {"__call__": lambda self, *args, **kwargs: (args, kwargs)})()
        vars(made).update(self.names)
        return made


def test_only_where_the_name_is_missing():
    module = SimpleNamespace(AutoTokenizer=Auto())
    tokenizers._name_call(module)
    once = module.AutoTokenizer
    tokenizers._name_call(module)
    assert module.AutoTokenizer is once
    assert once.other == "kept"
    made = once.from_pretrained("bert")
    assert made.batch_encode_plus(["a"], truncation=True) == ((["a"],), {"truncation": True})

    has_it = SimpleNamespace(AutoTokenizer=Auto(batch_encode_plus="its own"))
    tokenizers._name_call(has_it)
    assert has_it.AutoTokenizer.from_pretrained("bert").batch_encode_plus == "its own"


def test_nothing_without_transformers():
    module = SimpleNamespace(AutoTokenizer=None)
    tokenizers._name_call(module)
    assert module.AutoTokenizer is None
