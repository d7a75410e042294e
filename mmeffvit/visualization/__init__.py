"""Pictures of what a detector learns: contact sheets of its predictions and curves of its training.

`mmeffvit.visualization.hooks` needs mmengine and draws them during training and testing; the rest
works on arrays and files.
"""

from mmeffvit.visualization.contact_sheet import Example, Objects, draw_contact_sheet
from mmeffvit.visualization.curves import draw_curves, read_scalars

__all__ = ["Example", "Objects", "draw_contact_sheet", "draw_curves", "read_scalars"]
