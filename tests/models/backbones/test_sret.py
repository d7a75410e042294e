from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official
from mmeffvit.layers import GroupMixer, LayerNorm2d, MapContext
from mmeffvit.layers.mixers.grouped import scattered
from mmeffvit.models import SReT
from mmeffvit.models.classifier import create_classifier
from mmeffvit.testing import golden_weights

from .checks import check_golden_file, randomised
from .tiny import ARCHS

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "sret.npz"
ARCH = ARCHS["sret"]

# the authors' counts, whole classifiers: parameters, and 10^9 MACs un-sliced and sliced
PUBLISHED = {
    "tiny": (4_755_979, 1.366, 1.112),
    "lt": (4_988_024, None, 1.164),
    "small": (20_899_692, 4.671, 4.173),
}


def test_equals_the_authors_numbers():
    expected = {f"{kind}out/stage{i}" for kind in ("", "wo_slice/") for i in range(3)}
    expected |= {"out/logits", "op/group_attn/out_groups1", "op/group_attn/out_groups2_permuted"}
    errors = check_golden_file(GOLDEN, "sret", expected)
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_and_macs_of_classifiers(variant):
    parameters, *macs = PUBLISHED[variant]
    for sliced, published in zip((False, True), macs):
        with torch.device("meta"):
            model = create_classifier(f"sret-{variant}", sliced=sliced)
            if sliced:  # stage 0 is no part of the authors' network
                assert sum(p.numel() for p in model.parameters()) == parameters
        if published and variant != "small":
            counted = count_complexity(model, (224, 224)).total_macs / 1e9
            assert counted == pytest.approx(published, abs=1e-3)


def test_positions_of_larger_images():
    arch = {**SReT.arch_zoo["tiny"], "image_size": 384}
    with torch.device("meta"):
        network = SReT(arch, out_norm=False)
        head = network.make_head(1000)
    count = sum(p.numel() for module in (network, head) for p in module.parameters())
    assert count == 4_853_259


def norm(x, layer):
    """LayerNorm over the last axis, written out."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias


def linear(x, layer):
    return x @ layer.weight.flatten(1).T + layer.bias


def plain_unit(x, unit, sizes):
    """(B, L, C) through both passes; groups of tokens of these sizes, shuffled in the second."""
    block = unit.block
    a = block.gains
    for index, nll in enumerate(unit.projections):
        tokens = x.shape[1]
        order = torch.arange(tokens)
        if index and len(sizes[index]) > 1:
            order = scattered(tokens, x.device)
        heads = []
        qkv = linear(norm(x, block.norm1), block.mixer.qkv)
        for q, k, v in zip(*(t.chunk(block.mixer.num_heads, -1) for t in qkv.chunk(3, -1))):
            out = torch.zeros_like(v)
            for group in order.split(sizes[index]):
                weights = (q[:, group] @ k[:, group].transpose(1, 2) / q.shape[-1] ** 0.5).softmax(
                    -1
                )
                out[:, group] = weights @ v[:, group]
            heads.append(out)
        x = a[0] * x + a[1] * linear(torch.cat(heads, -1), block.mixer.proj)
        hidden = F.gelu(linear(norm(x, block.norm2), block.ffn.fc1))
        x = a[2] * x + a[3] * linear(hidden, block.ffn.fc2)
        hidden = F.gelu(linear(norm(x, nll.norm2), nll.ffn.fc1))
        x = nll.gains[0] * x + nll.gains[1] * linear(hidden, nll.ffn.fc2)
    return x


@pytest.mark.parametrize("sliced", [True, False])
def test_equals_the_formula_on_images_that_are_not_square(sliced):
    network = randomised(SReT(ARCH, sliced=sliced, out_norm=False))
    image = torch.randn(2, 3, 43, 70, dtype=torch.float64)
    x = network.stem(image)
    outs = network(image)
    torch.testing.assert_close(outs[0], x)
    step = network.stages[1].downsample
    table = step.position.table.transpose(1, 2).unflatten(2, (5, 5))
    x = F.relu(step.bn3(F.conv2d(x, step.conv3.weight, step.conv3.bias, 2, 1)))
    x = x + F.interpolate(table, x.shape[2:], mode="bicubic")
    # 6 x 9, 3 x 5 and 2 x 3 tokens; the first groups are larger by one
    groups = [((14, 14, 13, 13), (27, 27)), ((8, 7), (15,)), ((6,), (6,))]
    for stage in range(1, 4):
        if stage > 1:
            conv = network.stages[stage].downsample.conv
            assert conv.groups == x.shape[1]
            x = F.conv2d(x, conv.weight, conv.bias, 2, 1, groups=x.shape[1])
        size = x.shape[2:]
        sizes = groups[stage - 1] if sliced else ((size.numel(),),) * 2
        (unit,) = network.stages[stage].blocks
        tokens = plain_unit(x.flatten(2).transpose(1, 2), unit, sizes)
        x = tokens.transpose(1, 2).unflatten(2, size)
        torch.testing.assert_close(outs[stage], x)


def test_orders():
    x = torch.randn(1, 8, 5, 7)
    mixer = GroupMixer(8, 2, (4, 2, 1))
    context = MapContext.of(x)
    assert mixer.positions(context)[1] is None
    groups, order = mixer.positions(context, 1)
    assert groups == 2
    assert sorted(order.tolist()) == list(range(35))
    assert mixer.positions(context, 2) == mixer.positions(context, 9) == (1, None)
    # drawn anew while training, always the same afterwards
    assert not torch.equal(order, mixer.positions(context, 1)[1])
    mixer.eval()
    fixed = mixer.positions(MapContext.of(x), 1)[1]
    assert torch.equal(fixed, mixer.positions(context, 1)[1])
    assert sorted(fixed.tolist()) == list(range(35))
    # groups are from everywhere: each has tokens of every row
    assert {place // 7 for place in fixed[:17].tolist()} == set(range(5))
    banded = GroupMixer(8, 2, (4, 2), order="identity")
    assert banded.positions(context, 1) == (2, None)
    with pytest.raises(ValueError, match="order of shuffled, identity, got 4 and 'random'"):
        GroupMixer(8, 2, 4, order="random")


def test_blocks_are_shared_and_have_their_rates():
    with torch.device("meta"):
        network = create_backbone("sret-tiny", drop_path_rate=0.2)
    units = [unit for stage in network.stages for unit in stage.blocks]
    assert [len(stage.blocks) for stage in network.stages] == [0, 2, 5, 3]
    assert {len(unit.projections) for unit in units} == {2}
    rates = [unit.block.drop_path.drop_prob for unit in units]
    assert rates == pytest.approx([0.01 * b for b in (0, 1, 4, 5, 6, 7, 8, 14, 15, 16)])
    assert not any(p.drop_path.drop_prob for unit in units for p in unit.projections)
    # int(3.6 * 64)
    assert units[0].block.ffn.fc1.out_channels == 230
    norms = {m.eps for m in network.modules() if isinstance(m, LayerNorm2d)}
    assert norms == {1e-6}
    assert all(unit.block.gains.shape == (4,) for unit in units)


def test_copies_of_shared_blocks_must_be_equal():
    official = golden_weights(GOLDEN)
    second = "transformers.0.blocks.2.attn.qkv.weight"
    first = second.replace("blocks.2", "blocks.0")
    assert torch.equal(official[first], official[second])
    assert "second use" in convert_official(official, "sret").ignored[second]
    changed = {**official, second: official[second] * (1 + 1e-6)}
    with pytest.raises(CheckpointError, match=f"'{second}' differs from '{first}'"):
        convert_official(changed, "sret")
    with pytest.raises(CheckpointError, match=f"'{second}' is there without '{first}'"):
        convert_official({k: v for k, v in official.items() if k != first}, "sret")
