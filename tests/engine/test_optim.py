"""Learning rates and weight decay of every parameter, exactly, in models of all toolboxes."""

import copy

import pytest
import torch
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmeffvit import create_backbone, list_backbones
from mmeffvit.engine.optim import find_layered_modules
from mmeffvit.models import Pyramid, SecViT
from mmeffvit.models.zoo import backbone_classes, split_name
from mmeffvit.testing import small_arch

LR, DECAY = 0.01, 0.05

ARCH = {
    "embed_dims": (8, 8, 16, 16),
    "depths": (1, 2, 1, 1),
    "num_heads": (1, 1, 2, 2),
    "mlp_ratios": (2, 2, 2, 2),
    "num_clusters": (2, 2, 2, -1),
    "layer_scale": (None, None, None, 1e-6),
}
BACKBONE = {"type": "mmeffvit.SecViT", "arch": ARCH}
# name of a parameter -> its layer, of 7: stem, five blocks, what follows
LAYERS = {
    "stem.0.weight": 0,
    "stem.1.bias": 0,
    "stages.0.blocks.0.mixer.qkv.weight": 1,
    "stages.1.downsample.conv.weight": 2,
    "stages.1.downsample.norm.weight": 2,
    "stages.1.blocks.0.ffn.fc1.bias": 2,
    "stages.1.blocks.1.pos.weight": 3,
    "stages.2.downsample.conv.bias": 4,
    "stages.2.blocks.0.norm2.weight": 4,
    "stages.3.blocks.0.layer_scale1.gamma": 5,
    "out_norms.0.weight": 6,
    "out_norms.3.bias": 6,
}


def build(model, kind="mmeffvit.LayerDecayOptimWrapperConstructor", **options):
    optimizer = {"type": "AdamW", "lr": LR, "weight_decay": DECAY}
    cfg = {"type": "OptimWrapper", "optimizer": optimizer, "constructor": kind}
    return build_optim_wrapper(model, {**cfg, "paramwise_cfg": options})


def options_by_name(model, wrapper):
    """Learning rate and weight decay of every parameter; each is optimised once."""
    names = {id(param): name for name, param in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for param in group["params"]:
            name = names[id(param)]
            assert name not in found
            found[name] = (group["lr"], group["weight_decay"])
    return found


class Segmentor(nn.Module):
    """A head that is no part of the backbone, and a vector and a table of its own."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Conv2d(16, 2, 1)
        self.level_embed = nn.Parameter(torch.zeros(3, 8))
        self.query = nn.Embedding(4, 8)


def test_exact_learning_rates():
    model = Segmentor(SecViT(arch=ARCH))
    found = options_by_name(model, build(model, layer_decay_rate=0.5))
    for name, layer in LAYERS.items():
        assert found[f"backbone.{name}"] == pytest.approx((LR * 0.5 ** (6 - layer), DECAY)), name
    for name in ("decode_head.weight", "decode_head.bias", "level_embed", "query.weight"):
        assert found[name] == (LR, DECAY)
    assert len(found) == len(list(model.parameters()))


def test_groups_are_few_and_say_what_they_hold():
    model = Segmentor(SecViT(arch=ARCH))
    groups = build(model, layer_decay_rate=0.5, no_decay=True).optimizer.param_groups
    # outside, the norms on the outputs, stem and five blocks; most with and without decay
    assert len(groups) == 2 * 7 + 1
    names = {id(param): name for name, param in model.named_parameters()}
    for group in groups:
        assert group["param_names"] == [names[id(param)] for param in group["params"]]
        assert group["lr"] == LR * group["lr_scale"]


def test_no_decay_spares_vectors_norms_and_tables():
    model = Segmentor(SecViT(arch=ARCH))
    model.no_weight_decay = lambda: {"level_embed"}
    found = options_by_name(model, build(model, no_decay=True))
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    expected = {name for name, param in model.named_parameters() if param.ndim == 1}
    assert spared == expected | {"level_embed", "query.weight"}
    for name in ("stem.1.weight", "stages.1.downsample.norm.bias", "out_norms.0.weight"):
        assert f"backbone.{name}" in spared
    assert "backbone.stages.3.blocks.0.layer_scale1.gamma" in spared
    assert "backbone.stages.3.blocks.0.mixer.lepe.weight" not in spared
    assert {rate for rate, _ in found.values()} == {LR}


def test_custom_keys_multiply_and_have_the_last_word():
    model = Segmentor(SecViT(arch=ARCH))
    keys = {
        "backbone": {"lr_mult": 0.1},
        "backbone.stem": {"decay_mult": 0.5},
        "norm": {"decay_mult": 0.0},
    }
    found = options_by_name(
        model, build(model, layer_decay_rate=0.5, no_decay=True, custom_keys=keys)
    )
    assert found["backbone.stages.2.blocks.0.ffn.fc1.weight"] == pytest.approx(
        (LR * 0.1 * 0.25, DECAY)
    )
    # the longest key counts: the stem's own decay, also for its norms, and no lr_mult
    assert found["backbone.stem.1.weight"] == pytest.approx((LR * 0.5**6, DECAY * 0.5))
    # a key without decay_mult leaves no_decay as it is
    assert found["backbone.stages.2.blocks.0.ffn.fc1.bias"] == pytest.approx((LR * 0.1 * 0.25, 0))


def test_the_papers_rule_by_names():
    """Norms that are called so, and nothing else: the stem's batch norms are decayed."""
    model = Segmentor(SecViT(arch=ARCH))
    keys = {"norm": {"decay_mult": 0.0}}
    found = options_by_name(model, build(model, layer_decay_rate=0.5, custom_keys=keys))
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert spared == {name for name in found if "norm" in name}
    assert found["backbone.stem.1.weight"][1] == DECAY


PYRAMIDS = [
    name
    for name in list_backbones("*-tiny")
    if issubclass(backbone_classes()[split_name(name)[0]], Pyramid)
]


@pytest.mark.parametrize("name", PYRAMIDS)
def test_every_family_numbers_its_blocks(name):
    with torch.device("meta"):
        backbone = create_backbone(name, out_indices=(0, 2))
    count = sum(backbone.arch["depths"][:3]) + 2
    seen = {backbone.get_layer_depth(key) for key, _ in backbone.named_parameters()}
    assert seen == {(layer, count) for layer in range(count)}
    assert backbone.get_layer_depth("head.fc.weight") == (count - 1, count)
    assert backbone.get_layer_depth("neck.stages.0.weight", "backbone.") == (count - 1, count)
    assert backbone.get_layer_depth("backbone.stem.0.weight", "backbone.") == (0, count)


def _toolbox_model(toolbox):
    if toolbox == "mmdet":
        head = {"type": "RetinaHead", "num_classes": 2, "in_channels": 8, "feat_channels": 8}
        neck = {"type": "FPN", "in_channels": [8, 8, 16, 16], "out_channels": 8, "num_outs": 5}
        return {"type": "RetinaNet", "backbone": BACKBONE, "neck": neck, "bbox_head": head}
    head = {"num_classes": 2, "in_channels": 16}
    if toolbox == "mmseg":
        head |= {"type": "FCNHead", "in_index": 3, "channels": 8, "num_convs": 1}
        return {"type": "EncoderDecoder", "backbone": BACKBONE, "decode_head": head}
    head |= {"type": "LinearClsHead"}
    neck = {"type": "GlobalAveragePooling"}
    return {"type": "ImageClassifier", "backbone": BACKBONE, "neck": neck, "head": head}


@pytest.mark.parametrize("toolbox", ["mmdet", "mmseg", "mmpretrain"])
def test_models_of_the_toolboxes(toolbox):
    with DefaultScope.overwrite_default_scope(toolbox), torch.device("meta"):
        model = MODELS.build(_toolbox_model(toolbox))
        found = options_by_name(model, build(model, layer_decay_rate=0.5))
    for name, layer in LAYERS.items():
        assert found[f"backbone.{name}"][0] == pytest.approx(LR * 0.5 ** (6 - layer)), name
    outside = {name: rate for name, (rate, _) in found.items() if "backbone" not in name}
    assert outside
    assert set(outside.values()) == {LR}


def test_equals_the_constructor_of_mmpretrain():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(_toolbox_model("mmpretrain"))
        rules = {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "flat_decay_mult": 0.0}
        kind = "LearningRateDecayOptimWrapperConstructor"
        theirs = build(model, kind, layer_decay_rate=0.75, **rules)
        ours = build(model, layer_decay_rate=0.75, no_decay=True)
    expected = options_by_name(model, theirs)
    found = options_by_name(model, ours)
    assert found.keys() == expected.keys()
    for name, options in expected.items():
        assert found[name] == pytest.approx(options, rel=1e-12), name


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = Segmentor(SecViT(arch=ARCH))
        shallow = {**ARCH, "depths": (1, 1, 1, 1)}
        self.teacher = nn.Sequential(Segmentor(SecViT(arch=shallow, out_indices=(1,))))


def test_nested_models_have_each_backbone_by_its_own_depth():
    model = Teacher()
    assert list(find_layered_modules(model)) == ["student.backbone", "teacher.0.backbone"]
    found = options_by_name(model, build(model, layer_decay_rate=0.5))
    assert found["student.backbone.stem.0.weight"][0] == pytest.approx(LR * 0.5**6)
    assert found["teacher.0.backbone.stem.0.weight"][0] == pytest.approx(LR * 0.5**3)
    assert found["teacher.0.backbone.out_norms.1.weight"][0] == LR


def test_a_backbone_alone_and_wrapped_models():
    plain = SecViT(arch=ARCH)
    expected = options_by_name(plain, build(plain, layer_decay_rate=0.5))
    assert expected["stem.0.weight"][0] == pytest.approx(LR * 0.5**6)

    compiled = torch.compile(plain)
    found = options_by_name(compiled, build(compiled, layer_decay_rate=0.5))
    assert {name.removeprefix("_orig_mod."): v for name, v in found.items()} == expected

    class Parallel(MMDistributedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    wrapper = build(Parallel(plain), layer_decay_rate=0.5)
    assert options_by_name(plain, wrapper) == expected


def test_shared_and_frozen_parameters():
    model = Segmentor(SecViT(arch=ARCH, frozen_stages=1))
    model.branches = nn.ModuleList([model.decode_head, model.decode_head])
    found = options_by_name(model, build(model, layer_decay_rate=0.5))
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert set(found) == trained
    assert "backbone.stem.0.weight" not in found


def test_training_resumes_and_schedules_keep_the_ratios(tmp_path):
    torch.manual_seed(0)
    model = Segmentor(SecViT(arch=ARCH))
    images = torch.randn(2, 3, 32, 32)

    def step(model, wrapper):
        # PyTorch's optimizers pass over parameters without a gradient
        wrapper.update_params(model.decode_head(model.backbone(images)[-1]).square().mean())

    wrapper = build(model, layer_decay_rate=0.5, no_decay=True)
    ratios = [group["lr"] for group in wrapper.optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.StepLR(wrapper.optimizer, 1, 0.1)
    step(model, wrapper)
    scheduler.step()
    rates = [group["lr"] for group in wrapper.optimizer.param_groups]
    assert rates == pytest.approx([rate * 0.1 for rate in ratios])

    torch.save(wrapper.state_dict(), tmp_path / "optimizer.pth")
    other = copy.deepcopy(model)
    resumed = build(other, layer_decay_rate=0.5, no_decay=True)
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.pth", weights_only=True))
    step(model, wrapper)
    step(other, resumed)
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name


class Opaque(BaseModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 1)


def test_errors_say_what_to_do():
    with pytest.raises(TypeError, match=r"Opaque has none \(its backbone is a Conv2d\)"):
        build(Opaque(), layer_decay_rate=0.5)
    # without layer-wise decay any model will do
    assert len(build(Opaque(), no_decay=True).optimizer.param_groups) == 2

    model = SecViT(arch=ARCH)
    with pytest.raises(ValueError, match=r"no option 'decay_rate'.*mean 'layer_decay_rate'"):
        build(model, decay_rate=0.5)
    with pytest.raises(ValueError, match=r"no option 'num_layers'.*asked from the network"):
        build(model, num_layers=12)
    for rate in (0, 1.5):
        with pytest.raises(ValueError, match="must be in \\(0, 1\\]"):
            build(model, layer_decay_rate=rate)
    cfg = {"constructor": "mmeffvit.LayerDecayOptimWrapperConstructor"}
    with pytest.raises(ValueError, match="there is no lr"):
        build_optim_wrapper(model, {**cfg, "optimizer": {"type": "Adadelta"}})
    with pytest.raises(ValueError, match="no_decay=True exempts"):
        build_optim_wrapper(
            model,
            {
                **cfg,
                "optimizer": {"type": "SGD", "lr": 0.1},
                "paramwise_cfg": {"no_decay": True},
            },
        )


def test_shrunk_variants_of_all_families_train():
    """Names of parameters that no rule expects would raise here."""
    for family, cls in backbone_classes().items():
        backbone = cls(arch=small_arch(f"{family}-{next(reversed(cls.arch_zoo))}"))
        found = options_by_name(backbone, build(backbone, layer_decay_rate=0.5, no_decay=True))
        for key, param in backbone.named_parameters():
            names = ("position.table", "gate.table", "extra_tokens.weight", "class_token.weight")
            tables = key.endswith(names)
            assert (found[key][1] == 0) == (param.ndim == 1 or tables), key
