"""What is drawn of merged tokens is what the merger makes of them."""

import numpy as np
import pytest
import torch

from mmeffvit.layers.token_merger import Cells, TokenMerger, end_padded, spread_padded
from mmeffvit.models import ViTAR
from mmeffvit.visualization.attention import (
    draw_attention,
    follow_mergers,
    merge_weights,
    merges_tokens,
)

CPU = torch.device("cpu")
ARCH = {
    "embed_dims": 16,
    "depth": 1,
    "num_heads": 2,
    "mlp_ratio": 1,
    "patch_size": 16,
    "image_size": 48,
    "extra_tokens": 0,
    "window_sizes": (None,),
    "layer_scale": None,
}


def test_weights_times_values_are_what_the_merger_attends_to():
    torch.manual_seed(0)
    merger = TokenMerger(8, 2, 8)
    for p in merger.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(1, 8, 5, 7)
    cells = Cells.of(spread_padded(5, 3, CPU), end_padded(7, 2, CPU), 7)
    attended = []
    merger.proj.register_forward_pre_hook(lambda module, args: attended.append(args[0]))
    merger(x, cells)
    weights = merge_weights(merger, x, cells)  # (h, H, W)
    values = merger.value(merger.norm1(x))[0].unflatten(0, (2, 4))
    weighted = (weights[:, None] * values)[None].flatten(1, 2)
    rows, columns = ([0], [1, 2], [3, 4]), ([0, 1], [2, 3], [4, 5], [6])
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = weighted[:, :, row][..., column].sum((2, 3))
            torch.testing.assert_close(attended[0][:, :, i, j], total)


def test_patches_are_followed_through_all_passes():
    network = ViTAR(ARCH, mode="fixed_grid")  # of 3 x 3 tokens
    merging = follow_mergers(network, torch.randn(1, 3, 64, 192), (63, 100))
    # 4 rows: two alone, then a pair; 12 columns: 6, then 3
    rows, columns = [0, 1, 2, 2], [0] * 4 + [1] * 4 + [2] * 4
    assert merging.owners.tolist() == [[3 * row + column for column in columns] for row in rows]
    assert merging.token_at(63, 100) == (2, 1)
    passes = [section.title.partition(": ")[2] for section in merging.sections]
    assert passes == [
        "4 × 12 tokens to 3 × 6",
        "3 × 6 tokens to 3 × 3",
        "3 × 3 tokens to 3 × 3",
    ]
    for section in merging.sections:
        assert section.strides == 16
        for row in section.rows:
            assert all(m.values.shape == (4, 12) for m in row.maps)
    # weights are multiples of the mean of a cell, and single tokens have no choice
    cells, weights = merging.sections[0].rows
    assert [m.title for m in cells.maps] == ["18 cells", "the mark's: 4 patches"]
    own = ~cells.maps[1].values.isnan()
    assert own.nonzero().tolist() == [[2, 6], [2, 7], [3, 6], [3, 7]]
    pairs = weights.maps[0].values.unflatten(1, (6, 2))
    torch.testing.assert_close(pairs[:2].mean(2), torch.ones(2, 6))
    torch.testing.assert_close(pairs[2:].mean((0, 2)), torch.ones(6))
    assert len(merging.sections[2].rows) == 1


def test_sheet():
    image = np.zeros((64, 192, 3), np.uint8)
    network = ViTAR(ARCH, mode="fixed_grid")
    figure = draw_attention(network, image, size=(64, 192), title="ViTAR")
    panels = [axes.get_images()[-1] for axes in figure.axes if axes.get_images()]
    # the image; cells and weights of two heads twice, cells; two heads of the trunk
    assert len(panels) == 1 + 2 * 4 + 2 + 2
    assert all(panel.get_array().shape == (4, 12) for panel in panels[1:])
    with pytest.raises(ValueError, match="no head 2 in the token merger, which has the heads 0 to"):
        draw_attention(network, image, size=(64, 192), heads=[2])


def test_dense_maps_of_single_tokens_have_no_cells():
    assert not merges_tokens(ViTAR(ARCH))
    assert merges_tokens(ViTAR(ARCH, merge_ratio=2))
