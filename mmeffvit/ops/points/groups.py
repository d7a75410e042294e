"""Groups of equal size along a curve through windows (FlatFormer, arXiv 2301.08739, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmeffvit.errors import renamed_argument
from mmeffvit.ops.points.batches import check_offset
from mmeffvit.ops.points.segments import segment_places


@renamed_argument("coords", "coors")
def window_snake_order(
    coors: Tensor,
    window_size: tuple[int, int],
    grid_size: tuple[int, int],
    axis: str = "x",
    shifted: bool = False,
) -> Tensor:
    """Order of pillars along a curve that goes through one window after the other.

    With axis 'x' windows follow each other in rows, every other row backwards; inside of a window
    columns do, every other column backwards; in every other row of windows the order inside is
    backwards as well. Axis 'y' swaps x and y. Samples are never mixed.

    Args:
        coors: (N, 4) integers, (batch, z, y, x), each pillar once, none negative.
        window_size: Sides of a window along x and y, in pillars.
        grid_size: Pillars along x and y.
        axis: 'x' or 'y'.
        shifted: Move the windows by half a side.

    Returns:
        (N) int64 rows, sample by sample.

    Raises:
        ValueError: There is no such axis.
    """
    if axis not in ("x", "y"):
        raise ValueError(f"axis must be 'x' or 'y', got '{axis}'")
    batch, _, y, x = coors.long().unbind(1)
    fast, slow = (x, y) if axis == "x" else (y, x)
    fast_side, slow_side = window_size if axis == "x" else window_size[::-1]
    fast_cells = grid_size[0 if axis == "x" else 1]
    if shifted:
        fast, slow = fast + fast_side // 2, slow + slow_side // 2
    fast_window, fast_place = fast // fast_side, fast % fast_side
    slow_window, slow_place = slow // slow_side, slow % slow_side
    windows_along_fast = 2 * (-(-fast_cells // fast_side) + 1)
    turn = 1 - 2 * (slow_window % 2)
    turn_inside = 1 - 2 * (fast_place % 2)
    inside = turn * (2 * slow_side * fast_place + turn_inside * slow_place)
    key = windows_along_fast * slow_window + turn * fast_window
    key = key * (4 * fast_side * slow_side) + inside
    # (batch, key) as one number; published code adds a batch offset that small grids outgrow
    if len(key):
        key = key - key.min()
        key = batch * (key.max() + 1) + key
    return key.argsort(stable=True)


@dataclass(frozen=True)
class EqualGroups:
    """Samples cut into groups of one size.

    The last group of a sample is filled up with tokens of the group before it, which take part in
    attention a second time. Where a sample has no group before it, padding is masked.

    Attributes:
        slots: (S) int64, place of a token in the order, for every slot; S is a multiple of the
            group size. Masked slots repeat a token of the same sample.
        slot_of_token: (N) int64, the slot whose result counts.
        mask: (S / G, G) bool, False for slots that keys must not be taken from; None if none.
        group_size: Tokens G of a group.
    """

    slots: Tensor
    slot_of_token: Tensor
    mask: Tensor | None
    group_size: int

    def along(self, order: Tensor) -> EqualGroups:
        """The groups for tokens whose row (N) at every place of the order is given."""
        slot_of_token = torch.empty_like(order)
        slot_of_token[order] = self.slot_of_token
        return EqualGroups(order[self.slots], slot_of_token, self.mask, self.group_size)


def equal_groups(offset: Tensor, group_size: int) -> EqualGroups:
    """Cut every sample into groups of equal size.

    A sample with n tokens has ceil(n / G) * G slots: slot i holds token i, or token i - G from n
    on. Samples with n < G are one group whose other slots are masked.

    Args:
        offset: (B) ends of the samples.
        group_size: Tokens G of a group.

    Raises:
        ValueError: A sample is empty, or the size is not positive.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    offset = offset.long()
    check_offset(offset, int(offset[-1]) if len(offset) else 0)
    counts = offset.diff(prepend=offset.new_zeros(1))
    padded = (counts + group_size - 1) // group_size * group_size
    sample, place = segment_places(padded)
    real = place < counts[sample]
    small = counts[sample] < group_size
    # a masked slot repeats the first token: any finite value serves
    token = torch.where(real, place, torch.where(small, 0, place - group_size))
    mask = None
    if bool((counts < group_size).any()):
        mask = (real | ~small).view(-1, group_size)
    first_token = (offset - counts)[sample]
    return EqualGroups(first_token + token, real.nonzero().flatten(), mask, group_size)
