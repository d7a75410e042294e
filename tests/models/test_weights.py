"""The catalogue of published weights: every entry has the form that fetching relies on."""

import re
from pathlib import Path

import pytest
import yaml

import mmeffvit
from mmeffvit.models.weights import find_weights_file, list_weights, weights_files
from mmeffvit.models.zoo import network_classes

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = weights_files()


def test_names_are_there_once_each():
    owners = [cls for cls in network_classes().values() if vars(cls).get("weights")]
    assert sum(len(cls.weights) for cls in owners) == len(FILES) > 90
    assert {cls.family for cls in owners} == {
        *("ravlt", "rmt", "secvit", "ssvit", "ppma", "cswin", "nat", "dinat", "uniformer"),
        *("crossformer", "condaformer", "crossvit", "resformer", "sret"),
    }


@pytest.mark.parametrize("name", FILES)
def test_form(name):
    file = FILES[name]
    family = next(cls for cls in network_classes().values() if file in vars(cls).get("weights", ()))
    assert file.network in {f"{family.family}-{variant}" for variant in family.arch_zoo}
    assert family.official_rules, "a file that nothing converts"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", file.tag)
    assert file.task
    assert file.licence
    assert [bool(file.url), file.hub is not None, bool(file.share)].count(True) == 1
    if file.url:
        assert re.fullmatch(r"https://[\w.-]+/[\w./%-]+\.(pth|pt|tar|bin|safetensors)", file.url)
    if file.hub:
        repository, path = file.hub
        assert re.fullmatch(r"[\w-]+/[\w-]+", repository)
        assert re.fullmatch(r"[\w/*-]+\.(pth|bin|safetensors)", path)
    assert file.file_name or file.share
    assert re.fullmatch(r"([0-9a-f]{8,64})?", file.sha256)
    assert file.size is None or 1e6 < file.size < 5e9
    assert all(5 < figure < 100 for figure in file.figures.values())


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.config])
def test_whole_models_have_a_config_and_its_published_figures(name):
    file = FILES[name]
    path = CONFIGS / file.config
    assert path.is_file()
    metafile = yaml.safe_load((path.parent / "metafile.yml").read_text())
    model = next(m for m in metafile["Models"] if m["Name"] == path.stem)
    for figure, value in file.figures.items():
        assert model["Published"][figure] == value


def test_listing_and_finding():
    assert mmeffvit.list_weights("ravlt-tiny/*") == [
        "ravlt-tiny/fpn",
        "ravlt-tiny/in1k",
        "ravlt-tiny/mask-rcnn-1x",
        "ravlt-tiny/retinanet-1x",
    ]
    assert list_weights("no-*") == []
    file = find_weights_file("ravlt-base/in1k")
    assert file is find_weights_file("mmeffvit://ravlt-base/in1k")
    assert file is find_weights_file("in1k", "ravlt-base")
    assert file.file_name == "RAVLT_B.pth"
    assert file.source == "huggingface.co/aldjalkdf/RAVLT, file RAVLT_B.pth"
    assert len(list_weights()) == len(FILES)


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("ravlt-tiny/in22k", None, r"those of ravlt-tiny are ravlt-tiny/in1k, .*mask-rcnn-1x"),
        ("in22k", "cswin-tiny", "no weights are called 'cswin-tiny/in22k'; those of cswin-tiny"),
        ("ravlt-tinny/in1k", None, "did you mean .*'ravlt-tiny/in1k'"),
        ("xyz", None, r"mmeffvit.list_weights\(\) names all"),
    ],
)
def test_names_that_are_not_there(name, network, message):
    with pytest.raises(ValueError, match=message):
        find_weights_file(name, network)
