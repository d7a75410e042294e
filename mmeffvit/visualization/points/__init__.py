"""Pictures of point clouds: rooms from two corners, sweeps from above.

`mmeffvit.visualization.points.hooks` draws them during training and testing.
"""

from mmeffvit.visualization.points.cloud import draw_cloud, draw_clouds
from mmeffvit.visualization.points.rooms import RoomExample, draw_room_sheet
from mmeffvit.visualization.points.sweeps import Boxes, SweepExample, draw_bev, draw_sweep_sheet

__all__ = [
    "Boxes",
    "RoomExample",
    "SweepExample",
    "draw_bev",
    "draw_cloud",
    "draw_clouds",
    "draw_room_sheet",
    "draw_sweep_sheet",
]
