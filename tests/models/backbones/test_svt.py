from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers import LayerNorm2d, MapContext, ScatterMixer
from mmeffvit.models import SVT
from mmeffvit.models.classifier import Classifier, create_classifier
from mmeffvit.ops import dual_tree_wavelet, inverse_dual_tree_wavelet
from mmeffvit.testing import golden_weights

from .checks import check_golden_file, drop_path_rates, randomised
from .tiny import ARCHS

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "svt.npz"
ARCH = ARCHS["svt"]

# the authors' counts: classifiers without and with the head of token labels
PUBLISHED = {
    "small-released": (21_603_592, 22_052_592),
    "base-released": (32_365_544, 32_878_544),
    "large-released": (54_081_000, 54_594_000),
    "small": (None, 22_257_392),
    "base": (None, 33_083_344),
    "large": (None, 54_833_616),
}


def test_equals_the_authors_numbers():
    expected = {f"out/stage{i}{raw}" for i in range(4) for raw in ("", "_raw")}
    expected |= {"out/logits", "out/logits_cls_only", "op/dtcwt/out_high", "op/idtcwt/out"}
    expected |= {"op/scatter_channel/out"}
    errors = check_golden_file(GOLDEN, "svt", expected | {"op/dtcwt/out_low"})
    assert "op/scatter_channel_token/out" in errors
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 5e-6


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_of_classifiers(variant):
    with torch.device("meta"):
        backbone = SVT(variant, **SVT.classifier_options)
        heads = [backbone.make_head(1000, token_labels=labels) for labels in (False, True)]
    body = sum(p.numel() for p in backbone.parameters())
    counts = [body + sum(p.numel() for p in head.parameters()) for head in heads]
    for count, published in zip(counts, PUBLISHED[variant]):
        assert published in (None, count)


@pytest.mark.parametrize(
    ("variant", "published"), [("small-released", 5.110), ("large-released", 15.72)]
)
def test_macs_of_classifiers(variant, published):
    """All products of matrices and convolutions, in 10^9, without the head of token labels."""
    with torch.device("meta"):
        backbone = SVT(variant, **SVT.classifier_options)
        model = Classifier(backbone, backbone.make_head(1000, token_labels=False))
    counted = count_complexity(model, (224, 224))
    norms = sum(part.get("norm", 0) for part in counted.macs.values())
    assert (counted.total_macs - norms) / 1e9 == pytest.approx(published, rel=1e-3)


def norm(x, layer):
    """LayerNorm over the last axis, written out."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def over_channels(function, x, *layers):
    """What acts on the last axis, on a map."""
    return function(x.permute(0, 2, 3, 1), *layers).permute(0, 3, 1, 2)


def linear(x, layer):
    return x @ layer.weight.flatten(1).T + layer.bias


def plain_scatter(x, mixer):
    """The mixer in complex numbers, on a map whose sides may be odd."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    low, bands = dual_tree_wavelet(x, implementation="reference")
    side = mixer.gate.size
    gate = mixer.gate.table.transpose(1, 2).unflatten(2, side)
    gate = F.interpolate(gate, x.shape[2:], mode="bicubic", align_corners=False)
    z = torch.view_as_complex(bands.contiguous())
    outs = []
    for group, part in enumerate(z.chunk(4, 1)):
        first, second = (
            (torch.complex(*w[:, group]), torch.complex(*b[:, group])[:, None, None, None])
            for w, b in ((mixer.weight1, mixer.bias1), (mixer.weight2, mixer.bias2))
        )
        u = torch.einsum("birxy,io->borxy", part, first[0]) + first[1]
        u = torch.complex(u.real.relu(), u.imag.relu())
        outs.append(torch.einsum("birxy,io->borxy", u, second[0]) + second[1])
    bands = torch.view_as_real(torch.cat(outs, 1))
    out = inverse_dual_tree_wavelet(low * gate, bands, implementation="reference")
    return out[..., :height, :width]


def plain_attention(x, mixer):
    size = x.shape[2:]
    tokens = x.flatten(2).transpose(1, 2)
    heads = []
    for q, k, v in zip(
        *(t.chunk(mixer.num_heads, -1) for t in linear(tokens, mixer.qkv).chunk(3, -1))
    ):
        heads.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
    return linear(torch.cat(heads, -1), mixer.proj).transpose(1, 2).unflatten(2, size)


def test_equals_the_formula_on_images_that_are_not_square():
    """Maps of 11 x 18, 6 x 9, 3 x 5 and 2 x 3."""
    network = randomised(SVT(ARCH))
    image = torch.randn(2, 3, 43, 70, dtype=torch.float64)
    outs = network(image)
    stem = network.stem
    x = image
    for i, stride in ((0, 2), (3, 1), (6, 1)):
        conv = stem.conv[i]
        assert conv.bias is None
        x = F.conv2d(x, conv.weight, None, stride, conv.kernel_size[0] // 2)
        x = F.relu(stem.conv[i + 1](x))
    x = F.conv2d(x, stem.proj.weight, stem.proj.bias, 2, 1)
    x = over_channels(norm, x, stem.norm)
    for index, stage in enumerate(network.stages):
        if index:
            step = stage.downsample
            x = F.conv2d(x, step.conv.weight, step.conv.bias, 2, 1)
            x = over_channels(norm, x, step.norm)
        (block,) = stage.blocks
        mix = plain_scatter if index < 2 else plain_attention
        x = x + mix(over_channels(norm, x, block.norm1), block.mixer)
        ffn, y = block.ffn, over_channels(norm, x, block.norm2)
        y = over_channels(linear, y, ffn.fc1)
        y = F.conv2d(y, ffn.dwconv.weight, ffn.dwconv.bias, padding=1, groups=y.shape[1])
        x = x + over_channels(linear, F.gelu(y), ffn.fc2)
        # the normed map is what the next stage reads
        x = over_channels(norm, x, stage.norm if index < 3 else network.out_norms["3"])
        torch.testing.assert_close(outs[index], x)


def test_norms_and_rates():
    with torch.device("meta"):
        network = create_backbone("svt-small", drop_path_rate=0.15)
    eps = {name: m.eps for name, m in network.named_modules() if isinstance(m, LayerNorm2d)}
    embeddings = {name for name, value in eps.items() if value == 1e-5}
    assert embeddings == {"stem.norm", *(f"stages.{i}.downsample.norm" for i in (1, 2, 3))}
    assert {eps[name] for name in eps.keys() - embeddings} == {1e-6}
    assert drop_path_rates(network) == pytest.approx([0.01 * i for i in range(16)])
    assert list(network.out_norms) == ["3"]
    assert [type(b.mixer).__name__ for s in network.stages for b in s.blocks] == [
        "ScatterMixer"
    ] * 7 + ["SoftmaxMixer"] * 9


def test_weights_of_the_authors_find_their_places():
    official = golden_weights(GOLDEN)
    conversion = convert_official(official, "svt")
    assert all("filter" in reason for reason in conversion.ignored.values())
    state = conversion.state_dict
    # the last norm belongs to the dense network and to the classifier
    assert torch.equal(state["backbone.out_norms.3.weight"], official["norm4.weight"])
    assert torch.equal(state["head.norm.weight"], official["norm4.weight"])
    # gains for other images are resized
    arch = {
        "stem_dim": 8,
        "embed_dims": (16, 32, 40, 48),
        "depths": (2, 1, 2, 1),
        "num_heads": (2, 4, 5, 6),
        "mlp_ratios": (4, 2, 2, 2),
        "gate_size": 20,
    }
    backbone = SVT({**ARCH, **arch})
    report = load_weights(backbone, state)
    gated = ("stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0")
    assert {*report.adapted} == {f"{block}.mixer.gate.table" for block in gated}


def test_variants_are_recognised():
    for variant in ("small", "large-released"):
        with torch.device("meta"):
            model = create_classifier(f"svt-{variant}")
        assert SVT.variant_of_weights(model.state_dict()) == variant


def test_impossible_channels():
    with pytest.raises(ValueError, match="embed_dims must be a multiple of 4, got 6"):
        ScatterMixer(6)


def test_gains_are_as_stored_at_their_own_size():
    mixer = ScatterMixer(8, gate_size=(6, 4))
    x = torch.randn(1, 8, 6, 4)
    expected = mixer(x, MapContext.of(x))
    with torch.no_grad():
        for parameter in (mixer.weight1, mixer.weight2, mixer.bias1, mixer.bias2):
            parameter.zero_()
    # without bands, the gated low-pass map is what comes back
    low, bands = dual_tree_wavelet(x)
    gate = mixer.gate.table[0].T.unflatten(1, (6, 4))
    back = inverse_dual_tree_wavelet(low * gate, torch.zeros_like(bands))
    torch.testing.assert_close(mixer(x, MapContext.of(x)), back)
    assert not torch.allclose(expected, back)
