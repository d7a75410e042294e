"""What processes of tests need not import again: see :mod:`tests.processes`."""

from importlib import import_module

from mmeffvit import compat

compat.setup()  # before the toolboxes are imported

for toolbox in ("mmdet", "mmpretrain", "mmseg"):
    import_module(f"{toolbox}.utils").register_all_modules(init_default_scope=False)
for module in ("datasets", "engine.evaluation", "engine.launch", "swap.command_line"):
    import_module(f"mmeffvit.{module}")
