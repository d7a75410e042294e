"""Every command of the documents does what it says.

What is done in seconds is run. What trains, installs or needs data that is not here is checked by
the tool's own parser, and every config, backbone and file it names is looked up or built. A command
that nothing here knows how to check fails.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from maintenance import shapes
from mmeffvit import create_backbone, list_backbones
from mmeffvit.analysis.backbones import build_backbone
from mmeffvit.engine import launch
from mmeffvit.models.weights import find_weights_file, list_weights
from mmeffvit.swap import command_line
from tests.tools import runs

from .documents import DOCUMENTS, ROOT, blocks, commands

UPERNET = "configs/rmt/upernet_rmt-s_8xb2-160k_ade20k-512x512.py"
#: words that stand for something of the reader's
PLACEHOLDERS = {
    "CONFIG": "configs/mask_rcnn_secvit.py",
    "CHECKPOINT": "checkpoint.pth",
    "DIR": "data/cells",
    "IMAGE": "image.jpg",
    "IMAGES...": "image.jpg",
    "FILE": "tests/data/golden/secvit.npz",
    "*NETWORK*": "*secvit*",
}
#: where the text speaks of a certain kind of model
PLACEHOLDERS_OF = {"docs/segmentation.md": {"CONFIG": UPERNET}}
#: what is not this project's to check
FOREIGN = {
    "git clone <this repository> mmeffvit",
    "cd mmeffvit",
    "source .venv/onedl/bin/activate",
    "pre-commit install",
}
#: tools that are run as documented, with these arguments added so that it takes a second
RUN = {
    "tools/doctor.py": (),
    "tools/swap_backbone.py": (),
    "tools/set_dataset.py": (),
    "tools/analysis/complexity.py": (),
    "tools/export_digits.py": ("--num-train", "2", "--num-val", "1"),
}


def substitute(command):
    own = {**PLACEHOLDERS, **PLACEHOLDERS_OF.get(command.document, {})}
    return [own.get(word, word) for word in command.words]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a reader who has this repository's files and wrote the documents' config."""
    for name in ("configs", "tools", "tests", "requirements", "docs", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    config = next(  # the one that the commands after it call my_config.py
        b.text for b in blocks() if b.document == "docs/get_started.md" and "_base_" in b.text
    )
    (tmp_path / "my_config.py").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "tools/analysis")  # tools there import one another
    monkeypatch.setenv("LOCAL_RANK", "0")
    with DefaultScope.overwrite_default_scope("mmengine"):
        yield tmp_path


def check_config(path, cfg):
    """Configs of this repository are built by their own tests; others are built here."""
    if not path.startswith("configs/"):
        with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
            assert MODELS.build(cfg.model)


def check_launch(args, words):
    cfg = command_line.load_config(args)
    if getattr(args, "auto_scale_lr", False):
        launch.enable_auto_scale_lr(cfg)
    check_config(args.config, cfg)
    return cfg


@functools.cache
def check_backbone(spec):
    if spec in list_backbones():
        with torch.device("meta"):
            assert create_backbone(spec)
    elif not spec.endswith(".py"):
        assert build_backbone(spec)


def check_attention(args, words):
    from mmeffvit.visualization.attention import find_image

    check_backbone(args.backbone)
    for image in args.images:
        if "." not in image:
            assert find_image(image).is_file()
    stages = args.stages or [0]
    assert set(stages) <= {0, 1, 2, 3}


def check_benchmark(args, words):
    for spec in args.backbones:
        check_backbone(spec)


def check_conversion(args, words):
    if args.model:
        check_config(args.model, launch.load_config(args.model))
        return
    name = args.target.stem
    assert name in list_backbones() or name.startswith(
        ("condaformer-", "flatformer-", "duoformer-")
    )
    assert name.startswith(f"{args.family}-")


def check_weights(args, words):
    if args.command == "list":
        assert list_weights(args.pattern)
    else:
        find_weights_file(args.name)


def check_comparison(args, words):
    launch.load_config(args.config)
    for spec in args.backbones:
        if spec != "config":
            check_backbone(spec)


def check_prediction(args, words):
    check_config(args.config, launch.load_config(args.config))


#: tools whose arguments are parsed, and what they name is looked up
PARSED = {
    "tools/train.py": check_launch,
    "tools/test.py": check_launch,
    "tools/check_data.py": check_launch,
    "tools/predict.py": check_prediction,
    "tools/compare_backbones.py": check_comparison,
    "tools/convert_checkpoint.py": check_conversion,
    "tools/weights.py": check_weights,
    "tools/merge_adapters.py": lambda args, words: None,
    "tools/visualize/attention.py": check_attention,
    "tools/analysis/benchmark.py": check_benchmark,
    "tools/analysis/benchmark_points.py": lambda args, words: None,
    "tools/analysis/compile_report.py": check_benchmark,
    "tools/analysis/deployment.py": lambda args, words: None,
    "tools/analysis/gpu_report.py": lambda args, words: None,
    "tools/analysis/model_zoo.py": lambda args, words: None,
    "tools/analysis/swap_zoo.py": lambda args, words: None,
    "tools/analysis/tuning.py": lambda args, words: None,
    "tools/export.py": check_prediction,
    "tools/quantize.py": lambda args, words: launch.load_config(args.evaluate),
    "tools/export_onnx.py": lambda args, words: None,
    "tools/export_points.py": lambda args, words: None,
    "tools/build_object_database.py": lambda args, words: None,
}


def check_checkpoint(path, words):
    """work_dirs/NAME/epoch_N.pth is what training one of the configs for N epochs makes."""
    name, epoch = re.fullmatch(r"work_dirs/(.+)/epoch_(\d+)\.pth", path).groups()
    found = list(ROOT.glob(f"configs/**/{name}.py"))
    if found:
        cfg = launch.load_config(str(found[0]))
    else:
        config = next(word for word in words if word.endswith(".py") and "/" in word[6:])
        parser = command_line.launch_parser("", "")
        options = [o for o in ("--backbone", "--dataset") if o in words]
        options = [word for o in options for word in (o, words[words.index(o) + 1])]
        cfg = command_line.load_config(parser.parse_args([config, *options]))
        assert cfg.work_dir == f"work_dirs/{name}" or Path(cfg.work_dir).name == name
    assert int(epoch) <= cfg.train_cfg.max_epochs


def check_tool(words, folder):
    """`words` are the script and its arguments."""
    script, *rest = words
    for word in rest:
        if word.startswith(("configs/", "tests/", "docs/", "tools/", "requirements/")):
            assert (ROOT / word).exists(), f"{word} does not exist"
        if re.fullmatch(r"work_dirs/.+/epoch_\d+\.pth", word):
            check_checkpoint(word, words)
    tool = script.removeprefix("tools/")
    if script in RUN:
        with runs.main(tool) as main:
            assert not main(*rest, *RUN[script])
        return
    assert script in PARSED, f"{script} is in neither RUN nor PARSED of {Path(__file__).name}"
    module = runs.load(tool)
    parse = getattr(module, "parse_args", None) or module.parse_arguments
    PARSED[script](parse(rest), words)


def check_python(words, folder):
    if words[1] == "-c":
        exec(compile(words[2], "command", "exec"), {})
    elif words[1:3] == ["-m", "pytest"]:
        check_tests(words[3:])
    elif words[1] == "-m" and words[2].startswith("maintenance."):
        assert find_spec(words[2])
    elif words[1] == "-m":
        assert words[2] == "mmeffvit.testing.check_golden"
        from mmeffvit.testing.command_line import main

        assert all(Path(word).is_file() for word in words[3:])
        if "secvit" in words[3]:
            assert main(words[3:]) == 0
    else:
        check_tool(words[1:], folder)


def check_tests(words):
    """Files and folders are there, and so are the marks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int)
    parser.add_argument("-m", default="")
    parser.add_argument("-k", default="")
    parser.add_argument("paths", nargs="*", type=Path)
    args = parser.parse_args(words)
    assert all(path.exists() for path in args.paths)
    assert set(args.m.split()) <= {"not", "slow"}
    assert not args.k or any(name.startswith(args.k) for name in list_backbones())


def check_launcher(words, folder):
    """The script itself runs, with an `echo` in place of Python: what it would start is checked."""
    environment = {**os.environ, "PYTHON": "echo"}
    done = subprocess.run(
        words, env=environment, check=True, text=True, capture_output=True, timeout=60
    )
    started = done.stdout.split()
    position = next(i for i, word in enumerate(started) if re.search(r"/tools/\w+\.py$", word))
    assert any(word.startswith("--nproc_per_node=") for word in started[:position])
    script = str(Path(started[position]).resolve().relative_to(ROOT))
    check_tool([script, *started[position + 1 :]], folder)


def check_make(words, folder):
    """What the target would run is checked, without its installation."""
    if shutil.which("make") is None:
        pytest.skip("make is not on the PATH")
    done = subprocess.run(
        [words[0], "-n", *words[1:]], text=True, capture_output=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if "/bin/python tools/" in line:
            check_tool(line.split()[1:], folder)


def check_pip(words, folder):
    """Files and extras exist."""
    extras = set(metadata("mmeffvit").get_all("Provides-Extra"))
    for word in words:
        for name in re.findall(r"^\.\[(.+)\]$", word):
            assert set(name.split(",")) <= extras
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()


CHECKS = {
    "python": check_python,
    "bash": check_launcher,
    "make": check_make,
    "pip": check_pip,
}


def write_own_data(words):
    """Folders that documents call the reader's own."""
    if "data/cells" in words:
        shapes.write_coco(Path("data/cells"))
    if "data/roads" in words:
        shapes.write_label_maps(Path("data/roads"))
    if "data/birds" in words:
        shapes.write_classes(Path("data/birds"))


@pytest.mark.usefixtures("bases_read_once")
@pytest.mark.parametrize("command", commands(), ids=lambda command: command.place)
def test_command(command, folder):
    if str(command) in FOREIGN:
        return
    words = substitute(command)
    while "=" in words[0]:  # a variable of the environment
        assert re.fullmatch(r"[A-Z_]+=.+", words[0])
        words = words[1:]
    write_own_data(words)
    assert words[0] in CHECKS, f"{command.place}: nothing here can check '{command}'"
    try:
        CHECKS[words[0]](words, folder)
    except SystemExit as error:
        pytest.fail(f"{command.place}: '{command}' is refused: {error}")


def test_lists_are_used():
    """A tool that no document names any more leaves the lists."""
    text = " ".join(path.read_text() for path in DOCUMENTS)
    assert [tool for tool in RUN if tool not in text] == []
    assert [command for command in FOREIGN if command not in text] == []


def test_links():
    """Files that documents link to are there."""
    fences = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
    missing = []
    for path in {*DOCUMENTS, *ROOT.glob("*.md"), *ROOT.glob("mmeffvit/**/README.md")}:
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", fences.sub("", path.read_text())):
            if not re.match("https?:|mailto:", target) and not (path.parent / target).exists():
                missing.append(f"{path.relative_to(ROOT)}: {target}")
    assert missing == []


def test_the_index_names_every_page():
    """docs/README.md leads to all pages, networks and derivations."""
    index = ROOT / "docs/README.md"
    targets = re.findall(r"\]\(([^)\s#]+)", index.read_text())
    linked = {(index.parent / target).resolve() for target in targets if ":" not in target}
    pages = {*ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/*/README.md")} - {index}
    pages |= {*ROOT.glob("mmeffvit/ops/*/README.md"), ROOT / "CONTRIBUTING.md"}
    assert [str(page.relative_to(ROOT)) for page in sorted(pages - linked)] == []


def test_lines_are_of_one_width():
    """Tables, pictures and what is generated may be wider."""
    generated = re.compile(r"<!-- model-zoo: .*?<!-- /model-zoo -->", re.DOTALL)
    derivations = ROOT.glob("mmeffvit/**/README.md")
    wide = []
    for path in {*DOCUMENTS, *ROOT.glob("*.md"), *derivations} - {ROOT / "docs/swap_table.md"}:
        text = generated.sub(lambda block: "\n" * block[0].count("\n"), path.read_text())
        for number, line in enumerate(text.splitlines(), start=1):
            if len(line) > 120 and not line.startswith(("|", "![")):
                wide.append(f"{path.relative_to(ROOT)}:{number}: {len(line)} columns")
    assert wide == []
