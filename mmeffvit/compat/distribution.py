"""What is installed of the OpenMMLab stack, what is wrong with it, and the command that repairs it.

Works without torch and without any OpenMMLab package: only Python's own library is imported at the
top.
"""

import dataclasses
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from mmeffvit.version import too_old

# module: its distribution among the maintained forks, and among the official packages (first the
# one to install; the others provide the same module)
_MODULES = {
    "mmengine": ("onedl-mmengine", ("mmengine",)),
    "mmcv": ("onedl-mmcv", ("mmcv-lite", "mmcv", "mmcv-full")),
    "mmdet": ("onedl-mmdetection", ("mmdet",)),
    "mmseg": ("onedl-mmsegmentation", ("mmsegmentation",)),
    "mmpretrain": ("onedl-mmpretrain", ("mmpretrain",)),
}
_OTHERS = (
    "torch",
    "torchvision",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pycocotools",
)
# torch's headers want C++20 from here on, and mmcv's build asks for C++17
_TORCH_WITHOUT_MMCV_BUILD = "2.15"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        what: One sentence.
        repair: The command that repairs it.
        fatal: Whether the stack cannot be used until then.
    """

    what: str
    repair: str
    fatal: bool = True


@dataclasses.dataclass(frozen=True)
class Stack:
    """What is installed.

    Attributes:
        python: Version of the interpreter.
        system: Operating system and processor.
        packages: Version of every installed distribution of the stack.
        distribution: 'onedl' (the maintained forks), 'openmmlab' (the official packages), 'mixed'
            or 'none'.
        operators: Of mmcv: 'compiled', 'stand-ins' (mmeffvit's), or 'none' without mmcv.
        gpus: Name of every GPU that torch can use.
        problems: What is wrong.
    """

    python: str
    system: str
    packages: dict[str, str]
    distribution: str
    operators: str
    gpus: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way of training."""
        return not any(problem.fatal for problem in self.problems)


def probe(deep: bool = False) -> Stack:
    """Look at this interpreter's packages, importing them; a broken one is a problem, no error.

    Args:
        deep: If nothing else is wrong, also set the stack up and import the detectors: seconds.
    """
    packages = {}
    for name in (*_OTHERS, *(name for both in _MODULES.values() for name in (both[0], *both[1]))):
        version = installed_version(name)
        if version is not None:
            packages[name] = version
    distribution = _distribution(packages)
    problems = [
        *torch_problems(),
        *_opencv_problems(packages),
        *_toolbox_problems(packages, distribution),
        *_numpy_problems(packages),
        *_gpu_problems(packages),
    ]
    if deep and not any(problem.fatal for problem in problems):
        problems += _detector_problems(distribution)
    return Stack(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages=packages,
        distribution=distribution,
        operators=_operators(),
        gpus=_gpus(),
        problems=tuple(problems),
    )


def find_compiled_operators() -> importlib.machinery.ModuleSpec | None:
    """Where mmcv's compiled operators are, without importing mmcv; None if they are missing."""
    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is None or not mmcv.submodule_search_locations:
        return None
    return importlib.machinery.PathFinder.find_spec("mmcv._ext", mmcv.submodule_search_locations)


def how_to_compile() -> str:
    """How to get mmcv's compiled operators here: a sentence that ends in a command."""
    from packaging.version import Version  # every usable stack has it

    forks = installed_version("onedl-mmcv")
    if forks is not None:
        name, version = "onedl-mmcv", forks
    else:
        name = "mmcv"
        version = installed_version("mmcv-lite") or installed_version("mmcv") or "2.1.0"
    torch, bound = installed_version("torch"), _TORCH_WITHOUT_MMCV_BUILD
    steps = []
    if torch is None or Version(torch) >= Version(bound):
        steps.append(_pip("install", f"torch<{bound}", "torchvision"))
    steps.append(_pip("install", "setuptools>=80,<82", "wheel", "ninja"))
    if installed_version("mmcv-lite") is not None:
        steps.append(_pip("uninstall", "--yes", "mmcv-lite"))
    build = ("--no-build-isolation", "--no-cache-dir", "--no-deps", "--force-reinstall")
    steps.append(_pip("install", *build, f"{name}=={version}"))
    return (
        "Compiling mmcv takes a C++ compiler (for CUDA also nvcc), about 40 CPU-minutes, and "
        f"torch < {bound}: {' && '.join(steps)}"
    )


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(distribution: str) -> list[str]:
    """What an installed distribution says that it needs; empty if it is not installed."""
    try:
        return importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def import_error(module: str) -> str | None:
    """Why ``module`` cannot be imported, in one line; None if it can."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken extension or a version check may raise anything
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    return None


def _pip(*arguments: str) -> str:
    """A pip command for this interpreter, ready for the shell."""
    return shlex.join([sys.executable or "python", "-m", "pip", *arguments])


def torch_problems() -> list[Problem]:
    """torch and torchvision: there, made for each other, and importable; imports them."""
    torch, torchvision = installed_version("torch"), installed_version("torchvision")
    if torch is None:
        return [Problem("torch is not installed", _pip("install", "torch", "torchvision"))]
    old = too_old(torch)
    if old is not None:
        return [Problem(old, _pip("install", "--upgrade", "torch", "torchvision"))]
    pin = f"torch=={torch.partition('+')[0]}"
    if torchvision is None:
        return [Problem("torchvision is not installed", _pip("install", pin, "torchvision"))]
    pair = _pip("install", "--force-reinstall", pin, "torchvision")
    error = import_error("torch")
    if error is not None:
        return [Problem(f"torch {torch} cannot be imported ({error})", pair)]
    for wanted in _requirements_of("torchvision", "torch"):
        if not wanted.contains(torch, prereleases=True):
            needed = str(wanted).removeprefix("==")
            what = f"torchvision {torchvision} is made for torch {needed}, not for {torch}"
            return [Problem(what, pair)]
    error = import_error("torchvision")
    if error is not None:
        what = f"torchvision {torchvision} does not work with torch {torch} ({error})"
        return [Problem(what, pair)]
    return []


def _opencv_problems(packages: dict[str, str]) -> list[Problem]:
    error = import_error("cv2")
    if error is None:
        return []
    version = packages.get("opencv-python-headless") or packages.get("opencv-python")
    name = f"opencv-python-headless{f'=={version}' if version else ''}"
    reason = (
        "OpenCV is not installed"
        if version is None
        else f"OpenCV {version} cannot be imported ({error})"
    )
    # Both wheels own the same files, and only the headless one does without libGL.
    return [Problem(reason, _pip("install", "--force-reinstall", "--no-deps", name))]


def _distribution(packages: dict[str, str]) -> str:
    kinds = set()
    for fork, official in _MODULES.values():
        if fork in packages:
            kinds.add("onedl")
        if any(name in packages for name in official):
            kinds.add("openmmlab")
    if len(kinds) > 1:
        return "mixed"
    return kinds.pop() if kinds else "none"


def _toolbox_problems(packages: dict[str, str], distribution: str) -> list[Problem]:
    """The five OpenMMLab packages: all there, of one distribution, and importable."""
    if distribution == "none":
        what = f"none of {', '.join(_MODULES)} is installed"
        return [Problem(what, _install_extra("onedl"))]
    if distribution == "mixed":
        return [_mixed(packages)]
    problems = []
    for module, (fork, official) in _MODULES.items():
        owners = [name for name in (fork, *official) if name in packages]
        wanted = fork if distribution == "onedl" else official[0]
        if not owners:
            problems.append(
                Problem(f"{module} ({wanted}) is not installed", _install_extra(distribution))
            )
        elif len(owners) > 1:
            problems.append(
                Problem(
                    f"{' and '.join(owners)} both own the module {module}",
                    f"{_pip('uninstall', '--yes', *owners)} && {_install_extra(distribution)}",
                )
            )
        elif not problems:  # one cause, one message: the later packages import the earlier ones
            error = import_error(module)
            if error is not None:
                owner = f"{owners[0]}=={packages[owners[0]]}"
                what = f"{module} ({owner}) cannot be imported ({error})"
                problems.append(Problem(what, _import_repair(owner, error, packages, distribution)))
    return problems


def _import_repair(owner: str, error: str, packages: dict[str, str], distribution: str) -> str:
    """The command for a toolbox that is installed and cannot be imported."""
    mmcv = [name for name in _MODULES["mmcv"][1] if name in packages]
    if error.startswith("AssertionError") and mmcv:  # the toolboxes assert mmcv's version
        return f"{_pip('uninstall', '--yes', *mmcv)} && {_install_extra(distribution)}"
    if error.startswith("ModuleNotFoundError"):  # a requirement is missing: pip adds it
        return _install_extra(distribution)
    return _pip("install", "--force-reinstall", "--no-deps", owner)


def _detector_problems(distribution: str) -> list[Problem]:
    """Whether a detector could be built: the last word, after the parts were found in order."""
    from mmeffvit import compat

    try:
        compat.setup()
        error = import_error("mmdet.models")
    except RuntimeError as failure:
        error = str(failure)
    if error is None:
        return []
    return [Problem(f"mmdet.models cannot be imported ({error})", _install_extra(distribution))]


def _mixed(packages: dict[str, str]) -> Problem:
    """Two distributions: files of one lie over the other's, so both have to go."""
    forks, officials, shared = [], [], []
    for module, (fork, official) in _MODULES.items():
        present = [name for name in official if name in packages]
        officials += present
        if fork in packages:
            forks.append(fork)
            if present:
                shared.append(module)
    what = f"two distributions are mixed: {', '.join(forks)} and {', '.join(officials)}"
    if shared:
        what += f"; both own the modules {', '.join(shared)}"
    uninstall = _pip("uninstall", "--yes", *forks, *officials)
    return Problem(what, f"{uninstall} && {_install_extra('onedl')}")


def _install_extra(distribution: str) -> str:
    """Install one distribution through mmeffvit's extra, from the checkout if this is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return _pip("install", f"mmeffvit[{distribution}]")
    constraints = root / "requirements" / "constraints.txt"
    return _pip(
        "install", "--constraint", str(constraints), "--editable", f"{root}[{distribution}]"
    )


def _numpy_problems(packages: dict[str, str]) -> list[Problem]:
    """numpy: there, importable, and of a version that the others ask for."""
    numpy = packages.get("numpy")
    if numpy is None:
        return [Problem("numpy is not installed", _pip("install", "numpy"))]
    error = import_error("numpy")
    if error is not None:
        repair = _pip("install", "--force-reinstall", "--no-deps", f"numpy=={numpy}")
        return [Problem(f"numpy {numpy} cannot be imported ({error})", repair)]
    for name in (*packages, "imaug", "numba"):
        for wanted in _requirements_of(name, "numpy"):
            if not wanted.contains(numpy, prereleases=True):
                asking = f"{name} {installed_version(name)}"
                what = f"numpy {numpy} does not suit {asking}, which asks for numpy{wanted}"
                return [Problem(what, _pip("install", f"numpy{wanted}"), fatal=False)]
    return []


def _requirements_of(distribution: str, name: str) -> list[Any]:
    """Versions of a package that an installed distribution asks for, in this environment."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # cannot be judged without
        return []
    return [
        requirement.specifier
        for requirement in map(Requirement, requirements(distribution))
        if requirement.name == name
        and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    ]


def _operators() -> str:
    if importlib.util.find_spec("mmcv") is None:
        return "none"
    return "compiled" if find_compiled_operators() else "stand-ins"


def _gpus() -> tuple[str, ...]:
    if import_error("torch") is not None:
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _gpu_problems(packages: dict[str, str]) -> list[Problem]:
    """An NVIDIA driver is loaded, and torch cannot use it."""
    if not Path("/proc/driver/nvidia/version").exists() or "torch" not in packages or _gpus():
        return []
    return [
        Problem(
            f"there is an NVIDIA driver, but torch {packages['torch']} finds no GPU: it was built "
            "without CUDA, or for a newer driver",
            _pip("install", "--force-reinstall", "torch", "torchvision"),
            fatal=False,
        )
    ]
