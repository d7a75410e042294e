"""Keys of FlatFormer's authors."""

from __future__ import annotations

from mmeffvit.models.official import KeyRule

_LAYER = r"(?:middle_encoder\.)?block_list\.(\d+)\.block\.(\d+)\."
_OURS = r"middle_encoder.blocks.\1.\2."
#: batch norms and convolutions without a bias
_KIND = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

#: of the whole detector
FLATFORMER_RULES: tuple[KeyRule, ...] = (
    KeyRule(rf"{_LAYER}attn\.attn\.in_proj_(weight|bias)", rf"{_OURS}attn.qkv.\3"),
    KeyRule(rf"{_LAYER}attn\.attn\.out_proj\.(weight|bias)", rf"{_OURS}attn.proj.\3"),
    KeyRule(rf"{_LAYER}(fc[12]|norm[12])\.(weight|bias)", rf"{_OURS}\3.\4"),
    # the other parts of the authors' detector have the same names here
    KeyRule(
        rf"voxel_encoder\.vfe_layers\.(\d+)\.(linear|norm)\.{_KIND}",
        r"voxel_encoder.vfe_layers.\1.\2.\3",
    ),
    KeyRule(rf"backbone\.blocks\.(\d+)\.(\d+)\.([01])\.{_KIND}", r"backbone.blocks.\1.\2.\3.\4"),
    KeyRule(rf"neck\.deblocks\.(\d+)\.([01])\.{_KIND}", r"neck.deblocks.\1.\2.\3"),
    KeyRule(rf"bbox_head\.shared_conv\.(conv|bn)\.{_KIND}", r"bbox_head.shared_conv.\1.\2"),
    KeyRule(
        rf"bbox_head\.task_heads\.0\.(\w+)\.0\.(conv|bn)\.{_KIND}",
        r"bbox_head.branches.\1.0.\2.\3",
    ),
    KeyRule(r"bbox_head\.task_heads\.0\.(\w+)\.1\.(weight|bias)", r"bbox_head.branches.\1.1.\2"),
)
