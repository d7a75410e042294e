"""Keys of ConDaFormer's authors, of their code and of the released files."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.models.official import KeyRule


def _kernel_one(weight: Tensor) -> Tensor:
    """(out, 1, 1, 1, in) of a 1x1x1 convolution to (out, in) of a linear layer.

    spconv multiplies rows by the same memory seen as (in, out): not the transposed weight.
    """
    return weight.reshape(weight.shape[-1], weight.shape[0]).t().contiguous()


_BLOCK = r"block(\d+)\.(\d+)\."
_OURS = r"backbone.blocks.\1.\2."


def _local_structure(suffix: str, name: str) -> tuple[KeyRule, ...]:
    attn, target = rf"{_BLOCK}attn\.", rf"{_OURS}mixer.{name}."
    return (
        KeyRule(
            rf"{attn}conv_1{suffix}\.0\.weight",
            rf"{target}point.weight",
            shift=-1,
            transform=_kernel_one,
        ),
        *(
            KeyRule(rf"{attn}conv_{part}\.(\w+)", rf"{target}{ours}.\3", shift=-1)
            for part, ours in (
                (rf"1{suffix}\.1", "point_norm"),
                (rf"3{suffix}\.0", "depthwise"),
                (rf"3{suffix}\.1", "depthwise_norm"),
                (rf"3{suffix}\.3", "linear"),
                (rf"3{suffix}\.4", "linear_norm"),
            )
        ),
    )


#: of the whole segmentor
CONDAFORMER_RULES: tuple[KeyRule, ...] = (
    KeyRule(r"stem\.0\.weight", r"backbone.stem.conv.weight"),
    KeyRule(r"stem\.1\.(\w+)", r"backbone.stem.norm.\1"),
    KeyRule(r"stem\.3\.conv([12])\.weight", r"backbone.stem.conv\1.weight"),
    KeyRule(r"stem\.3\.bn([12])\.(\w+)", r"backbone.stem.norm\1.\2"),
    KeyRule(r"pool(\d+)\.(linear|norm)\.(\w+)", r"backbone.pools.\1.\2.\3", shift=-1),
    KeyRule(rf"{_BLOCK}norm([12])\.(\w+)", rf"{_OURS}norm\3.\4", shift=-1),
    KeyRule(rf"{_BLOCK}mlp\.(fc[12])\.(\w+)", rf"{_OURS}mlp.\3.\4", shift=-1),
    KeyRule(rf"{_BLOCK}attn\.(qkv|proj)\.(\w+)", rf"{_OURS}mixer.\3.\4", shift=-1),
    KeyRule(rf"{_BLOCK}attn\.([qkv]_table)", rf"{_OURS}mixer.\3", shift=-1),
    *(
        # names of the released files
        KeyRule(
            rf"{_BLOCK}attn\.relative_pos_{word}_table",
            rf"{_OURS}mixer.{word[0]}_table",
            shift=-1,
        )
        for word in ("query", "key", "value")
    ),
    *_local_structure("", "local_pre"),
    *_local_structure("_post", "local_post"),
    KeyRule(r"unpool(\d+)\.proj\.0\.(\w+)", r"backbone.unpools.\1.norm.\2", shift=-1),
    KeyRule(r"unpool(\d+)\.proj\.1\.(\w+)", r"backbone.unpools.\1.proj.\2", shift=-1),
    KeyRule(r"unpool(\d+)\.proj_skip\.0\.(\w+)", r"backbone.unpools.\1.skip_norm.\2", shift=-1),
    KeyRule(r"unpool(\d+)\.proj_skip\.1\.(\w+)", r"backbone.unpools.\1.skip_proj.\2", shift=-1),
    KeyRule(r"final\.0\.(\w+)", r"backbone.out_proj.linear.\1"),
    KeyRule(r"final\.1\.(\w+)", r"backbone.out_proj.norm.\1"),
    KeyRule(r"final\.3\.(\w+)", r"decode_head.conv_seg.\1"),
)
