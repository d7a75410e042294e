"""Plain transformers of other libraries with the convolutional branch of ViT-CoMer."""

import copy

import pytest
import torch

from mmeffvit.models import LibraryBackbone, ViTCoMerAdapter

HF = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 2}
#: with class and register tokens, patches of 14 pixels, rotary positions
TRANSFORMERS = [
    ("timm/test_vit", {}),
    ("timm/vit_small_patch14_reg4_dinov2", SMALL),
    ("timm/vit_small_patch16_dinov3", SMALL),
    ("hf/dinov2", HF),
    ("hf/dinov3_vit", {**HF, "intermediate_size": 64}),
]


def build(name, options, **arguments):
    torch.manual_seed(0)
    return ViTCoMerAdapter(name, conv_channels=8, **options, **arguments)


@pytest.mark.parametrize(("name", "options"), TRANSFORMERS)
def test_keeps_the_contract(name, options):
    adapter = build(name, options).train()
    maps = adapter(torch.randn(2, 3, 66, 43))
    dim = adapter.out_channels[0]
    sizes = [(17, 11), (9, 6), (5, 3), (3, 2)]
    assert [tuple(x.shape) for x in maps] == [(2, dim, *size) for size in sizes]
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    without = [k for k, p in adapter.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    depths = {adapter.get_layer_depth(key)[0] for key, _ in adapter.named_parameters()}
    (count,) = {adapter.get_layer_depth(key)[1] for key, _ in adapter.named_parameters()}
    assert min(depths) == 0 < max(depths) < count


@pytest.mark.parametrize(("name", "options"), TRANSFORMERS)
def test_the_transformer_begins_as_it_was(name, options):
    """The gain of what is added to its patches is 0, so that its maps are those without it."""
    adapter = build(name, options).eval()
    depth = len(adapter.vit.stage_strides)
    alone = LibraryBackbone(
        name, out_indices=[last for _, last in adapter.spans], out_stride=16, out_norm=False,
        **options
    ).eval()  # fmt: skip
    alone.load_state_dict(adapter.vit.state_dict(), strict=False)
    assert [last for _, last in adapter.spans][-1] == depth - 1
    image = torch.randn(1, 3, 64, 96)
    added = []
    for interaction in adapter.interactions:
        interaction.after()[-1].register_forward_pre_hook(lambda _, args: added.append(args[1]))
    with torch.no_grad():
        expected = alone(image)
        adapter(image)
        for x, y in zip(added, expected, strict=True):
            torch.testing.assert_close(x, y)
        before = adapter(image)[2]
        adapter.interactions[0].cti_tov.scale.gamma.fill_(1.0)
        assert not torch.allclose(adapter(image)[2], before)


def test_frozen_transformers_are_gone_through_and_not_trained():
    adapter = build("timm/test_vit", {}, frozen=True).train()
    assert not any(module.training for module in adapter.vit.modules())
    sum(x.sum() for x in adapter(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is None for p in adapter.vit.parameters())
    # the way to the ViT learns although it ends in blocks that do not
    assert adapter.interactions[0].cti_tov.scale.gamma.grad.abs().sum() > 0
    assert adapter.spm.conv2[0].weight.grad.abs().sum() > 0


def test_nothing_is_left_between_two_images():
    adapter = build("timm/test_vit", {}).eval()
    images = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        first = adapter(images[0])
        adapter(images[1])
        for x, y in zip(adapter(images[0]), first):
            assert torch.equal(x, y)
        for x, y in zip(copy.deepcopy(adapter)(images[0]), first):
            assert torch.equal(x, y)
    assert not any(block._forward_pre_hooks for block in adapter.vit.blocks())


def test_fewer_outputs_and_interactions():
    adapter = build("timm/test_vit", {}, out_indices=(1, 3), num_interactions=2, out_norm=False)
    assert adapter.out_strides == (8, 32)
    assert adapter.spans == ((0, 2), (3, 5))
    assert [x.shape[-1] for x in adapter(torch.randn(1, 3, 64, 64))] == [8, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("timm/test_resnet", {}, "is for plain transformers"),
        ("timm/test_vit_relpos", {}, r"of images of \(160, 160\) alone"),
        ("timm/test_vit", {"out_indices": (3, 1)}, r"ascending maps out of 0\.\.3"),
        ("timm/test_vit", {"num_interactions": 7}, "a number from 1 to 6"),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        ViTCoMerAdapter(name, **arguments)
