"""Whole detectors and segmentors, from their authors' names to models of configs."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from mmeffvit.checkpoint import CheckpointError, convert_whole, read_checkpoint
from mmeffvit.checkpoint.whole import convert_model
from mmeffvit.models.weights import weights_files
from mmeffvit.models.zoo import backbone_classes
from mmeffvit.testing.families import FAMILIES
from tests.checkpoint.official import official_state
from tests.configs.common import load
from tests.tools import runs

#: one config of each recipe that a family has whole models of, published or in a share
RECIPES = (
    *(
        f"{family}/{recipe}"
        for family in ("ravlt", "rmt")
        for recipe in (
            f"retinanet_{family}-t_fpn_1x_coco.py",
            f"mask-rcnn_{family}-t_fpn_1x_coco.py",
            f"cascade-mask-rcnn_{family}-s_fpn_ms-3x_coco.py",
            f"fpn_{family}-t_8xb2-80k_ade20k-512x512.py",
            f"upernet_{family}-s_8xb2-160k_ade20k-512x512.py",
        )
    ),
    "cswin/upernet_cswin-t_8xb2-160k_ade20k-512x512.py",
    "dinat/mask-rcnn_dinat-m_fpn_ms-3x_coco.py",
    "dinat/mask-rcnn_nat-m_fpn_ms-3x_coco.py",
    "ppma/mask-rcnn_ppma-t_fpn_1x_coco.py",
    "ppma/upernet_ppma-t_8xb2-160k_ade20k-512x512.py",
    "uniformer/mask-rcnn_uniformer-s-h14_fpn_1x_coco.py",
    "uniformer/cascade-mask-rcnn_uniformer-s-h14_fpn_ms-3x_coco.py",
    "uniformer/fpn_uniformer-s_8xb4-80k_ade20k-512x512.py",
    "uniformer/upernet_uniformer-s_8xb2-160k_ade20k-512x512.py",
    "crossformer/retinanet_crossformer-s_fpn_1x_coco.py",
    "crossformer/mask-rcnn_crossformer-s_fpn_1x_coco.py",
    "crossformer/fpn_crossformer-s_8xb4-80k_ade20k-512x512.py",
    "crossformer/upernet_crossformer-s_8xb2-160k_ade20k-512x512.py",
)


def build(cfg, device="meta"):
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device(device):
        return MODELS.build(cfg.model)


def official_model(model):
    """A state dict as the authors' code saves it: heads under their names, the backbone's its."""
    state = model.state_dict()
    inside = {k: v for k, v in state.items() if k.startswith("backbone.")}
    official = official_state(inside, type(model.backbone))
    return {
        **{f"backbone.{key}": value for key, value in official.items()},
        **{key: value for key, value in state.items() if key not in inside},
    }


@pytest.mark.parametrize("config", RECIPES)
def test_every_key_of_a_recipe_finds_its_place(config):
    """At full size, on the meta device: names and shapes."""
    model = build(load(f"configs/{config}"))
    official = official_model(model)
    conversion = convert_model({"state_dict": official, "meta": {"epoch": 12}}, model)
    own = model.state_dict()
    assert conversion.state_dict.keys() == own.keys()
    assert all(conversion.state_dict[name].shape == value.shape for name, value in own.items())
    assert conversion.renamed.keys() | set(conversion.kept) == official.keys()
    assert conversion.ignored == conversion.missing == {}
    assert conversion.container == "state_dict"


def test_recipes_are_those_of_the_catalogue():
    def recipe(config):
        family, name = config.split("/")
        return family, name.partition("_")[0]

    families = {recipe(file.config)[0] for file in weights_files().values() if file.config}
    published = {recipe(file.config) for file in weights_files().values() if file.config}
    assert {recipe(config) for config in RECIPES} >= {
        pair for pair in published if pair[0] != "condaformer"
    }
    assert families == {recipe(config)[0] for config in RECIPES} | {"condaformer"}


def small(config):
    """A config with its network, its heads and what it predicts small."""
    cfg = load(f"configs/{config}")
    model, backbone = cfg.model, cfg.model.backbone
    cls = next(c for c in backbone_classes().values() if backbone.type.endswith(f".{c.__name__}"))
    backbone.arch = FAMILIES[cls.family].small_arch(cls, backbone.arch)
    dims = [backbone.arch["embed_dims"][i] for i in backbone.get("out_indices", range(4))]
    if "neck" in model:
        model.neck.in_channels = dims
    else:
        model.decode_head.update(in_channels=dims, channels=16)
        model.auxiliary_head.update(in_channels=dims[2], channels=16)
    heads = model.get("roi_head", {}).get("bbox_head", [])
    for head in heads if isinstance(heads, list) else [heads]:
        head.fc_out_channels = 32
    if "rpn" in model.test_cfg:
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=10)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    elif "nms_pre" in model.test_cfg:
        model.test_cfg.update(score_thr=0.0, nms_pre=50, max_per_img=10)
    return cfg


def predict(model):
    """Boxes with their classes and scores, or the logits of a segmentor."""
    from mmdet.structures import DetDataSample

    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model.eval()
    with torch.no_grad():
        if hasattr(model, "decode_head"):
            return [model.encode_decode(image, [{"ori_shape": (64, 64), "img_shape": (64, 64)}])]
        meta = {
            **{"img_shape": (64, 64), "ori_shape": (64, 64), "batch_input_shape": (64, 64)},
            **{"scale_factor": (1.0, 1.0), "pad_shape": (64, 64)},
        }
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData()
        found = model.predict(image, [sample])[0].pred_instances
        return [found.bboxes, found.scores, found.labels]


@pytest.mark.parametrize(
    "config",
    [
        "ravlt/retinanet_ravlt-t_fpn_1x_coco.py",
        "rmt/mask-rcnn_rmt-t_fpn_1x_coco.py",
        "uniformer/cascade-mask-rcnn_uniformer-s-h14_fpn_ms-3x_coco.py",
        "cswin/upernet_cswin-t_8xb2-160k_ade20k-512x512.py",
        "crossformer/fpn_crossformer-s_8xb4-80k_ade20k-512x512.py",
    ],
)
def test_a_converted_model_predicts_as_the_one_that_it_was_made_from(config, tmp_path):
    cfg = small(config)
    model = build(cfg, "cpu")
    # beside the weights lies the config, pickled as mmcv 1 and mmdet 2 do
    meta = {"cfg": Config({"model": {"type": "X"}}), "CLASSES": ("a", "b"), "epoch": 12}
    torch.save({"state_dict": official_model(model), "meta": meta}, tmp_path / "epoch_12.pth")
    conversion = convert_whole(read_checkpoint(tmp_path / "epoch_12.pth"), cfg)
    torch.manual_seed(7)
    other = build(cfg, "cpu")
    other.load_state_dict(conversion.state_dict, strict=True)
    expected, found = predict(model), predict(other)
    assert len(expected[0]) > 0
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


class TestRefusals:
    @pytest.fixture(scope="class")
    def model(self):
        return build(small("ravlt/mask-rcnn_ravlt-t_fpn_1x_coco.py"))

    @pytest.fixture
    def state(self, model):
        return official_model(model)

    def test_a_head_key_that_is_missing_or_foreign(self, model, state):
        value = state.pop("roi_head.bbox_head.fc_cls.weight")
        with pytest.raises(
            CheckpointError, match=r"fc_cls.weight is not in the file.*other recipe"
        ):
            convert_model(state, model)
        state["roi_head.bbox_head.fc_cls.weight"] = value
        state["roi_head.semantic_head.weight"] = value
        with pytest.raises(CheckpointError, match=r"semantic_head.weight has no place"):
            convert_model(state, model)

    def test_a_backbone_key_that_is_missing_or_foreign(self, model, state):
        value = state.pop("backbone.layers.0.blocks.0.pos.weight")
        with pytest.raises(CheckpointError, match=r"blocks.0.pos.weight is not in the file"):
            convert_model(state, model)
        state |= {"backbone.layers.0.blocks.0.pos.weight": value, "backbone.more": value}
        with pytest.raises(CheckpointError, match="not weights of ravlt: 1 of"):
            convert_model(state, model)

    def test_output_norms_are_not_made_up(self, model, state):
        del state["backbone.extra_norms.2.norm.weight"]
        with pytest.raises(CheckpointError, match=r"out_norms.2.weight is not in the file"):
            convert_model(state, model)

    def test_other_variants_and_numbers_of_classes_are_named(self, model, state):
        head = state["roi_head.bbox_head.fc_cls.weight"]
        state["roi_head.bbox_head.fc_cls.weight"] = head[:21]
        with pytest.raises(CheckpointError, match="another number of classes"):
            convert_model(state, model)
        other = build(load("configs/ravlt/mask-rcnn_ravlt-t_fpn_1x_coco.py"))
        with pytest.raises(CheckpointError, match="backbone is another variant"):
            convert_model(official_model(model), other)

    def test_files_of_mmdet_1(self, model, state):
        old = {key.removeprefix("roi_head."): value for key, value in state.items()}
        with pytest.raises(CheckpointError, match=r"a file of mmdet 1.x"):
            convert_model(old, model)

    def test_classifiers_and_models_without_our_backbones(self, model):
        with pytest.raises(CheckpointError, match=r"no key starts with 'backbone.'.*ravlt SOURCE"):
            convert_model({"proj.weight": torch.ones(1)}, model)
        with pytest.raises(CheckpointError, match="has no backbone of ours"):
            convert_model({}, torch.nn.Linear(1, 1))

    def test_counters_may_be_missing_and_tables_are_left_out(self, model, state):
        counters = [key for key in state if key.endswith("num_batches_tracked")]
        for key in counters:
            del state[key]
        state["backbone.layers.0.RoPE.angle"] = torch.ones(8, device="meta")
        conversion = convert_model(state, model)
        assert len(conversion.missing) == len(counters) > 0
        assert list(conversion.ignored) == ["backbone.layers.0.RoPE.angle"]
        assert "ignored backbone.layers.0.RoPE.angle: a table" in str(conversion)
        assert f"{len(counters)} not in the file" in str(conversion)
        keys = conversion.every_key().splitlines()
        assert len(keys) == len(state)
        assert any(key.startswith("backbone.patch_embed.proj.0.weight -> ") for key in keys)

    def test_files_with_our_names_stay_as_they_are(self, model):
        conversion = convert_model(model.state_dict(), model)
        assert conversion.renamed == {}
        assert conversion.state_dict.keys() == model.state_dict().keys()


def test_the_tool_converts_whole_models(tmp_path, capsys):
    cfg = small("ravlt/fpn_ravlt-t_8xb2-80k_ade20k-512x512.py")
    model = build(cfg, "cpu")
    cfg.dump(tmp_path / "small.py")
    torch.save({"state_dict": official_model(model)}, tmp_path / "fpn.pth")
    arguments = ("--model", str(tmp_path / "small.py"), str(tmp_path / "fpn.pth"))
    with runs.main("convert_checkpoint.py") as run:
        assert run(*arguments, "--keys") == 0
        printed = capsys.readouterr().out
        assert "EncoderDecoder with a backbone of ravlt" in printed
        assert "backbone.patch_embed.proj.0.weight -> backbone.stem.0.weight" in printed
        converted = read_checkpoint(tmp_path / "fpn-converted.pth")["state_dict"]
        assert all(torch.equal(converted[k], v) for k, v in model.state_dict().items())
        assert run(*arguments) == 2  # it exists
        (tmp_path / "fpn-converted.pth").unlink()
        assert run("--model", "no.py", str(tmp_path / "fpn.pth")) == 1
        assert "There is no config 'no.py'" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            run("ravlt", str(tmp_path / "fpn.pth"))
    assert not (tmp_path / "fpn-converted.pth").exists()
