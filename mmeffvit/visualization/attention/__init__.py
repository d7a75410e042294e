"""Pictures of what the token mixers of a backbone do on an image.

`record_mixers` runs the backbone and keeps what each mixer was called with; `make_rows` turns such
a call into maps, by the drawing that is registered for the mixer's class; `draw_sheet` puts them
over the image. `draw_attention` and `draw_features` do all of it. A new mixer gets a drawing of its
own with `register_drawing`, and its attention, per head, without one. What is no mixer has its own
way in: deformable attention over a pyramid, the merger of tokens, a neck's attention across scales.
"""

from mmeffvit.visualization.attention.capture import MixerCall, find_mixers, record_mixers
from mmeffvit.visualization.attention.cross_scale import group_map
from mmeffvit.visualization.attention.cross_shaped import window_map
from mmeffvit.visualization.attention.deformable import pyramid_sections, read_weights
from mmeffvit.visualization.attention.draw import draw_attention, draw_features
from mmeffvit.visualization.attention.factorization import point_map
from mmeffvit.visualization.attention.features import feature_row, principal_colours
from mmeffvit.visualization.attention.group_latents import draw_group
from mmeffvit.visualization.attention.images import (
    example_photographs,
    find_image,
    input_size,
    read_image,
    to_input,
)
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    make_rows,
    register_drawing,
)
from mmeffvit.visualization.attention.masa import decay_maps
from mmeffvit.visualization.attention.neighbourhood import bias_maps
from mmeffvit.visualization.attention.polyline import path_maps
from mmeffvit.visualization.attention.rala import weight_maps
from mmeffvit.visualization.attention.relative import offset_maps
from mmeffvit.visualization.attention.s3a import count_paths, scan_steps
from mmeffvit.visualization.attention.scatter import draw_bands
from mmeffvit.visualization.attention.sec import cluster_maps
from mmeffvit.visualization.attention.sheet import Section, draw_sheet
from mmeffvit.visualization.attention.token_merger import (
    Merging,
    follow_mergers,
    merge_weights,
    merges_tokens,
)
from mmeffvit.visualization.attention.windows import affinity_map

__all__ = [
    "MapRow",
    "Merging",
    "MixerCall",
    "Section",
    "TokenMap",
    "affinity_map",
    "attention_rows",
    "bias_maps",
    "cluster_maps",
    "count_paths",
    "decay_maps",
    "draw_attention",
    "draw_bands",
    "draw_features",
    "draw_group",
    "draw_sheet",
    "example_photographs",
    "feature_row",
    "find_image",
    "find_mixers",
    "follow_mergers",
    "group_map",
    "input_size",
    "make_rows",
    "merge_weights",
    "merges_tokens",
    "offset_maps",
    "path_maps",
    "point_map",
    "principal_colours",
    "pyramid_sections",
    "read_image",
    "read_weights",
    "record_mixers",
    "register_drawing",
    "scan_steps",
    "to_input",
    "weight_maps",
    "window_map",
]
