"""The doctor on this environment, on no environment, and on broken ones."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmeffvit.compat import distribution

DOCTOR = Path(__file__).parents[2] / "tools" / "doctor.py"
HEALTHY = {
    "torch": "2.15.0",
    "torchvision": "0.29.2",
    "numpy": "2.2.6",
    "opencv-python-headless": "4.12.0.88",
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1",
    "onedl-mmsegmentation": "1.4.2",
    "onedl-mmpretrain": "1.3.6",
}
OFFICIAL = {
    "mmengine": "0.10.7",
    "mmcv-lite": "2.1.0",
    "mmdet": "3.3.0",
    "mmsegmentation": "1.2.2",
    "mmpretrain": "1.2.0",
}


@pytest.fixture
def doctor():
    spec = importlib.util.spec_from_file_location("doctor", DOCTOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def examine(monkeypatch, doctor, capsys):
    """The doctor's report on an environment that is described instead of installed."""

    def run(packages, errors=None, requirements=None, status=1):
        errors, requirements = errors or {}, requirements or {}
        monkeypatch.setattr(distribution, "installed_version", packages.get)
        monkeypatch.setattr(distribution, "import_error", errors.get)
        monkeypatch.setattr(distribution, "requirements", lambda name: requirements.get(name, []))
        assert doctor.main(["--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


def only_problem(report):
    (problem,) = report["problems"]
    return problem["what"], problem["repair"]


def test_this_environment(doctor, capsys):
    """In this process, which has imported the stack; the next test starts the tool as people do."""
    status = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert status == 0, report["problems"]
    assert report["usable"]
    assert report["distribution"] in ("onedl", "openmmlab")
    assert report["operators"] in ("compiled", "stand-ins")
    import torch

    assert report["packages"]["torch"] == distribution.installed_version("torch")
    assert len(report["gpus"]) == torch.cuda.device_count()


def test_nothing_installed():
    """An interpreter without any third package: the doctor still answers."""
    process = subprocess.run(
        [sys.executable, "-S", DOCTOR], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 1, process.stderr
    assert "torch is not installed" in process.stdout
    assert "pip install torch torchvision" in process.stdout
    assert "none of mmengine, mmcv, mmdet, mmseg, mmpretrain is installed" in process.stdout
    assert "[onedl]" in process.stdout
    assert "Not usable" in process.stdout


def test_healthy(examine):
    report = examine(HEALTHY, status=0)
    assert report["problems"] == []
    assert report["distribution"] == "onedl"
    assert "onedl-mmcv==2.3.6" in report["compile"] or report["operators"] == "compiled"
    others = {name: version for name, version in HEALTHY.items() if "onedl" not in name}
    assert examine({**others, **OFFICIAL}, status=0)["distribution"] == "openmmlab"


def test_torch_is_too_old(examine):
    what, repair = only_problem(examine({**HEALTHY, "torch": "2.5.1+cu121"}))
    assert "needs torch >= 2.6, and this is 2.5.1+cu121: a checkpoint can run code" in what
    assert repair.endswith("pip install --upgrade torch torchvision")


def test_torchvision_is_missing(examine):
    packages = {name: version for name, version in HEALTHY.items() if name != "torchvision"}
    what, repair = only_problem(examine(packages))
    assert what == "torchvision is not installed"
    assert repair.endswith("pip install torch==2.15.0 torchvision")


def test_torchvision_is_for_another_torch(examine):
    report = examine(HEALTHY, requirements={"torchvision": ["numpy", "torch==2.14.1", "pillow"]})
    what, repair = only_problem(report)
    assert what == "torchvision 0.29.2 is made for torch 2.14.1, not for 2.15.0"
    assert repair.endswith("pip install --force-reinstall torch==2.15.0 torchvision")


def test_torchvision_does_not_load(examine):
    error = "RuntimeError: operator torchvision::nms does not exist"
    packages = {**HEALTHY, "torch": "2.13.0+cpu"}
    what, repair = only_problem(examine(packages, errors={"torchvision": error}))
    assert "operator torchvision::nms does not exist" in what
    assert repair.endswith("pip install --force-reinstall torch==2.13.0 torchvision")


def test_mixed_distributions(examine):
    what, repair = only_problem(examine({**HEALTHY, **OFFICIAL}))
    assert "both own the modules mmengine, mmcv, mmdet, mmseg, mmpretrain" in what
    uninstall, install = repair.split(" && ")
    for name in (*OFFICIAL, *(name for name in HEALTHY if name.startswith("onedl"))):
        assert name in uninstall.split()
    assert "[onedl]" in install


def test_two_owners_of_one_module(examine):
    others = {name: version for name, version in HEALTHY.items() if "onedl" not in name}
    what, repair = only_problem(examine({**others, **OFFICIAL, "mmcv": "2.2.0"}))
    assert what == "mmcv-lite and mmcv both own the module mmcv"
    assert "uninstall --yes mmcv-lite mmcv && " in repair


def test_one_toolbox_is_missing(examine):
    packages = {name: version for name, version in HEALTHY.items() if name != "onedl-mmcv"}
    what, repair = only_problem(examine(packages))
    assert what == "mmcv (onedl-mmcv) is not installed"
    assert "[onedl]" in repair


def test_mmcv_is_too_new_for_the_official_toolboxes(examine):
    others = {name: version for name, version in HEALTHY.items() if "onedl" not in name}
    official = {name: version for name, version in OFFICIAL.items() if name != "mmcv-lite"}
    error = "AssertionError: MMCV==2.2.0 is used but incompatible."
    report = examine({**others, **official, "mmcv": "2.2.0"}, errors={"mmdet": error})
    what, repair = only_problem(report)
    assert "MMCV==2.2.0 is used but incompatible" in what
    assert "uninstall --yes mmcv && " in repair
    assert "[openmmlab]" in repair


@pytest.mark.parametrize(
    ("error", "command"),
    [
        ("ModuleNotFoundError: No module named 'addict'", "[onedl]"),
        ("SyntaxError: invalid syntax", "--force-reinstall --no-deps onedl-mmengine==0.10.12"),
    ],
)
def test_a_toolbox_does_not_load(examine, error, command):
    what, repair = only_problem(examine(HEALTHY, errors={"mmengine": error}))
    assert error in what
    assert command in repair


def test_detectors_do_not_load(examine):
    report = examine(HEALTHY, errors={"mmdet.models": "ImportError: no operators"})
    assert only_problem(report)[0] == "mmdet.models cannot be imported (ImportError: no operators)"


def test_opencv_without_libgl(examine):
    error = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    packages = {**HEALTHY, "opencv-python": "4.12.0.88"}
    what, repair = only_problem(examine(packages, errors={"cv2": error}))
    assert "libGL.so.1" in what
    assert repair.endswith("--force-reinstall --no-deps opencv-python-headless==4.12.0.88")


def test_numpy_is_too_new(examine):
    packages = {**HEALTHY, "numpy": "2.4.0", "imaug": "0.4.3"}
    report = examine(packages, requirements={"imaug": ["numpy<2.3,>=1.26"]}, status=0)
    what, repair = only_problem(report)
    assert what.startswith("numpy 2.4.0 does not suit imaug 0.4.3, which asks for numpy")
    assert "numpy<2.3,>=1.26" in repair or "numpy>=1.26,<2.3" in repair
    report = examine(packages, errors={"numpy": "ImportError: numpy.core failed"})
    assert "numpy 2.4.0 cannot be imported" in only_problem(report)[0]


def test_requirements_for_other_pythons_do_not_count(examine):
    line = 'numpy<2.0; python_version < "3.9"'
    assert examine(HEALTHY, requirements={"onedl-mmcv": [line]}, status=0)["problems"] == []


def test_python_is_too_old(monkeypatch, doctor, capsys):
    ast.parse(DOCTOR.read_text(), feature_version=(3, 6))  # it has to start there to say so
    monkeypatch.setattr(doctor, "PYTHON", (3, 8))
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "is older than 3.10" in text
    assert "make install PYTHON=python3.10" in text


def test_text_names_every_problem_and_its_repair(monkeypatch, doctor, capsys):
    stack = distribution.Stack(
        python="3.11.7",
        system="Linux x86_64",
        packages=HEALTHY,
        distribution="onedl",
        operators="stand-ins",
        gpus=("A GPU",),
        problems=(
            distribution.Problem("this is broken", "repair --this"),
            distribution.Problem("that may be", "repair --that", fatal=False),
        ),
    )
    monkeypatch.setattr(distribution, "probe", lambda deep: stack)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    for part in ("WRONG: this is broken", "repair --this", "Doubtful: that may be", "A GPU"):
        assert part in text
    assert "pip install --no-build-isolation" in text
