"""The neck of DuoFormer against its golden file, and the formula region by region."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from mmeffvit import compat
from mmeffvit.checkpoint import CheckpointError, convert_official
from mmeffvit.models.necks import CrossScaleAttention
from mmeffvit.ops import region_attention
from mmeffvit.testing import check_golden

from .backbones.tiny import build_tiny

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "duoformer.npz"


def test_equals_the_authors_numbers():
    errors = check_golden(GOLDEN)
    assert {"out/logits", "out/scale_block1", "op/tokenise/index_stage2"} < {*errors}
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("masked", [False, True])
def test_implementations_agree(masked):
    torch.manual_seed(0)
    sides, sizes = (1, 2, 4), [(2, 3), (4, 6), (8, 12)]
    q, k, v = (
        [torch.randn(2, *s, 3, 4, dtype=torch.float64, requires_grad=True) for s in sizes]
        for _ in range(3)
    )
    valid = [torch.ones(s, dtype=torch.bool) for s in sizes]
    valid[2][7:], valid[1][:, 5:] = False, False
    results = []
    for implementation in ("fused", "reference"):
        outs = region_attention(
            q, k, v, sides, valid if masked else None, implementation=implementation
        )
        loss = sum((out * out.detach().sin()).sum() for out in outs)
        results.append([*outs, *torch.autograd.grad(loss, [*q, *k, *v])])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def norm(x, layer):
    """LayerNorm over the last axis, written out."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias


def linear(x, layer):
    return x @ layer.weight.flatten(1).T + layer.bias


def test_neck_region_by_region_on_odd_maps():
    """Maps of 5 x 7, 3 x 4 and 2 x 2: regions at the right and at the bottom lack tokens."""
    torch.manual_seed(0)
    neck = CrossScaleAttention((6, 5, 4), channels=8, num_heads=2, depth=2, mlp_ratio=2).double()
    for parameter in neck.parameters():
        nn.init.normal_(parameter, std=0.3)
    sizes = [(5, 7), (3, 4), (2, 2)]
    maps = [torch.randn(1, c, *s, dtype=torch.float64) for c, s in zip((6, 5, 4), sizes)]
    outs = neck(maps)
    assert [tuple(out.shape[1:]) for out in outs] == [(8, *size) for size in sizes]
    x = [F.conv2d(m, p.weight, p.bias)[0].permute(1, 2, 0) for m, p in zip(maps, neck.projections)]
    for row in range(2):
        for column in range(2):
            tokens, places = [neck.scale_token[0] + neck.table[0]], []
            entry = 1
            for level, side in ((2, 1), (1, 2), (0, 4)):
                for i in range(row * side, row * side + side):
                    for j in range(column * side, column * side + side):
                        if i < sizes[level][0] and j < sizes[level][1]:
                            tokens.append(x[level][i, j] + neck.table[entry])
                            places.append((level, i, j))
                        entry += 1
            t = torch.stack(tokens)
            for block in neck.blocks:
                heads = []
                for q, k, v in zip(
                    *(p.chunk(2, 1) for p in linear(norm(t, block.norm1), block.qkv).chunk(3, 1))
                ):
                    heads.append((q @ k.T / 2).softmax(-1) @ v)
                t = t + linear(torch.cat(heads, 1), block.proj)
                hidden = F.gelu(linear(norm(t, block.norm2), block.ffn.fc1))
                t = t + linear(hidden, block.ffn.fc2)
            for (level, i, j), expected in zip(places, t[1:], strict=True):
                torch.testing.assert_close(outs[level][0, :, i, j], expected)
    sum(out.sum() for out in outs).backward()
    assert [name for name, p in neck.named_parameters() if p.grad is None] == []


def published(scales=3, dim=8, hidden=16, depth=2, wrap="vision_transformer."):
    """Shapes of the authors' weights, by their names, with random values."""
    torch.manual_seed(0)
    tokens = 1 + sum(4**i for i in range(scales))
    shapes = {f"{wrap}pos_embed_for_scale": (1, 1, tokens, dim), "channel_token": (1, 1, 1, dim)}
    shapes |= {f"{wrap}{k}": (1, 1, dim) for k in ("cls_token", "fc_norm.weight")}
    shapes |= {f"{wrap}pos_embed": (1, 50, dim), f"{wrap}head.weight": (3, dim)}
    for i, width in enumerate((12, 10, 6)[:scales]):
        shapes[f"projection.proj_heads{i}.weight"] = (dim, width, 1, 1)
        shapes[f"projection.proj_heads{i}.bias"] = (dim,)
    for i in range(depth):
        block = f"{wrap}scaleBlocks.{i}."
        for layer, (rows, columns) in {
            "attn.qkv": (3 * dim, dim),
            "attn.proj": (dim, dim),
            "mlp.fc1": (hidden, dim),
            "mlp.fc2": (dim, hidden),
        }.items():
            shapes[f"{block}{layer}.weight"] = (rows, columns)
            shapes[f"{block}{layer}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}{name}.{kind}": (dim,) for kind in ("weight", "bias")}
        shapes[f"{wrap}blocks.{i}.attn.qkv.weight"] = (3 * dim, dim)
    shapes |= {"resnet_projector.0.weight": (4, 3, 7, 7), "resnet_projector.1.bias": (4,)}
    shapes["resnet_projector.4.0.conv1.weight"] = (4, 4, 1, 1)
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def test_converts_the_authors_weights(tmp_path, convert):
    theirs = published()
    conversion = convert_official({"state_dict": theirs}, "duoformer")
    neck = CrossScaleAttention.of_weights(conversion.state_dict, num_heads=2)
    # the finest map has the fewest channels; they store it last
    assert [p.in_channels for p in neck.projections] == [6, 10, 12]
    assert torch.equal(neck.projections[0].weight, theirs["projection.proj_heads2.weight"])
    assert len(neck.blocks) == 2
    table = theirs["vision_transformer.pos_embed_for_scale"][0, 0]
    assert torch.equal(neck.table[[2, 3, 4, 5, 6]], table[[2, 4, 3, 5, 6]])
    assert torch.equal(neck.scale_token[0], theirs["channel_token"].flatten())
    ours = conversion.state_dict
    assert {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight"} < ours.keys()
    assert "do not use" in conversion.ignored["vision_transformer.fc_norm.weight"]
    assert "classifier" in conversion.ignored["vision_transformer.blocks.0.attn.qkv.weight"]
    source = tmp_path / "theirs.pth"
    torch.save({"state_dict": theirs}, source)
    assert convert("duoformer", source, tmp_path / "ours.pth") == 0
    written = torch.load(tmp_path / "ours.pth", weights_only=True)["state_dict"]
    assert torch.equal(written["neck.0.table"], neck.table)


def test_weights_with_tokens_computed_from_maps_are_refused(tmp_path, capsys, convert):
    theirs = published()
    del theirs["channel_token"]
    state = convert_official(theirs, "duoformer").state_dict
    with pytest.raises(ValueError, match=r"learnt token per region[\s\S]*scale_token"):
        CrossScaleAttention.of_weights(state, 2)
    source = tmp_path / "theirs.pth"
    torch.save(theirs, source)
    assert convert("duoformer", source, tmp_path / "ours.pth") == 1
    assert "learnt token per region" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="chann_proj1"):
        convert_official({**theirs, "chann_proj1.conv1.weight": torch.ones(1)}, "duoformer")


@pytest.fixture
def convert(monkeypatch):
    """The command line."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    from convert_checkpoint import main

    return lambda *arguments: main([str(a) for a in arguments])


def pyramids():
    """Maps of ours, and of what upstream has: rounded up, rounded down, of five levels."""
    yield "rmt", lambda: build_tiny("rmt")
    yield "sret", lambda: build_tiny("sret")
    yield (
        "resnet",
        lambda: MODELS.build({"type": "mmdet.ResNet", "depth": 18, "base_channels": 8}),
    )
    yield (
        "swin",
        lambda: MODELS.build(
            {
                "type": "mmdet.SwinTransformer",
                "embed_dims": 8,
                "depths": [1] * 4,
                "num_heads": [1, 1, 2, 2],
            }
        ),
    )
    yield (
        "convnext",
        lambda: MODELS.build(
            {
                "type": "mmpretrain.ConvNeXt",
                "arch": {"depths": [1] * 4, "channels": [8, 8, 16, 16]},
                "out_indices": (0, 1, 2, 3),
                "gap_before_final_norm": False,
            }
        ),
    )


@pytest.mark.parametrize("start_level", [0, 1])
@pytest.mark.parametrize(("name", "make"), pyramids(), ids=[name for name, _ in pyramids()])
def test_any_pyramid(name, make, start_level):
    compat.setup()
    torch.manual_seed(0)
    backbone = make()
    image = torch.randn(1, 3, 75, 110)
    backbone.train(False)
    with torch.no_grad():
        maps = list(backbone(image))
    widths = [x.shape[1] for x in maps]
    neck = CrossScaleAttention(widths, 8, 2, mlp_ratio=1, start_level=start_level)
    outs = neck(maps)
    assert [x.shape[-2:] for x in outs] == [x.shape[-2:] for x in maps]
    assert [x.shape[1] for x in outs] == widths[:start_level] + [8] * (4 - start_level)
    assert all(a is b for a, b in zip(outs[:start_level], maps))
    # a change in one region changes all maps there, and nothing elsewhere
    changed = [x.clone() for x in maps]
    changed[-1][..., 0, 0] += 1
    for before, after, side in zip(outs[start_level:], neck(changed)[start_level:], neck.sides):
        moved = (before - after).abs().amax((0, 1)) > 1e-6
        assert moved[:side, :side].all()
        assert moved.sum() == side * side


def test_blocks_have_the_published_count():
    with torch.device("meta"):
        neck = CrossScaleAttention((512, 1024, 2048), 768, 12, depth=12)
    assert sum(p.numel() for p in neck.blocks.parameters()) == 85_054_464


def test_impossible():
    with pytest.raises(ValueError, match="two maps or more"):
        CrossScaleAttention((8,))
    with pytest.raises(ValueError, match="two maps or more"):
        CrossScaleAttention((8, 8), start_level=1)
    neck = CrossScaleAttention((4, 4), 8, 2)
    with pytest.raises(ValueError, match="made for 2 maps and got 1"):
        neck([torch.randn(1, 4, 4, 4)])
    with pytest.raises(ValueError, match="twice the sides of the next"):
        neck([torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)])
    x = [torch.randn(1, 4, 4, 1, 2), torch.randn(1, 3, 2, 1, 2)]
    with pytest.raises(ValueError, match="the same regions in all of them"):
        region_attention(x, x, x, (2, 1))
