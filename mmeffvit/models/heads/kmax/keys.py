"""The authors' names of kMaX-DeepLab's weights, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

#: what stands before the keys of the head in files of whole models
PREFIX = "sem_seg_head."

_PREDICTOR = {
    "_pixel_space_head_conv0bnact": "pixel_depthwise",
    "_pixel_space_head_conv1bnact": "pixel_conv",
    "_pixel_space_head_last_convbn": "pixel_embed",
    "_transformer_mask_head": "kernel",
    "_transformer_class_head.conv": "classes",
    "_pixel_space_mask_batch_norm": "mask_norm",
}
_LAYER = {
    "_query_conv1_bn_act": "query_conv",
    "_pixel_conv1_bn_act": "pixel_conv",
    "_pixel_v_conv_bn": "pixel_value",
    "_kmeans_query_batch_norm_retrieved_value": "kmeans_norm",
    "_kmeans_query_conv3_bn": "kmeans_proj",
    "_query_qkv_conv_bn": "attention.qkv",
    "_query_self_attention._batch_norm_similarity": "attention.logit_norm",
    "_query_self_attention._batch_norm_retrieved_value": "attention.out_norm",
    "_query_conv3_bn": "attention.proj",
    "_query_ffn_conv1_bn_act": "ffn.0",
    "_query_ffn_conv2_bn": "ffn.1",
    **{f"_predcitor.{old}": f"predictor.{new}" for old, new in _PREDICTOR.items()},  # as they write
}
_AXIS = {
    "qkv_transform.conv": "qkv",
    "_batch_norm_qkv": "qkv_norm",
    "_query_rpe._embeddings": "query_table",
    "_key_rpe._embeddings": "key_table",
    "_value_rpe._embeddings": "value_table",
    "_batch_norm_similarity": "logit_norm",
    "_batch_norm_retrieved_output": "out_norm",
}
_BLOCK = {
    "_shortcut": "shortcut",
    "_conv1_bn_act": "conv1",
    "_conv2_bn_act": "mix",
    "_conv3_bn": "conv3",
    **{
        f"_attention._{axis}_axis.{old}": f"mix.0.{axis}.{new}"
        for axis in ("height", "width")
        for old, new in _AXIS.items()
    },
}
_SEMANTIC = {
    **{f"_aspp._aspp_conv{i}": f"aspp.branches.{i}" for i in range(4)},
    "_aspp._aspp_pool": "aspp.pool",
    "_aspp._proj_conv_bn_act": "aspp.proj",
    **{f"_low_level_projection_os{s}": f"skips.{i}" for i, s in enumerate((8, 4))},
    **{
        f"_low_level_fusion_os{s}_conv{j}_bn_act": f"fusions.{i}.{j}"
        for i, s in enumerate((8, 4))
        for j in (0, 1)
    },
    **{f"conv_block_{j}": f"block.{j}" for j in (0, 1)},
    "final_conv.conv": "classes",
    # the light form
    **{str(j): f"block.{j}" for j in (0, 1)},
    "2.conv": "classes",
}
#: pattern of what stands before, ours, and the names that follow; one group is a number or two
_PARTS = (
    (r"pixel_decoder\._in_norms\.(\d+)", r"pixel_decoder.norms.\1", None),
    (
        r"pixel_decoder\._stages\.(\d+)\._blocks\.(\d+)",
        r"pixel_decoder.stages.\1.\2",
        _BLOCK,
    ),
    (
        r"pixel_decoder\._resized_fuses\.(\d+)",
        r"pixel_decoder.fuses.\1",
        {"_conv_bn_low": "low.1", "_conv_bn_high": "high.1"},
    ),
    (r"predictor\._kmax_transformer_layers\.(\d+)", r"decoder.layers.\1", _LAYER),
    (r"predictor\._predcitor", r"decoder.predictor", _PREDICTOR),
    (r"predictor\._auxiliary_semantic_predictor", r"semantic", _SEMANTIC),
    (
        r"predictor",
        r"decoder",
        {
            "_class_embedding_projection": "class_proj",
            "_mask_embedding_projection": "mask_proj",
        },
    ),
)


def convert_key(key: str) -> str | None:
    """Our name of an official key without `PREFIX`, or None for a name that is not known."""
    if key == "predictor._cluster_centers.weight":
        return "decoder.centres"
    for pattern, target, names in _PARTS:
        match = re.match(rf"{pattern}\.", key)
        if not match:
            continue
        ours, rest = match.expand(target), key[match.end() :]
        if names is None:
            return f"{ours}.{rest}"
        for old, new in names.items():
            if rest.startswith(f"{old}."):
                return f"{ours}.{new}{rest.removeprefix(old)}"
    return None


def convert_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an official kMaX-DeepLab under the names of `KMaX`.

    Args:
        weights: Of a whole model, whose head starts with ``sem_seg_head.``, or of a head.

    Returns:
        The weights of the head.

    Raises:
        ValueError: There is none, or a key of it is not known.
    """
    head = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    head = head or dict(weights)
    names = {key: convert_key(key) for key in head}
    unknown = [key for key, name in names.items() if name is None]
    if unknown or not head:
        raise ValueError(
            "these are not the weights of an official kMaX-DeepLab, whose head has keys such as "
            f"'{PREFIX}pixel_decoder._in_norms.0.weight'; not known: "
            f"{', '.join(unknown[:4]) or 'there are no weights'}"
        )
    return {names[key]: value for key, value in head.items()}
