"""The shape of the package: what importing costs, who imports whom, what the wheel carries."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from mmengine.registry import Registry

from mmeffvit import compat, registry
from mmeffvit.version import require_torch, too_old

ROOT = Path(__file__).parents[1]

# floors of the house, lowest first; a module imports from its own floor or from below
FLOORS = [
    {"registry", "errors", "configs", "structures", "files", "runtime", "version"},
    {"ops"},
    {"compat"},  # what mmcv's compiled operators are replaced by calls our ops
    {"layers"},
    {"models"},
    {"datasets", "demo_data", "checkpoint"},
    {"engine", "visualization", "testing", "classification", "segmentation"},
    {"analysis", "deploy", "swap"},
]
# what the package itself offers -> where it is from
OFFERS = {
    "create_backbone": "models",
    "create_classifier": "models",
    "list_backbones": "models",
    "swap_backbone": "swap",
}
# beside the package: they use it, and it knows nothing of them
OUTSIDE = {"tools", "maintenance", "tests", "configs"}
TOOLBOXES = {"mmcv", "mmdet", "mmseg", "mmpretrain", "mmdet3d"}
PACKAGE = ROOT / "mmeffvit"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
# networks, each of which is read from top to bottom
NETWORKS = sorted(
    path
    for part in ("backbones", "heads", "necks", "points")
    for path in (PACKAGE / "models" / part).rglob("*.py")
    if path.name != "__init__.py"
)


@functools.cache
def imported(path):
    """Full names of all that a module imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def rooms(path):
    """Rooms of the house that a module imports from."""
    names = (name.split(".") for name in imported(path))
    inner = {parts[1] for parts in names if parts[0] == "mmeffvit" and len(parts) > 1}
    return {OFFERS.get(name, name) for name in inner}


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def floor(name):
    found = [i for i, names in enumerate(FLOORS) if name in names]
    assert found, f"{name} stands on no floor; add it to FLOORS"
    return found[0]


def climbs(path):
    """What a module imports that it may not."""
    own, forbidden = room(path), set(OUTSIDE)
    if own in {"ops", "layers", "models"}:
        forbidden |= TOOLBOXES
    if own == "ops":
        forbidden.add("mmengine")
    found = {other for other in rooms(path) if floor(other) > floor(own)}
    if own == "datasets":  # what people have knows nothing of what is made up
        found |= rooms(path) & {"demo_data"}
    return found | {name.partition(".")[0] for name in imported(path)} & forbidden


def test_imports_go_down_only(monkeypatch):
    assert len(SOURCES) > 300
    wrong = {str(path.relative_to(ROOT)): climbs(path) for path in SOURCES}
    assert {path: names for path, names in wrong.items() if names} == {}
    monkeypatch.setitem(globals(), "FLOORS", FLOORS[::-1])  # upside down, it is seen
    assert any(map(climbs, SOURCES))


def test_rooms_of_a_floor_have_an_order():
    """Those that import from one another do not do so in a circle."""
    graph = {}
    for path in SOURCES:
        same = {other for other in rooms(path) if floor(other) == floor(room(path))}
        graph.setdefault(room(path), set()).update(same - {room(path)})
    graphlib.TopologicalSorter(graph).prepare()


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_files_of_networks_are_short():
    lines = {path.name: len(path.read_text().splitlines()) for path in NETWORKS}
    assert {name: count for name, count in lines.items() if count > 250} == {}


def test_no_ten_lines_stand_in_two_networks():
    found = {}
    for path in NETWORKS:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        for first in range(len(lines) - 9):
            found.setdefault(tuple(lines[first : first + 10]), set()).add(path.name)
    assert [(names, run[0]) for run, names in found.items() if len(names) > 1] == []


def test_importing_needs_torch_only_and_the_networks_no_toolbox():
    done = run(f"""
import sys
blocked = {TOOLBOXES | {"mmengine", "transformers"}}
class Blocked:
    def find_spec(self, name, *args):
        if name.split('.')[0] in blocked:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import mmeffvit, mmeffvit.ops
blocked.remove("mmengine")
mmeffvit.create_backbone('secvit-tiny', out_indices=(0,))
""")
    assert done.returncode == 0, done.stderr


def test_no_registry_claims_that_the_package_is_not_installed():
    """As mmengine does in the log of a training, where a registry has no locations."""
    for name, child in vars(registry).items():
        if isinstance(child, Registry) and child.scope == "mmeffvit":
            assert child._locations, name


def test_every_registry_location_imports():
    # mmengine hides an ImportError raised while it looks for a scope
    locations = {
        location
        for child in vars(registry).values()
        for location in getattr(child, "_locations", [])
    }
    assert "mmeffvit.models" in locations
    for location in sorted(locations):
        import_module(location)


def test_types_resolve_in_the_scope_of_a_toolbox():
    from mmdet.registry import MODELS

    assert MODELS.get("mmeffvit.SecViT").__name__ == "SecViT"
    assert MODELS.get("mmeffvit.SECMixer").__name__ == "SECMixer"


@pytest.mark.slow
def test_wheel_carries_configs_tools_and_index(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
        + ["--wheel-dir", str(tmp_path), "--quiet"],
        check=True,
        cwd=_clean_copy(tmp_path / "source"),
        timeout=200,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "mmeffvit/.mim/configs/mask_rcnn_secvit.py" in names
    assert "mmeffvit/.mim/tools/train.py" in names
    assert "mmeffvit/.mim/model-index.yml" in names
    assert "mmeffvit/ops/sec_attention/fused.py" in names
    assert not [name for name in names if name.endswith((".pyc", ".npz")) or "tests/" in name]
    # what keeps the repository in order
    for part in ("maintenance", "swap_zoo", "model_zoo", "metafiles"):
        assert not [name for name in names if part in name]


def _clean_copy(target):
    """The tracked files, as a clone would have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.mark.parametrize("torch", ["1.13.1", "2.1.2", "2.5.1+cu121"])
def test_a_torch_that_runs_code_of_checkpoints_is_refused(torch, monkeypatch):
    monkeypatch.setattr("torch.__version__", torch)
    with pytest.raises(ImportError, match=rf"torch >= 2\.6, and this is {re.escape(torch)}.*pip "):
        require_torch()


@pytest.mark.parametrize("torch", ["2.6.0", "2.10.0a0+git1", "2.15.0+cpu", "3.0"])
def test_a_torch_that_does_not_is_taken(torch):
    assert too_old(torch) is None


def test_operators_and_set_up_ask_for_it(monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.5.1")
    monkeypatch.setattr("mmeffvit.compat._is_set_up", False)
    with pytest.raises(ImportError, match=r"needs torch >= 2\.6"):
        compat.setup()
    # every operator imports it
    spec = spec_from_file_location("dispatch_again", PACKAGE / "ops/dispatch.py")
    with pytest.raises(ImportError, match=r"needs torch >= 2\.6"):
        spec.loader.exec_module(module_from_spec(spec))
