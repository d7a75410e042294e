"""tools/export_digits.py: exactly COCO's layout, and nothing of anybody else's is touched."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from pycocotools.coco import COCO

_SPEC = importlib.util.spec_from_file_location(
    "export_digits", Path(__file__).parents[2] / "tools" / "export_digits.py"
)
export_digits = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(export_digits)

_TINY = ["--num-train", "5", "--num-val", "3", "--size", "96", "128"]


def test_layout_is_that_of_coco_2017(tmp_path, capsys):
    out = tmp_path / "coco"
    assert export_digits.main(["--out", str(out), *_TINY]) == 0
    said = capsys.readouterr().out
    assert "train 5/5 images" in said
    assert "0 = person, 1 = bicycle" in said
    assert "9 = traffic light" in said
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == [
        "annotations",
        "train2017",
        "val2017",
    ]
    for split, number in (("train", 5), ("val", 3)):
        coco = COCO(str(out / "annotations" / f"instances_{split}2017.json"))
        assert len(coco.cats) == 80
        assert len(coco.imgs) == number
        names = {p.name for p in (out / f"{split}2017").iterdir()}
        assert names == {info["file_name"] for info in coco.imgs.values()}
        for info in coco.imgs.values():
            assert re.fullmatch(r"\d{12}\.jpg", info["file_name"])
            assert int(info["file_name"][:12]) == info["id"]
        for annotation in coco.anns.values():
            assert annotation.keys() == {
                "segmentation",
                "area",
                "iscrowd",
                "image_id",
                "bbox",
                "category_id",
                "id",
            }
            assert 1 <= annotation["category_id"] <= 10


def test_running_again_keeps_what_is_there(tmp_path, capsys):
    args = ["--out", str(tmp_path / "coco"), *_TINY]
    export_digits.main(args)
    assert export_digits.main(args) == 0
    assert "there already" in capsys.readouterr().out


def test_the_real_coco_is_never_overwritten(tmp_path, capsys):
    annotations = tmp_path / "coco" / "annotations"
    annotations.mkdir(parents=True)
    real = annotations / "instances_train2017.json"
    real.write_text('{"images": []}')
    assert export_digits.main(["--out", str(tmp_path / "coco"), *_TINY]) == 1
    message = capsys.readouterr().err
    assert "coco already exists and was not written by mmeffvit" in message
    assert "Choose another folder" in message
    assert real.read_text() == '{"images": []}'
    assert [p.name for p in (tmp_path / "coco").iterdir()] == ["annotations"]


def test_digits_layout(tmp_path):
    out = tmp_path / "digits"
    args = ["--layout", "digits", "--out", str(out), "--num-train", "2", "--num-val", "1"]
    assert export_digits.main([*args, "--size", "64"]) == 0
    document = json.loads((out / "annotations" / "train.json").read_text())
    assert [c["name"] for c in document["categories"]] == list("0123456789")
    assert {(i["height"], i["width"]) for i in document["images"]} == {(64, 64)}


def test_wrong_arguments(tmp_path, capsys):
    assert export_digits.main(["--out", str(tmp_path / "x"), "--size", "16"]) == 1
    assert "image_size is 16; it must be at least 64" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export_digits.main(["--out", str(tmp_path / "x"), "--size", "1", "2", "3"])


def test_layout_is_that_of_ade20k(tmp_path, capsys):
    assert export_digits.main(["--layout", "ade20k", "--out", str(tmp_path / "ade"), *_TINY]) == 0
    said = capsys.readouterr().out
    assert "ADEChallengeData2016: 5 + 3 images" in said
    assert "digit d = d + 1, what is no digit = 11, crowds = 0" in said
    (root,) = (tmp_path / "ade").glob("[!.]*")
    for split, number in (("training", 5), ("validation", 3)):
        for part, suffix in (("images", ".jpg"), ("annotations", ".png")):
            files = list((root / part / split).iterdir())
            assert len(files) == number
            assert {file.suffix for file in files} == {suffix}
