"""Segmentors: any data set of mmseg becomes a BaseSegDataset."""

from __future__ import annotations

from mmeffvit.configs import type_name
from mmeffvit.datasets.layouts import FolderData
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.dataset import loaders
from mmeffvit.swap.dataset.counts import set_counts

#: what segmentors learn from
KIND = "label maps"
#: arguments of metrics that write files for a server
_FOR_SERVERS = ("format_only", "output_dir", "keep_results")


def set_data(draft: Draft, data: FolderData) -> list[str]:
    """Write a data set into a config of mmseg.

    Returns:
        What is left to say.
    """
    for split in loaders.SPLITS:
        own = data.split(split)
        entries = {
            "type": "BaseSegDataset",
            "data_root": data.root.as_posix(),
            "data_prefix": {"img_path": own.images, "seg_map_path": own.annotations},
            "metainfo": {"classes": data.classes},
            "img_suffix": data.suffixes[0],
            "seg_map_suffix": data.suffixes[1],
            "reduce_zero_label": data.reduce_zero_label,
        }
        if own.listed:
            entries["ann_file"] = own.listed
        for place in loaders.iter_datasets(draft, split):
            loaders.set_entries(draft, place, entries, data)
    why = "as the data set has it"
    for place, step in loaders.iter_steps(draft):
        if type_name(step) == "LoadAnnotations" and step.get("reduce_zero_label") is not None:
            draft.set((*place, "reduce_zero_label"), data.reduce_zero_label, why)
    for key, metrics in loaders.evaluators(draft):
        asked = [
            m["iou_metrics"] for m in metrics if type_name(m) == "IoUMetric" and "iou_metrics" in m
        ]
        entries = {"type": "IoUMetric", "iou_metrics": asked[0] if asked else ["mIoU"]}
        loaders.set_metric(draft, key, entries, _FOR_SERVERS)
    set_counts(draft, len(data.classes))
    return []
