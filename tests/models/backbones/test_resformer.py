import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.layers import LayerNorm2d, MapContext, SharedLePEMixer
from mmeffvit.layers.sine_position import sine_code, sine_map
from mmeffvit.models import ResFormer
from mmeffvit.models.classifier import create_classifier

from .checks import check_golden_file

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "resformer.npz"

# the authors' counts, whole classifiers: parameters, and 10^9 multiply-accumulates
PUBLISHED = {
    "tiny": (5_689_192, 1.258),
    "small": (21_986_536, 4.608),
    "base": (86_431_720, 17.581),
}
ARCH = {
    "embed_dims": 12,
    "depth": 2,
    "num_heads": 3,
    "mlp_ratio": 2,
    "patch_size": 16,
    "extra_tokens": 1,
}


def randomised(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def test_equals_the_authors_numbers():
    expected = {"out/logits", "out/stage0", "size90/out/block1_tokens", "op/attn/out"}
    errors = check_golden_file(GOLDEN, "resformer", {*expected, "op/global_pos/out"})
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 1e-5
    assert len(errors) == 14


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_and_macs_of_classifiers(variant):
    with torch.device("meta"):
        model = create_classifier(f"resformer-{variant}")
    parameters, macs = PUBLISHED[variant]
    assert sum(p.numel() for p in model.parameters()) == parameters
    counted = count_complexity(model, (224, 224)).total_macs / 1e9
    assert counted == pytest.approx(macs, abs=5e-4)


def test_sines_by_hand():
    code = sine_code(3, 5, torch.device("cpu")).double()
    for t in range(3):
        place = 2 * math.pi * (t + 1) / (3 + 1e-6)
        for i in range(5):
            angle = place / 10000 ** (2 * (i // 2) / 5)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert code[t, i].item() == pytest.approx(expected, abs=1e-6), (t, i)
    table = sine_map(2, 3, 10, torch.device("cpu"))
    rows, columns = sine_code(2, 5, table.device), sine_code(3, 5, table.device)
    for y in range(2):
        for x in range(3):
            torch.testing.assert_close(table[0, :, y, x], torch.cat((rows[y], columns[x])))
    with pytest.raises(ValueError, match="dim must be even, got 9"):
        ResFormer({**ARCH, "embed_dims": 9})


def norm(x, layer):
    """LayerNorm over the last axis, written out."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias


def linear(x, layer):
    return x @ layer.weight.flatten(1).T + layer.bias


def plain_attention(x, mixer, size):
    """(B, E + N, C): every head by itself, with the E tokens in front of the map's."""
    extra = x.shape[1] - math.prod(size)
    q, k, v = (t.chunk(mixer.num_heads, -1) for t in linear(x, mixer.qkv).chunk(3, -1))
    heads = []
    for a, b, c in zip(q, k, v):
        out = (a @ b.transpose(1, 2) / a.shape[-1] ** 0.5).softmax(-1) @ c
        local = c[:, extra:].transpose(1, 2).unflatten(2, size)
        weight, bias = mixer.lepe.weight, mixer.lepe.bias
        local = F.conv2d(local, weight, bias, padding=weight.shape[-1] // 2, groups=c.shape[-1])
        heads.append(out + F.pad(local.flatten(2).transpose(1, 2), (0, 0, extra, 0)))
    return linear(torch.cat(heads, -1), mixer.proj)


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("size", [(43, 90), (80, 48)])
def test_equals_the_formula_on_images_that_are_not_square(size, extra):
    network = randomised(ResFormer({**ARCH, "extra_tokens": extra}))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    grid = tuple(-(-side // 16) for side in size)
    filled = F.pad(x, (0, -size[1] % 16, 0, -size[0] % 16))
    tokens = F.conv2d(filled, network.patch_embed.weight, network.patch_embed.bias, stride=16)
    conv = network.position.conv
    place = sine_map(*grid, 12, x.device).double()
    tokens = tokens + F.conv2d(place, conv.weight, conv.bias, padding=1, groups=12)
    tokens = tokens.flatten(2).transpose(1, 2)
    if extra:
        token = network.extra_tokens.weight.expand(2, 1, -1)
        tokens = torch.cat((token, tokens), 1)
    for block in network.blocks:
        tokens = tokens + plain_attention(norm(tokens, block.norm1), block.mixer, grid)
        hidden = F.gelu(linear(norm(tokens, block.norm2), block.ffn.fc1))
        tokens = tokens + linear(hidden, block.ffn.fc2)
    (out,) = network(x)
    expected = norm(tokens[:, extra:], network.out_norms["1"])
    torch.testing.assert_close(out.flatten(2).transpose(1, 2), expected)
    assert out.shape[2:] == grid


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_mixer_in_a_pyramid(implementation):
    mixer = randomised(SharedLePEMixer(12, 3, kernel_size=5, implementation=implementation))
    x = torch.randn(2, 12, 4, 7, dtype=torch.float64)
    out = mixer(x, MapContext.of(x)).flatten(2).transpose(1, 2)
    expected = plain_attention(x.flatten(2).transpose(1, 2), mixer, (4, 7))
    torch.testing.assert_close(out, expected)


def test_initial_weights_and_norms():
    network = ResFormer(ARCH, drop_path_rate=0.2)
    for block in network.blocks:
        assert not block.mixer.lepe.weight.any()
        assert not block.mixer.lepe.bias.any()
    assert network.position.conv.weight.any()
    norms = [module for module in network.modules() if isinstance(module, LayerNorm2d)]
    assert [module.eps for module in norms] == [1e-6] * 5
    assert [block.drop_path.drop_prob for block in network.blocks] == [0.0, 0.2]
