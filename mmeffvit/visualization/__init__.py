"""Pictures of what a model learns: contact sheets of its predictions and curves of its training.

`mmeffvit.visualization.hooks` needs mmengine and draws them during training and testing; the rest
works on arrays and files. `mmeffvit.visualization.attention` draws what the attention operators of
a backbone do on an image, `mmeffvit.visualization.points` point clouds.
"""

from mmeffvit.visualization.contact_sheet import Example, Objects, draw_contact_sheet
from mmeffvit.visualization.curves import draw_curves, read_scalars
from mmeffvit.visualization.segmentation import (
    LabelledExample,
    draw_label_maps,
    draw_labels,
    draw_segmentation_sheet,
)
from mmeffvit.visualization.sheet import Page

__all__ = [
    "Example",
    "LabelledExample",
    "Objects",
    "Page",
    "draw_contact_sheet",
    "draw_curves",
    "draw_label_maps",
    "draw_labels",
    "draw_segmentation_sheet",
    "read_scalars",
]
