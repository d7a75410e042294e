"""Classifiers: any data set of mmpretrain becomes a CustomDataset."""

from __future__ import annotations

from mmeffvit.configs import plain, type_name, walk
from mmeffvit.datasets.layouts import FolderData
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.dataset import loaders
from mmeffvit.swap.dataset.counts import set_counts
from mmeffvit.swap.errors import SwapError

#: what classifiers learn from
KIND = "classes"


def set_data(draft: Draft, data: FolderData) -> list[str]:
    """Write a data set into a config of mmpretrain.

    Returns:
        What is left to say.

    Raises:
        SwapError: The config is of another task.
    """
    count = len(data.classes)
    kind = type_name(draft.get(("model",)))
    for key, metrics in loaders.evaluators(draft):
        names = [type_name(metric) for metric in metrics]
        if not {"Accuracy", "SingleLabelMetric", "ConfusionMatrix"} & set(names):
            raise SwapError(
                f"{kind} is evaluated by {', '.join(names)} ({key}), and folders of classes say "
                "one class of each image. Take a config that is evaluated by Accuracy."
            )
    for split in loaders.SPLITS:
        own = data.split(split)
        entries = {
            "type": "CustomDataset",
            "data_root": data.root.as_posix(),
            "ann_file": own.annotations,
            "data_prefix": own.images,
            "metainfo": {"classes": data.classes},
        }
        for place in loaders.iter_datasets(draft, split):
            loaders.set_entries(draft, place, entries, data)
    if not set_counts(draft, count):
        raise SwapError(
            f"{kind} has no head with a number of classes; take a config of a classifier."
        )
    place = ("data_preprocessor", "num_classes")
    if draft.get(place) is not None:
        draft.set(place, count, f"{count} classes")
    for root in ("model", "val_evaluator", "test_evaluator"):
        for inner, value in list(walk(plain(draft.get((root,))))):
            if inner and inner[-1] == "topk":
                ranks = (value,) if isinstance(value, int) else tuple(value)
                kept = tuple(k for k in ranks if k < count) or (1,)
                if kept != ranks:
                    new = kept[0] if isinstance(value, int) else type(value)(kept)
                    why = f"of {count} classes more are always right"
                    draft.set((root, *inner), new, why)
    return []
