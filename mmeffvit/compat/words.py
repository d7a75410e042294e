"""mmdet's detectors that are asked in words (GLIP, Grounding DINO) beside newer packages.

- transformers 5.0 removed ``tokenizer.batch_encode_plus``, which they call. Calling the tokenizer
  itself does the same, with the same arguments, in 4 and in 5.
- It also takes masks of pairs of tokens, (B, L, L), with an axis for heads only; in 4 its BERT
  added one.
- onedl-mmdetection (3.4 to 3.5.1) encodes boxes for DINO's decoder in twice as many channels as
  before, and builds Grounding DINO's decoder, which inherits that, for as many as before.
"""

from __future__ import annotations

import functools
from types import FunctionType, ModuleType
from typing import Any

from mmeffvit.compat.imports import when_imported


def repair_words() -> None:
    """Repair language models and Grounding DINO's decoder, now or once they are imported."""
    when_imported("mmdet.models.language_models.bert", _repair_transformers)
    when_imported("mmdet.models.layers.transformer.grounding_dino_layers", _encode_boxes_as_built)


def _repair_transformers(module: ModuleType) -> None:
    # both are None without transformers
    if module.AutoTokenizer is not None and not isinstance(module.AutoTokenizer, _Tokenizers):
        module.AutoTokenizer = _Tokenizers(module.AutoTokenizer)
    if module.HFBertModel is not None and not isinstance(module.HFBertModel, _Berts):
        module.HFBertModel = _Berts(module.HFBertModel)


class _Loader:
    """A class of transformers in one module alone, which changes what it loads."""

    def __init__(self, loader: Any):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        return self.changed(self._loader.from_pretrained(*args, **kwargs))

    def changed(self, loaded: Any) -> Any:
        raise NotImplementedError


class _Tokenizers(_Loader):
    def changed(self, loaded: Any) -> Any:
        if not hasattr(loaded, "batch_encode_plus"):
            loaded.batch_encode_plus = loaded.__call__
        return loaded


class _Berts(_Loader):
    def changed(self, loaded: Any) -> Any:
        loaded.register_forward_pre_hook(_add_axis_of_heads, with_kwargs=True)
        return loaded


def _add_axis_of_heads(bert: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 3:
        kwargs = {**kwargs, "attention_mask": mask[:, None]}
    return args, kwargs


def _encode_boxes_as_built(module: ModuleType) -> None:
    """Give Grounding DINO's decoder the width of encodings for which it is built."""
    decoder = module.GroundingDinoTransformerDecoder
    inherited = decoder.forward
    # names of keyword arguments are constants of the code
    names = {name for c in inherited.__code__.co_consts if isinstance(c, tuple) for name in c}
    if "forward" in vars(decoder) or "num_feats" not in names:
        return

    @functools.wraps(inherited)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        width = self.ref_point_head.layers[0].in_features // 4  # for each of x, y, w, h
        known = inherited.__globals__
        encode = known["coordinate_to_encoding"]

        def encode_as_built(points: Any, num_feats: int) -> Any:
            return encode(points, num_feats=width)

        own = FunctionType(
            inherited.__code__,
            {**known, "coordinate_to_encoding": encode_as_built},
            inherited.__name__,
            inherited.__defaults__,
            inherited.__closure__,
        )
        return own(self, *args, **kwargs)

    decoder.forward = forward
