from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models import CrossViT
from mmeffvit.models.classifier import Classifier, create_classifier
from mmeffvit.testing import golden_weights

from .checks import check_golden_file
from .tiny import ARCHS

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "crossvit.npz"

# the authors' counts, whole classifiers: parameters, and 10^9 multiply-accumulates
PUBLISHED = {
    "tiny": (7_014_800, 1.563),
    "small": (26_856_272, 5.616),
    "base": (105_025_232, 21.191),
    "9": (8_553_296, 1.841),
    "15": (27_528_464, 5.791),
    "18": (43_271_408, 9.031),
    "9-dagger": (8_776_592, 1.979),
    "15-dagger": (28_209_008, 6.112),
    "18-dagger": (44_266_976, 9.473),
    "15-dagger-408": (28_500_080, 21.399),
    "18-dagger-408": (44_606_560, 32.409),
}
# other numbers in every place where two could be mistaken for each other
ARCH = {
    "embed_dims": (12, 20),
    "depths": ((1, 3, 2), (2, 2, 0)),
    "num_heads": (3, 5),
    "mlp_ratios": (2, 3),
    "patch_sizes": (8, 12),
    "image_sizes": (40, 60),
    "conv_stem": False,
}


def randomised(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def test_equals_the_authors_numbers():
    expected = {"out/logits", "out/block1_branch0", "out/branch1", "out/cls0", "dagger/out/logits"}
    expected |= {"dagger/out/embed0", "dagger/out/branch0", "op/cross_attn_block/out"}
    errors = check_golden_file(GOLDEN, "crossvit", expected)
    # far below the family's tolerance, which would not notice another eps
    assert max(errors.values()) < 2e-5
    assert len(errors) == 21


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_of_classifiers(variant):
    with torch.device("meta"):
        model = create_classifier(f"crossvit-{variant}")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[variant][0]


@pytest.mark.parametrize("variant", ["base", "9-dagger", "18-dagger-408"])
def test_macs_of_classifiers(variant):
    with torch.device("meta"):
        model = create_classifier(f"crossvit-{variant}")
    side = model.backbone.arch["image_sizes"][0]
    counted = count_complexity(model, (side, side)).total_macs / 1e9
    assert counted == pytest.approx(PUBLISHED[variant][1], abs=5e-4)


def norm(x, layer):
    """LayerNorm over the last axis, written out."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias


def linear(x, layer):
    return x @ layer.weight.flatten(1).T + layer.bias


def attention(q, k, v, heads):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def encoder_block(x, block, heads):
    q, k, v = linear(norm(x, block.norm1), block.mixer.qkv).chunk(3, -1)
    x = x + linear(attention(q, k, v, heads), block.mixer.proj)
    hidden = F.gelu(linear(norm(x, block.norm2), block.ffn.fc1))
    return x + linear(hidden, block.ffn.fc2)


def exchange(own, others, module, heads):
    """Steps 2 to 4 of a multi-scale block, on (B, 1 + N, C)."""
    token = linear(F.gelu(norm(own[:, :1], module.there[0])), module.there[2])
    keys = torch.cat((token, others[:, 1:]), 1)
    for block in module.fusion:
        n = norm(keys, block.norm1)
        k, v = linear(n, block.attn.kv).chunk(2, -1)
        out = attention(linear(n[:, :1], block.attn.q), k, v, heads)
        # what a chain goes on with is the token alone
        keys = keys[:, :1] + linear(out, block.attn.proj)
    return linear(F.gelu(norm(keys, module.back[0])), module.back[2])


def plain_crossvit(network, images):
    """Tokens of both branches, from an image for each that is made of whole patches."""
    tokens = []
    for i, image in enumerate(images):
        embedding, patch = network.embeddings[str(i)], network.arch["patch_sizes"][i]
        rows, columns = (side // patch for side in image.shape[-2:])
        patches = image.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = linear(patches, embedding.patch_embed)
        table, side = embedding.position.table, network.arch["image_sizes"][i] // patch
        place = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        place = F.interpolate(place, (rows, columns), mode="bicubic").flatten(2).transpose(1, 2)
        token = (embedding.class_token.weight + table[0, :1]).expand(len(x), 1, -1)
        tokens.append(torch.cat((token, x + place), 1))
    heads = network.arch["num_heads"]
    for block in network.blocks:
        for i in range(2):
            for layer in block.encoders[str(i)]:
                tokens[i] = encoder_block(tokens[i], layer, heads[i])
        new = [
            exchange(tokens[i], tokens[1 - i], block.exchanges[str(i)], heads[1 - i])
            for i in range(2)
        ]
        tokens = [torch.cat((token, x[:, 1:]), 1) for token, x in zip(new, tokens)]
    return [norm(x, network.out_norms[str(i)]) for i, x in enumerate(tokens)]


@pytest.mark.parametrize("size", [(43, 70), (96, 48)])
def test_equals_the_formula_on_images_that_are_not_square(size):
    network = randomised(CrossViT(ARCH, out_type="class_token"))
    dense = CrossViT(ARCH).double().eval()
    dense.load_state_dict(network.state_dict(), strict=False)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    filled = [F.pad(x, (0, -size[1] % p, 0, -size[0] % p)) for p in ARCH["patch_sizes"]]
    expected = plain_crossvit(network, filled)
    for i, (actual, tokens) in enumerate(zip(network(x), expected, strict=True)):
        torch.testing.assert_close(actual[..., 0, 0], tokens[:, 0])
        map_ = dense(x)[i]
        torch.testing.assert_close(map_.flatten(2).transpose(1, 2), tokens[:, 1:])
        assert map_.shape[2:] == tuple(-(-side // ARCH["patch_sizes"][i]) for side in size)


def test_fixed_size_squashes_images():
    network = randomised(CrossViT(ARCH, mode="fixed_size", out_type="class_token"))
    for size in ((60, 60), (40, 64), (90, 50)):
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        squares = [F.interpolate(x, (s, s), mode="bicubic") for s in ARCH["image_sizes"]]
        for actual, tokens in zip(network(x), plain_crossvit(network, squares), strict=True):
            torch.testing.assert_close(actual[..., 0, 0], tokens[:, 0])


def parts(network):
    """Branches of the encoders and exchanges of each multi-scale block."""
    return [("".join(sorted(b.encoders)), "".join(sorted(b.exchanges))) for b in network.blocks]


@pytest.mark.parametrize(
    ("out_type", "out_indices", "expected"),
    [
        ("map", (0, 1), [("01", "01"), ("01", "01"), ("01", "")]),
        ("map", (0,), [("01", "01"), ("01", "0"), ("0", "")]),
        ("map", (1,), [("01", "01"), ("01", "1"), ("1", "")]),
        ("class_token", (1,), [("01", "01"), ("01", "01"), ("01", "1")]),
    ],
)
def test_what_is_built(out_type, out_indices, expected):
    options = {"out_type": out_type, "out_indices": out_indices}
    with torch.device("meta"):
        assert parts(create_backbone("crossvit-tiny", **options)) == expected


def test_branches_of_one_block_do_not_need_each_other():
    network = CrossViT({**ARCH, "depths": ((1, 2, 0),)}, out_indices=(1,))
    assert {name.split(".")[1] for name, _ in network.embeddings.named_parameters()} <= {
        *("patch_embed", "position", "class_token")
    }
    assert list(network.embeddings) == ["1"]
    with pytest.raises(ValueError, match=r"must be .*1 <= first <= second each; got"):
        CrossViT({**ARCH, "depths": ((2, 1, 0),)})
    with pytest.raises(ValueError, match="mode must be 'dense' or"):
        CrossViT(ARCH, mode="square")
    with pytest.raises(ValueError, match=r"patches of 12 and 16: \(8, 12\)"):
        CrossViT({**ARCH, "conv_stem": True})


def test_stochastic_depth():
    network = CrossViT(ARCH, out_type="class_token", drop_path_rate=0.6)
    # 3 + 2 and 2 + 0 entries; both branches share them, cross blocks have the last of their block
    rates = [
        [block.drop_path.drop_prob for block in e] for e in network.blocks[0].encoders.values()
    ]
    assert rates == [[0.0], pytest.approx([0.0, 0.1, 0.2])]
    fusion = network.blocks[0].exchanges["1"].fusion
    assert [block.drop_path.drop_prob for block in fusion] == pytest.approx([0.4, 0.4])
    rates = [
        [block.drop_path.drop_prob for block in e] for e in network.blocks[1].encoders.values()
    ]
    assert rates == [pytest.approx([0.5, 0.6])] * 2
    (cross,) = network.blocks[1].exchanges["0"].fusion
    assert cross.drop_path.drop_prob == pytest.approx(0.6)


def test_layers_end_together():
    depth = CrossViT(ARCH).get_layer_depth
    found = {
        name: depth(name)
        for name in (
            *("embeddings.1.patch_embed.bias", "blocks.0.encoders.0.0.norm1.bias"),
            *("blocks.0.encoders.1.0.norm1.bias", "blocks.0.exchanges.1.back.2.bias"),
            *("blocks.1.encoders.0.1.norm1.bias", "out_norms.0.bias"),
        )
    }
    assert list(found.values()) == [(0, 7), (3, 7), (1, 7), (3, 7), (5, 7), (6, 7)]


def test_chains_of_cross_blocks_are_converted():
    with torch.device("meta"):
        backbone = CrossViT(ARCH, **CrossViT.classifier_options)
    state = {}
    for key, value in golden_weights(GOLDEN).items():
        if key.startswith("blocks.0.fusion.0."):
            for number in range(2):
                part = key.removeprefix("blocks.0.fusion.0.")
                state[f"blocks.0.fusion.0.{number}.{part}"] = value
    converted = convert_official(state, "crossvit").state_dict
    own = {f"backbone.{key}" for key in backbone.state_dict()}
    prefix = "backbone.blocks.0.exchanges.0.fusion."
    assert set(converted) == {key for key in own if key.startswith(prefix)}
    key = f"{prefix}1.attn.kv.weight"
    expected = [state[f"blocks.0.fusion.0.1.attn.{name}.weight"] for name in ("wk", "wv")]
    assert torch.equal(converted[key][..., 0, 0], torch.cat(expected))


def test_dense_backbones_take_weights_of_classifiers():
    arch = {**ARCHS["crossvit"], "image_sizes": (84, 80)}
    whole = CrossViT(ARCHS["crossvit"], **CrossViT.classifier_options)
    classifier = Classifier(whole, whole.make_head(5))
    dense = CrossViT(arch)
    report = load_weights(dense, classifier.state_dict())
    assert not report.missing
    assert {key.split(".")[0] for key in report.ignored} == {"backbone", "head"}
    assert all(".exchanges." in key or key[:5] == "head." for key in report.ignored)
    # tables of another size are resized
    assert dense.embeddings["0"].position.table.shape == (1, 50, 16)


def test_initial_weights_and_norms():
    network = CrossViT("tiny", out_type="class_token")
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6, name
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert not module.bias.any(), name
    table = network.embeddings["0"].position.table
    assert table.std().item() == pytest.approx(0.02, rel=0.1)
