"""mmdet's detectors that are asked in words, beside transformers 5, which lacks a name they call.

GLIP and Grounding DINO call ``tokenizer.batch_encode_plus``. transformers 5.0 removed it; calling
the tokenizer itself does the same, with the same arguments, in 4 and in 5.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mmeffvit.compat.imports import when_imported


def repair_tokenizers() -> None:
    """Let the tokenizers of mmdet's language models have the name, now or once they are made."""
    when_imported("mmdet.models.language_models.bert", _name_call)


def _name_call(module: ModuleType) -> None:
    # None without transformers
    if module.AutoTokenizer is not None and not isinstance(module.AutoTokenizer, _Tokenizers):
        module.AutoTokenizer = _Tokenizers(module.AutoTokenizer)


class _Tokenizers:
    """``AutoTokenizer`` in that module alone, whose tokenizers have the old name as well."""

    def __init__(self, auto: Any):
        self._auto = auto

    def __getattr__(self, name: str) -> Any:
        return getattr(self._auto, name)

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        tokenizer = self._auto.from_pretrained(*args, **kwargs)
        if not hasattr(tokenizer, "batch_encode_plus"):
            tokenizer.batch_encode_plus = tokenizer.__call__
        return tokenizer
