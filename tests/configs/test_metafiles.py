"""Every config is in its folder's metafile and README, and every metafile in the model index."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
METAFILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*/metafile*.yml")
)
FOLDERS = sorted({Path(path).parent.as_posix() for path in METAFILES})


def _read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_model_index():
    assert sorted(_read("model-index.yml")["Import"]) == METAFILES


@pytest.mark.parametrize("folder", FOLDERS)
def test_configs_of_a_folder(folder):
    readme = (ROOT / folder / "README.md").read_text()
    listed = []
    for metafile in METAFILES:
        if Path(metafile).parent != Path(folder):
            continue
        content = _read(metafile)
        collections = {collection["Name"]: collection for collection in content["Collections"]}
        for model in content["Models"]:
            assert model["Name"] == Path(model["Config"]).stem
            assert collections[model["In Collection"]]["README"] == f"{folder}/README.md"
            assert f"({Path(model['Config']).name})" in readme, model["Name"]
            listed.append(model["Config"])
    assert sorted(listed) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.py")
    )
