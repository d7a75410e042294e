"""What is known of the golden files of each family, one adapter class per family.

Every module of this package is imported; a class with a `family` enrols itself in `FAMILIES`.
"""

import importlib
import pkgutil

from mmeffvit.testing.families.base import FAMILIES, GoldenFamily, PyramidGolden

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FAMILIES", "GoldenFamily", "PyramidGolden"]
