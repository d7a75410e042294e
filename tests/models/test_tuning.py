"""LoRA and AdaptFormer's adapters beside the layers of any backbone, and none at all."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmeffvit import compat
from mmeffvit.checkpoint import load_weights, write_checkpoint
from mmeffvit.engine.optim import LayerDecayOptimWrapperConstructor
from mmeffvit.engine.weights import fit_weights
from mmeffvit.models.tuning import adapted_layers, merged_state_dict, tuned_backbone

from .backbones.tiny import ARCHS, build_tiny

TINY = {
    "embed_dims": 16,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 16,
    "image_size": 64,
    "extra_tokens": 1,
    "window_sizes": None,
    "layer_scale": None,
}
VIT = {"type": "mmeffvit.PlainViT", "arch": TINY}


def build(cfg, scope="mmdet"):
    compat.setup()
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg)


def draw_adapters(network, std=0.2):
    """Adapters begin as nothing; as if they had been trained."""
    for name, parameter in network.named_parameters():
        if "lora_" in name or ".adapter." in name:
            nn.init.normal_(parameter, std=std)


def check_low_rank(network, image):
    """All that a backbone with low-rank adapters promises; `network` has none."""
    network.eval()
    plain, ordinary = copy.deepcopy(network), copy.deepcopy(network.state_dict())
    tuned = tuned_backbone(network, lora=2)
    with torch.no_grad():
        for before, now in zip(plain(image), tuned(image), strict=True):
            torch.testing.assert_close(now, before)

    loaded = tuned.load_state_dict(ordinary, strict=False)
    assert not loaded.unexpected_keys
    assert all("lora_" in key for key in loaded.missing_keys)

    draw_adapters(tuned)
    sum(x.square().mean() for x in tuned.train()(image)).backward()
    for name, parameter in tuned.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert all("lora_" not in n or p.requires_grad for n, p in tuned.named_parameters())

    merged = merged_state_dict(tuned.eval())
    assert merged.keys() == ordinary.keys()
    changed = {
        key.rpartition(".")[0] for key in merged if not torch.equal(merged[key], ordinary[key])
    }
    assert set(tuned.tuned_layers) <= changed
    plain.load_state_dict(merged)
    with torch.no_grad():
        for one, other in zip(plain(image), tuned(image), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ARCHS)
def test_every_family(name):
    check_low_rank(build_tiny(name), torch.randn(1, 3, 48, 64))


OTHERS = {
    "convolutions": ("mmdet", {"type": "ResNet", "depth": 18}, "layer2.0.downsample.0"),
    "windows": (
        "mmdet",
        {"type": "SwinTransformer", "embed_dims": 24, "depths": (1, 1, 1, 1), "window_size": 4},
        "stages.0.blocks.0.attn.w_msa.qkv",
    ),
    # its code multiplies with the weight of qkv by itself
    "weights that are no layers": (
        "mmpretrain",
        {
            "type": "BEiTViT",
            "arch": {"embed_dims": 24, "num_layers": 2, "num_heads": 2, "feedforward_channels": 48},
            "out_type": "featmap",
            "img_size": 64,
            "patch_size": 16,
        },
        "layers.0.attn.proj",
    ),
    # attention of torch is one piece: the feed-forward networks have the adapters
    "torch's attention": (
        "mmseg",
        {"type": "MixVisionTransformer", "embed_dims": 8, "num_layers": [1, 1, 1, 1]},
        "layers.0.1.0.ffn.layers.0",
    ),
    "timm": (
        "mmengine",
        {"type": "mmeffvit.LibraryBackbone", "name": "timm/test_vit", "img_size": 64},
        "network.blocks.0.attn.qkv",
    ),
    "transformers": (
        "mmengine",
        {
            "type": "mmeffvit.LibraryBackbone",
            "name": "hf/dinov2",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "attention.q_proj",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_backbones_of_others(kind):
    scope, cfg, target = OTHERS[kind]
    network = build(cfg, scope)
    image = torch.randn(2, 3, 64, 64)
    check_low_rank(network, image)
    assert any(name.endswith(target) for name in network.tuned_layers), network.tuned_layers


def test_low_rank_formula():
    """W x + alpha / r * B A x, of a layer that splits what it makes into heads as well."""
    network = build(VIT)
    tuned = tuned_backbone(network, lora=3, alpha=12, targets=r"blocks\.1\.mixer\.qkv")
    assert tuned.tuned_layers == ("blocks.1.mixer.qkv",)
    draw_adapters(tuned)
    layer = tuned.blocks[1].mixer.qkv
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape == (3, 16, 1, 1)
    weight = layer.base_layer.weight + 4 * (b.flatten(1) @ a.flatten(1))[..., None, None]
    x = torch.randn(2, 16, 3, 5)
    expected = F.conv2d(x, weight, layer.base_layer.bias).permute(0, 2, 3, 1)
    expected = expected.reshape(2, 15, 3, 2, 8).unbind(2)
    for one, other in zip(layer(x), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_adaptformer_formula():
    """FFN(x) + 0.1 up(ReLU(down(x))), which begins as FFN(x) (arXiv 2205.13535, equation 3)."""
    network = build(VIT)
    ffn, x = copy.deepcopy(network.blocks[0].ffn), torch.randn(2, 16, 3, 5)
    tuned = tuned_backbone(network, adaptformer=4)
    assert tuned.tuned_layers == ("blocks.0.ffn", "blocks.1.ffn")
    adapted = tuned.blocks[0].ffn
    torch.testing.assert_close(adapted(x), ffn(x), rtol=0, atol=0)
    down, up = adapted.adapter.down, adapted.adapter.up
    bound = (1 / 16) ** 0.5  # Kaiming's for a=sqrt(5)
    assert 0.8 * bound < down.weight.abs().max() <= bound
    assert not any(p.count_nonzero() for p in (up.weight, up.bias, down.bias))
    draw_adapters(tuned)
    low = torch.einsum("rc,bchw->brhw", down.weight[..., 0, 0], x) + down.bias[:, None, None]
    high = torch.einsum("cr,brhw->bchw", up.weight[..., 0, 0], low.clamp_min(0))
    expected = ffn(x) + 0.1 * (high + up.bias[:, None, None])
    torch.testing.assert_close(adapted(x), expected)


@pytest.mark.parametrize("kind", ["windows", "timm", "transformers", "convnext"])
def test_adaptformer_beside_others(kind):
    convnext = {"type": "ConvNeXt", "arch": {"depths": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}}
    scope, cfg, _ = {**OTHERS, "convnext": ("mmpretrain", convnext, "")}[kind]
    if kind == "convnext":  # whose blocks are one piece
        with pytest.raises(ValueError, match="AdaptFormer needs blocks with a feed-forward"):
            tuned_backbone(build(cfg, scope), adaptformer=4)
        return
    network = build(cfg, scope)
    network.eval()
    image = torch.randn(1, 3, 64, 64)
    before, ordinary = network(image), copy.deepcopy(network.state_dict())
    tuned = tuned_backbone(network, adaptformer=4)
    for one, other in zip(tuned(image), before, strict=True):
        torch.testing.assert_close(one, other)
    assert not tuned.load_state_dict(ordinary, strict=False).unexpected_keys
    sum(x.square().mean() for x in tuned.train()(image)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in tuned.parameters())
    with pytest.raises(ValueError, match="has an adapter with an activation in it"):
        merged_state_dict(tuned)


def count_nodes(tensors):
    """Nodes of the graph that a backward pass goes through."""
    waiting = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return len(seen)


def test_frozen_parts_cost_no_backward():
    image = torch.randn(1, 3, 64, 96)
    cfg = {**VIT, "out_indices": (0, 1), "out_norm": False}
    whole = count_nodes(build(cfg)(image))
    frozen = tuned_backbone(build(cfg)).train()(image)
    assert whole > 30
    assert count_nodes(frozen) == 0
    assert not any(x.requires_grad for x in frozen)
    # what lies before the first adapter has no graph, and what follows it has one
    tuned = tuned_backbone(build(cfg), lora=2, targets=r"blocks\.1\.").train()
    first, second = tuned(image)
    assert not first.requires_grad
    assert 0 < count_nodes([second]) < whole


def test_norms_and_dropout_of_a_frozen_backbone():
    cfg = {"type": "ResNet", "depth": 18, "norm_eval": False}
    image = torch.randn(2, 3, 64, 64)
    for kwargs in ({}, {"lora": 2}):
        tuned = tuned_backbone(build(cfg), **kwargs).train()
        before = tuned.bn1.running_mean.clone()
        tuned(image)
        assert torch.equal(tuned.bn1.running_mean, before)
        assert not tuned.bn1.training
    dropping = {**VIT, "drop_path_rate": 0.5}
    assert not tuned_backbone(build(dropping)).train().blocks[1].drop_path.training
    assert tuned_backbone(build(dropping), lora=2).train().blocks[1].drop_path.training


def test_new_parts_are_trained():
    tuned = tuned_backbone(build(VIT))
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert trained == ["out_norms.1.weight", "out_norms.1.bias"]
    scope, cfg, _ = OTHERS["windows"]
    tuned = tuned_backbone(build(cfg, scope))
    trained = {name.partition(".")[0] for name, p in tuned.named_parameters() if p.requires_grad}
    assert trained == {"norm0", "norm1", "norm2", "norm3"}


def test_what_the_options_freeze_gets_no_adapter():
    tuned = tuned_backbone(build({**VIT, "frozen_stages": 1}), lora=2)
    assert tuned.tuned_layers == ("blocks.1.mixer.qkv", "blocks.1.mixer.proj")
    library = {**OTHERS["timm"][1], "frozen": True}
    with pytest.raises(ValueError, match="none is both called as a layer and not frozen"):
        tuned_backbone(build(library), lora=2)


def test_initial_weights_are_those_of_the_backbone(tmp_path):
    """Drawn weights do not touch adapters, and a file has no names of them."""
    scope, cfg, _ = OTHERS["windows"]
    tuned = tuned_backbone(build(cfg, scope), lora=2)
    layer = tuned.stages[0].blocks[0].attn.w_msa.qkv
    before = layer.base_layer.weight.clone()
    tuned.init_weights()
    assert not torch.equal(layer.base_layer.weight, before)
    assert not layer.lora_B["default"].weight.count_nonzero()

    torch.manual_seed(1)
    source = build(VIT)
    write_checkpoint(source.state_dict(), tmp_path / "vit.safetensors")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "vit.safetensors")}
    tuned = build(
        {"type": "mmeffvit.TunedBackbone", "backbone": {**VIT, "init_cfg": init}, "lora": 2}
    )
    assert not torch.equal(tuned.blocks[0].mixer.qkv.weight, source.blocks[0].mixer.qkv.weight)
    tuned.init_weights()
    assert torch.equal(tuned.blocks[0].mixer.qkv.weight, source.blocks[0].mixer.qkv.weight)
    assert set(adapted_layers(tuned)) == set(tuned.tuned_layers)
    assert len(load_weights(tuned, source.state_dict()).loaded) == len(source.state_dict())


def test_ordinary_names_fit_a_whole_model():
    model = nn.ModuleDict({"backbone": build(VIT), "head": nn.Linear(2, 2)})
    ordinary = {f"module.{key}": value for key, value in model.state_dict().items()}
    model["backbone"] = tuned_backbone(model["backbone"], lora=2)
    fit = fit_weights(model, ordinary)
    assert {key for key in fit.shapes if "lora_" not in key} == fit.fitting


def test_depth_of_adapters():
    model = nn.ModuleDict({"backbone": build(OTHERS["timm"][1])})
    plain = copy.deepcopy(model["backbone"])
    model["backbone"] = tuned = tuned_backbone(model["backbone"], lora=2)
    block = "network.blocks.3.attn.qkv"
    expected = plain.get_layer_depth(f"{block}.weight")
    assert tuned.get_layer_depth(f"{block}.lora_B.default.weight") == expected
    wrapper = LayerDecayOptimWrapperConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1.0}},
        {"layer_decay_rate": 0.5},
    )(model)
    layer, count = expected
    (rate,) = (
        group["lr"]
        for group in wrapper.param_groups
        if f"backbone.{block}.lora_A.default.weight" in group.get("param_names", ())
    )
    assert rate == 0.5 ** (count - 1 - layer)


def test_half_precision_copies_and_compilation():
    tuned = tuned_backbone(build(VIT), lora=2).eval()
    draw_adapters(tuned)
    image = torch.randn(1, 3, 64, 64)
    (expected,) = tuned(image)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tuned(image)[0].float(), expected, rtol=0.05, atol=0.1)
    torch.testing.assert_close(copy.deepcopy(tuned)(image)[0], expected)
    tuned.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(tuned(image)[0], expected)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"lora": 0}, "whole number from 1, got 0"),
        ({"lora": 8, "adaptformer": 8}, "not both"),
        ({"alpha": 8}, "belong to lora=RANK"),
        ({"lora": 8, "dropout": 1}, r"dropout must be in \[0, 1\)"),
        ({"lora": 8, "targets": ["qvk"]}, "'qvk'.*are in no name of"),
    ],
)
def test_errors(kwargs, words):
    with pytest.raises(ValueError, match=words):
        tuned_backbone(build(VIT), **kwargs)


def test_without_peft(monkeypatch):
    monkeypatch.setattr("importlib.import_module", _absent)
    with pytest.raises(ImportError, match=r"pip install 'mmeffvit\[backbones\]'"):
        tuned_backbone(build(VIT), lora=2)


def _absent(name):
    raise ModuleNotFoundError(name=name)
