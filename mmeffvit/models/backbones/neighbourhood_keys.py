"""Keys of NAT and DiNAT: those of their authors, and of the Hugging Face library."""

from __future__ import annotations

from mmeffvit.models.official import KeyRule


def neighbourhood_rules(stages: str) -> tuple[KeyRule, ...]:
    block = rf"{stages}\.(\d)\.blocks\.(\d+)\."
    ours = r"backbone.stages.\1.blocks.\2."
    return (
        KeyRule(r"patch_embed\.(.+)", r"backbone.stem.\1"),
        KeyRule(rf"{block}(norm\d)\.(\w+)", rf"{ours}\3.\4"),
        KeyRule(rf"{block}attn\.rpb", rf"{ours}mixer.core.rpb"),
        KeyRule(rf"{block}attn\.(\w+)\.weight", rf"{ours}mixer.\3.weight", ndim=4),
        KeyRule(rf"{block}attn\.(\w+)\.bias", rf"{ours}mixer.\3.bias"),
        KeyRule(rf"{block}mlp\.(\w+)\.weight", rf"{ours}ffn.\3.weight", ndim=4),
        KeyRule(rf"{block}mlp\.(\w+)\.bias", rf"{ours}ffn.\3.bias"),
        KeyRule(rf"{block}gamma(\d)", rf"{ours}layer_scale\3.gamma"),
        KeyRule(
            rf"{stages}\.(\d)\.downsample\.reduction\.weight",
            r"backbone.stages.\1.downsample.reduction.weight",
            ndim=4,
            shift=1,
        ),
        KeyRule(
            rf"{stages}\.(\d)\.downsample\.norm\.(\w+)",
            r"backbone.stages.\1.downsample.norm.\2",
            shift=1,
        ),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.out_norms.\1.\2"),
        KeyRule(r"norm\.(\w+)", r"head.norm.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )


_BLOCK = r"(?:nat|dinat)\.encoder\.levels\.(\d)\.layers\.(\d+)\."
_OURS = r"backbone.stages.\1.blocks.\2."
_MERGE = r"(?:nat|dinat)\.encoder\.levels\.(\d)\.downsample\."

#: of `transformers`, whose models have the authors' weights under other names
TRANSFORMERS_RULES: tuple[KeyRule, ...] = (
    KeyRule(
        r"(?:nat|dinat)\.embeddings\.patch_embeddings\.projection\.(\d)\.(\w+)",
        r"backbone.stem.proj.\1.\2",
    ),
    KeyRule(r"(?:nat|dinat)\.embeddings\.norm\.(\w+)", r"backbone.stem.norm.\1"),
    KeyRule(rf"{_BLOCK}layernorm_before\.(\w+)", rf"{_OURS}norm1.\3"),
    KeyRule(rf"{_BLOCK}layernorm_after\.(\w+)", rf"{_OURS}norm2.\3"),
    KeyRule(rf"{_BLOCK}attention\.self\.rpb", rf"{_OURS}mixer.core.rpb"),
    *(
        KeyRule(
            rf"{_BLOCK}attention\.self\.{name}\.{kind}",
            rf"{_OURS}mixer.qkv.{kind}",
            ndim=ndim,
            part=(index, 3),
        )
        for index, name in enumerate(("query", "key", "value"))
        for kind, ndim in (("weight", 4), ("bias", 1))
    ),
    *(
        KeyRule(rf"{_BLOCK}{theirs}\.dense\.{kind}", rf"{_OURS}{ours}.{kind}", ndim=ndim)
        for theirs, ours in (
            (r"attention\.output", "mixer.proj"),
            ("intermediate", "ffn.fc1"),
            ("output", "ffn.fc2"),
        )
        for kind, ndim in (("weight", 4), ("bias", 1))
    ),
    *(
        KeyRule(rf"{_BLOCK}layer_scale_parameters", f"{_OURS}layer_scale{row + 1}.gamma", row=row)
        for row in (0, 1)
    ),
    KeyRule(
        rf"{_MERGE}reduction\.weight",
        r"backbone.stages.\1.downsample.reduction.weight",
        ndim=4,
        shift=1,
    ),
    KeyRule(rf"{_MERGE}norm\.(\w+)", r"backbone.stages.\1.downsample.norm.\2", shift=1),
    KeyRule(r"(?:nat|dinat)\.layernorm\.(\w+)", r"head.norm.\1"),
    KeyRule(r"classifier\.(\w+)", r"head.fc.\1"),
)
