"""docs/add_a_network.md, followed word by word in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from .documents import ROOT, WALKED_THROUGH, blocks

(DOCUMENT,) = WALKED_THROUGH
_NEW = re.compile(r"# ([\w/]+\.py)\n")
_ADDED = re.compile(r"# add to ([\w/]+\.py)\n")

#: the tests, what the text says of its config and of the drawing of attention, and the commands
CHECK = """
import runpy
import shlex
import sys

# what the toolboxes import where it is installed takes seconds, and nothing here needs it
sys.modules.update(dict.fromkeys(["imgaug", "timm", "transformers"]))
import numpy as np
import pytest

tests, *commands = map(shlex.split, sys.argv[1:])
assert not pytest.main(tests)

from mmengine.config import ConfigDict
from mmengine.registry import MODELS

import mmeffvit
from mmeffvit.visualization.attention import draw_attention

assert mmeffvit.list_backbones("rowvit-*") == ["rowvit-tiny"]
names = {}
exec(open("config.py").read(), names)
cfg = ConfigDict(names["backbone"])
assert cfg.pop("_delete_")
cfg.arch.embed_dims, cfg.arch.depths = (16, 32, 64, 64), (1, 1, 1, 1)
backbone = MODELS.build(cfg)
assert [type(stage.blocks[0].mixer).__name__ for stage in backbone.stages[1:3]] == [
    "RowMixer", "SECMixer"
]
image = np.zeros((64, 96, 3), dtype=np.uint8)
assert draw_attention(backbone, image, stages=[0], size=(64, 96))

for command in commands:
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""

#: of the tests of all backbones, those that take a second together
CONTRACT = (
    "named",
    "(shapes and 33)",
    "every_parameter",
    "state_dict",
    "toolbox_config",
    "freezing",
    "(rest and 1)",
    "recognised",
    "published",
    "get_deeper",
    "do_not_mix",
)


@pytest.fixture
def project(tmp_path):
    """A copy of what the steps touch; everything else is a link."""
    skip = shutil.ignore_patterns("__pycache__", ".mim")
    shutil.copytree(ROOT / "mmeffvit", tmp_path / "mmeffvit", ignore=skip)
    (tmp_path / "mmeffvit/.mim").mkdir()
    for name in ("configs", "tools", "model-index.yml"):
        (tmp_path / "mmeffvit/.mim" / name).symlink_to(ROOT / name)
    for name in ("tools", "configs", "docs", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "processes.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    for name in ("ops", "models"):
        shutil.copytree(ROOT / "tests" / name, tmp_path / "tests" / name, ignore=skip)
    return tmp_path


@pytest.mark.slow
def test_follow_the_steps(project):
    commands = []
    for block in (b for b in blocks() if b.document == DOCUMENT):
        if block.language == "bash":
            commands += block.text.replace("\\\n", "").splitlines()
        elif added := _ADDED.match(block.text):
            path = project / added[1]
            path.write_text(path.read_text() + "\n" + block.text)
        elif new := _NEW.match(block.text):
            path = project / new[1]
            assert not path.exists(), f"{path} is there already"
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        else:
            (project / "config.py").write_text(block.text)
    tests = [words for words in commands if words.startswith("python -m pytest ")]
    tools = [words.removeprefix("python ") for words in commands if words not in tests]
    assert len(tests) + len(tools) == len(commands) == 4
    operator, contract = (words.split()[3:] for words in tests)
    assert contract[-2:] == ["-k", "rowvit"]
    selected = f"implementations or rowvit and ({' or '.join(CONTRACT)})"
    files = [word for word in (*operator, *contract[:-1]) if word.endswith(".py")]
    (project / "check.py").write_text(CHECK)
    arguments = shlex.join(["-n", "0", "-q", *files, "-k", selected])
    printed = run(project, "check.py", arguments, *tools)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 20
    assert "type='mmeffvit.RowViT', arch='tiny', out_indices=(1, 2, 3)" in printed
    assert "rowvit-tiny" in printed
    assert (project / "work_dirs/retinanet_rowvit.py").is_file()


def run(project, *words):
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    # the tests give a worker its share of the processors: here one
    environment["PYTEST_XDIST_WORKER_COUNT"] = str(os.cpu_count() or 1)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=250,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-6000:]}"
    return done.stdout
