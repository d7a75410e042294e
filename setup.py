"""Packaging beyond pyproject.toml: configs, tools and the model index travel in ``mmeffvit/.mim``.

OpenMMLab's command line and ``_base_ = 'mmeffvit::...'`` look for them there. A wheel gets copies;
an editable install gets links, so that an edited config is the one that runs.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TRAVELS = ("configs", "tools", "model-index.yml")
#: commands that keep the repository in order: what they are made of, maintenance/, stays here too
STAYS = ("swap_zoo.py", "model_zoo.py")


class BuildPyWithMim(build_py):
    def run(self):
        super().run()
        editable = getattr(self, "editable_mode", False)
        target = (ROOT if editable else Path(self.build_lib)) / "mmeffvit" / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in TRAVELS:
            source = ROOT / name
            if not source.exists():
                continue
            if editable:
                (target / name).symlink_to(Path("..") / ".." / name)
            elif source.is_dir():
                skip = shutil.ignore_patterns("__pycache__", "*.pyc", *STAYS)
                shutil.copytree(source, target / name, ignore=skip)
            else:
                shutil.copy2(source, target / name)


setup(cmdclass={"build_py": BuildPyWithMim})
