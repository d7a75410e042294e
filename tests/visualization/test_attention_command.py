"""tools/visualize/attention.py, from the command line to a file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.models.backbones import PyramidViT
from mmeffvit.visualization import files
from mmeffvit.visualization.attention import (
    draw_attention,
    example_photographs,
    find_image,
    images,
    read_image,
)

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("visualize", ROOT / "tools/visualize/attention.py")
tool = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tool)

ARCH = {
    "embed_dims": (8, 8, 16, 16),
    "depths": (1, 1, 1, 1),
    "num_heads": (2, 2, 2, 2),
    "mlp_ratios": (1, 1, 1, 1),
    "layer_scale": (None, None, None, None),
    "mixers": [{"type": "mmeffvit.SECMixer", "num_clusters": k} for k in (4, 3, 2, 1)],
}
BACKBONE = f"mmeffvit.PyramidViT:arch={ARCH}"


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "leaf.png"
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def saved(monkeypatch):
    """What the command would write: path -> figure."""
    figures = {}
    monkeypatch.setattr(files, "save_picture", lambda figure, path: figures.update({path: figure}))
    return figures


def run(*arguments):
    tool.main([str(argument) for argument in arguments])


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def pictures(figure):
    return [np.asarray(axes.images[-1].get_array()) for axes in figure.axes if axes.lines]


@pytest.mark.parametrize("name", ["new/sheet.jpg", "sheet.png"])
def test_writes_a_whole_file(image, tmp_path, capsys, name):
    out = tmp_path / "out" / name
    run(image, "--backbone", BACKBONE, "--size", 64, 96, "--stages", 1, "--out", out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    with Image.open(out) as picture:
        assert picture.format == ("PNG" if name.endswith("png") else "JPEG")
        picture.load()
        assert picture.width > 1000
    assert f"[1/1] {out}" in capsys.readouterr().out


def test_several_images_go_to_a_folder(image, tmp_path, saved):
    other = tmp_path / "tree.png"
    Image.new("L", (40, 40)).save(other)
    run(image, other, "--backbone", BACKBONE, "--features", "--size", 32, 64, "--out", tmp_path)
    assert list(saved) == [
        tmp_path / f"{stem}_mmeffvit.PyramidViT_features.png" for stem in ("leaf", "tree")
    ]
    for figure in saved.values():
        assert "stage 0: 8 × 8 × 16" in words(figure)
        assert "random weights" in words(figure)


def test_weights_of_a_whole_detector(image, tmp_path, saved, capsys):
    torch.manual_seed(7)
    backbone = PyramidViT(ARCH)
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    checkpoint = tmp_path / "detector.pth"
    torch.save({"state_dict": {**state, "neck.conv.weight": torch.ones(1)}, "meta": {}}, checkpoint)
    common = (image, "--backbone", BACKBONE, "--query", 10, 60, "--size", 64, 96)
    common = (*common, "--out", tmp_path / "a.png")
    run(*common, "--checkpoint", checkpoint)
    assert f"{len(state)} tensors loaded" in capsys.readouterr().out
    (figure,) = saved.values()
    assert "weights: detector.pth" in words(figure)
    assert "random" not in words(figure)
    expected = draw_attention(backbone, read_image(image), size=(64, 96), query=(10, 60))
    for got, want in zip(pictures(figure), pictures(expected), strict=True):
        np.testing.assert_array_equal(got, want)
    run(*common)
    (figure,) = saved.values()
    assert any((a != b).any() for a, b in zip(pictures(figure), pictures(expected)))


def test_backbone_of_a_config():
    config = str(ROOT / "configs/demo/mask_rcnn_secvit_demo.py")
    backbone = tool.build(config).backbone
    assert type(backbone).__name__ == "SecViT"
    assert backbone.arch["embed_dims"] == (32, 64, 128, 256)
    assert tool.name_of(config) == "mask_rcnn_secvit_demo"


def test_neck_of_a_config(saved, image, tmp_path):
    config = tmp_path / "small.py"
    neck = {"type": "mmeffvit.CrossScaleAttention", "in_channels": [8, 8, 16, 16], "channels": 8}
    model = {
        "type": "mmdet.RetinaNet",
        "backbone": {"type": "mmeffvit.PyramidViT", "arch": ARCH},
        "neck": [neck],
        "bbox_head": {"type": "mmdet.RetinaHead", "num_classes": 1, "in_channels": 8},
    }
    config.write_text(f"model = {model}")
    run(image, "--backbone", config, "--neck", "--out", tmp_path / "neck.png")
    (figure,) = saved.values()
    assert "Block 0 (the last) of the neck" in words(figure)
    for wrong in ([image, "--backbone", BACKBONE], [image, "--backbone", config, "--features"]):
        with pytest.raises(SystemExit):
            run(*wrong, "--neck")


def test_photographs_come_with_scikit_image():
    pytest.importorskip("skimage")
    photographs = example_photographs()
    assert len(photographs) == 4
    for path in photographs:
        assert read_image(path).shape[2] == 3
        assert find_image(path.stem) == path


def test_own_files_come_before_photographs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("chelsea").write_text("")
    assert find_image("chelsea") == Path("chelsea")
    assert find_image("no/rocket") == Path("no/rocket")


def test_no_image_and_no_scikit_image(monkeypatch):
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="no image is given, and scikit-image, whose"):
        run("--backbone", BACKBONE)


def test_what_cannot_be_drawn(image, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'secvit-tiny'"):
        run(image, "--backbone", "secvit-tinny")
    with pytest.raises(ValueError, match=r"there is no image at '.*gone\.png'"):
        run(tmp_path / "gone.png", "--backbone", BACKBONE)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        run(image, "--backbone", BACKBONE, "--checkpoint", tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="no stage 4"):
        run(image, "--backbone", BACKBONE, "--stages", 4, "--out", tmp_path)
    with pytest.raises(ValueError, match="no head 2 in stage 1"):
        run(image, "--backbone", BACKBONE, "--stages", 1, "--heads", 2, "--out", tmp_path)
    with pytest.raises(ValueError, match=r"query \(50, 0\) is not in the image"):
        run(image, "--backbone", BACKBONE, "--query", 50, 0, "--out", tmp_path)
    other = PyramidViT({**ARCH, "embed_dims": (8, 16, 16, 16)}).state_dict()
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit PyramidViT"):
        run(image, "--backbone", BACKBONE, "--checkpoint", tmp_path / "other.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaf.png", "other.pth"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "b.png", "--out", "c.png"], "c.png is one file; give one image, or a folder"),
        (["a.png", "--out", "c.pdf"], "c.pdf is neither a folder nor one of .png, .jpg"),
    ],
)
def test_impossible_outputs(capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(*arguments, "--backbone", "secvit-tiny")
    assert message in capsys.readouterr().err
