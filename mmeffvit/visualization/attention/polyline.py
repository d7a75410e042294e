"""Drawing of polyline path masked attention (PPMA, arXiv 2506.15940)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.layers.mixers import PolylineMixer
from mmeffvit.ops.polyline_attention import path_sums
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def path_maps(call: MixerCall, token: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Factors that the paths from a token put on the exponentials of the softmax: (h, H, W) each.

    First those of the paths that begin along the token's row, then those that begin along its
    column. The decomposed form has the same: a product of weights along a row and along a column.
    """
    row, column = token
    along_rows, along_columns = (sums[0] for sums in path_sums(call.mixer.steps(call.x)))
    own_row = (along_rows[:, row] - along_rows[:, row, column, None]).abs()[:, None]
    own_column = (along_columns[:, :, column] - along_columns[:, row, column, None]).abs()
    in_columns = (along_columns - along_columns[:, row, None]).abs()
    in_rows = (along_rows - along_rows[:, :, column, None]).abs()
    return (-own_row - in_columns).exp(), (-own_column[:, :, None] - in_rows).exp()


@register_drawing(PolylineMixer)
def draw_paths(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """What is left at the end of each path from the query, and the attention that results."""
    row_first, column_first = path_maps(call, token)
    form = "decomposed: rows and columns in turn" if call.mixer.core.decomposed else "all tokens"
    rows = [
        MapRow(
            f"What paths leave of the weight: from the marked token along its {first}, then along "
            f"the {second} of the other token.",
            [TokenMap(factors[head], f"head {head}", (0, 1)) for head in heads],
            legend=("0", "factor 1"),
        )
        for factors, first, second in (
            (row_first, "row", "column"),
            (column_first, "column", "row"),
        )
    ]
    note = f"Attention of the marked token ({form}), as multiples of the mean weight."
    return [*rows, *attention_rows(call, token, heads, note)]
