"""mmpretrain's plain ViTs as dense backbones: upstream's numbers where it has them, any size."""

from functools import partial

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models.backbones import TNT, T2T_ViT
from mmpretrain.models.utils.attention import scaled_dot_product_attention_pyimpl

from mmeffvit.classification.backbones import DenseT2T, DenseTNT, layers_from_start

T2T_OPTIONS = {
    "img_size": 64,
    "embed_dims": 24,
    "num_layers": 3,
    "t2t_cfg": {"token_dims": 8},
    "layer_cfgs": {"num_heads": 3, "feedforward_channels": 24},
}
TNT_OPTIONS = {
    "arch": {
        "embed_dims_outer": 24,
        "embed_dims_inner": 8,
        "num_layers": 3,
        "num_heads_inner": 2,
        "num_heads_outer": 3,
    },
    "img_size": 64,
}
CLASSES = {DenseT2T: (T2T_ViT, T2T_OPTIONS), DenseTNT: (TNT, TNT_OPTIONS)}


def drawn(network):
    torch.manual_seed(0)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    network.eval()
    return network


def build(cls, **kwargs):
    return drawn(cls(**CLASSES[cls][1], **kwargs))


@pytest.mark.parametrize("size", [(64, 64), (72, 103)])
def test_t2t_equals_mmpretrain_but_for_the_scale(size):
    upstream = drawn(T2T_ViT(**T2T_OPTIONS, out_type="featmap", out_indices=[0, 2]))
    layers = (upstream.tokens_to_token.attention1, upstream.tokens_to_token.attention2)
    for layer, channels in zip((*layers, *upstream.encoder), (147, 72, 8, 8, 8)):
        # mmpretrain divides by what it calls scale: the authors' sqrt(channels of a head's input)
        layer.attn.scaled_dot_product_attention = partial(
            scaled_dot_product_attention_pyimpl, scale=channels**0.5
        )
    ours = build(DenseT2T, out_indices=(0, -1))
    ours.load_state_dict(upstream.state_dict())
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        for actual, expected in zip(ours(image), upstream(image), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_t2t_takes_a_scale_of_the_config():
    layers = {**T2T_OPTIONS["layer_cfgs"], "qk_scale": 0.3}
    network = DenseT2T(**{**T2T_OPTIONS, "layer_cfgs": layers})
    split = network.tokens_to_token
    scales = [
        layer.attn.scaled_dot_product_attention.keywords["scale"]
        for layer in (split.attention1, split.attention2, *network.encoder)
    ]
    assert scales == pytest.approx([147**-0.5, 72**-0.5, 0.3, 0.3, 0.3])


def test_tnt_equals_mmpretrain():
    """mmpretrain returns the class token alone: it is compared in front of our last norm."""
    upstream = drawn(TNT(**TNT_OPTIONS))
    ours = build(DenseTNT)
    ours.load_state_dict(upstream.state_dict())
    tokens = {}
    for name, network in (("ours", ours), ("theirs", upstream)):
        network.layers[-1].register_forward_hook(
            lambda module, args, out, name=name: tokens.update({name: out[1]})
        )
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (actual,) = ours(image)
        upstream(image)
        expected = upstream.norm(tokens["theirs"])[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(tokens["ours"], tokens["theirs"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cls", CLASSES)
def test_any_size_and_every_parameter(cls):
    network = build(cls, out_indices=(0, 1)).train()
    assert network.training
    assert network.out_channels == (24, 24)
    assert network.out_strides == (16, 16)
    for height, width in ((33, 70), (64, 64)):
        outs = network(torch.randn(2, 3, height, width))
        sides = (-(-height // 16), -(-width // 16))
        assert [tuple(out.shape) for out in outs] == [(2, 24, *sides)] * 2
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert all(out.isfinite().all() for out in network(torch.randn(1, 3, 40, 50)))


@pytest.mark.parametrize("cls", CLASSES)
def test_weights_of_the_classifier_load_and_layers_have_depths(cls):
    upstream, options = CLASSES[cls]
    options = {**options, "img_size": 96}
    state = drawn(upstream(**options)).state_dict()
    network = build(cls)
    result = network.load_state_dict(state)
    assert not result.missing_keys
    assert not result.unexpected_keys
    depths = [network.get_layer_depth(f"b.{name}", "b.") for name, _ in network.named_parameters()]
    assert {depth for depth, _ in depths} == {0, 1, 2, 3, 4}
    assert {count for _, count in depths} == {5}
    assert network.get_layer_depth("head.weight", "b.") == (4, 5)


def test_named_in_a_config():
    config = {"type": "mmeffvit.DenseT2T", **T2T_OPTIONS, "with_cls_token": False}
    network = MODELS.build(config)
    assert isinstance(network, DenseT2T)
    network.init_weights()


def test_impossible_layers():
    assert layers_from_start((2, 5, -1), 12) == [2, 5, 11]
    for indices in ((), (3, 1), (12,), (-13,), (11, -1)):
        with pytest.raises(ValueError, match=r"ascending layers out of 0\.\.11"):
            layers_from_start(indices, 12)
