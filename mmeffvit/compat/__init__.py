"""The rough edges of the OpenMMLab stack, each smoothed in one small module.

``setup()`` applies the repairs; ``probe()`` says what is installed and what is wrong with it.
Importing this package needs nothing that is not in Python's own library.
"""

import importlib.util
import threading

from mmeffvit.compat.distribution import Problem, Stack, probe
from mmeffvit.version import require_torch

__all__ = ["Problem", "Stack", "probe", "setup"]

_lock = threading.Lock()
_is_set_up = False


def setup() -> None:
    """Repair what the installed stack lacks; call it before the first import of mmcv or a toolbox.

    - mmcv without its compiled operators gets stand-ins on torchvision and plain PyTorch;
    - ``_base_ = 'mmseg::...'`` and ``'mmeffvit::...'`` resolve on both distributions;
    - torch accepts what mmengine writes into checkpoints, so that training resumes;
    - mmengine reads checkpoints, pickles and YAML files as data, and the toolboxes the data sets
      that they unpickle on their own: nothing in them runs;
    - ``mmeffvit://NAME`` is a checkpoint: published weights, by their name;
    - mmpretrain works beside transformers 5, without its multi-modal models;
    - SSD of mmdet 3 predicts;
    - detectors of mmdet that are asked in words (GLIP, Grounding DINO) run beside transformers 5,
      and on the maintained mmdet.

    What is not installed is passed over, and a second call does nothing.

    Raises:
        ImportError: torch is older than what checkpoints can be read with.
        TooLateError: A toolbox has been imported before, without operators.
    """
    global _is_set_up
    with _lock:
        if _is_set_up:
            return
        if importlib.util.find_spec("torch") is not None:
            require_torch()
        from mmeffvit.compat import (
            checkpoint,
            config,
            multimodal,
            pickles,
            ssd,
            weights,
            words,
        )
        from mmeffvit.compat.mmcv_ops import module

        module.install()
        config.repair_prefixes()
        checkpoint.trust_mmengine()
        checkpoint.guard_loading()
        pickles.guard_pickles()
        multimodal.leave_out_where_broken()
        ssd.repair_head()
        words.repair_words()
        weights.register_names()
        _is_set_up = True
