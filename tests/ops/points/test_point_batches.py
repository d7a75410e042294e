import pytest
import torch

from mmeffvit.ops import points


def test_offsets_and_samples_are_each_other():
    batch = torch.tensor([0, 0, 0, 2, 2, 3])
    offset = points.batch_to_offset(batch)
    assert offset.tolist() == [3, 3, 5, 6]
    assert torch.equal(points.offset_to_batch(offset), batch)
    assert points.batch_to_offset(batch, 5).tolist() == [3, 3, 5, 6, 6]
    assert points.batch_to_offset(batch[:0], 2).tolist() == [0, 0]
    assert points.offset_to_batch(offset.int()).tolist() == batch.tolist()


@pytest.mark.parametrize(
    ("offset", "error", "message"),
    [
        ([3, 7], ValueError, "2 samples have 7 points together, but there are 8"),
        ([], ValueError, "0 samples have 0 points together, but there are 8"),
        ([3, 3, 8], ValueError, r"sample 1 has no points \(offset is \[3, 3, 8\]\)"),
        ([5, 3, 8], ValueError, "must not fall"),
        ([[8]], ValueError, "one axis"),
        ([3.0, 8.0], TypeError, "integers"),
    ],
)
def test_offsets_that_cannot_be_right(offset, error, message):
    with pytest.raises(error, match=message):
        points.check_offset(torch.tensor(offset, dtype=None if offset else torch.int64), 8)


def test_samples_must_lie_together():
    with pytest.raises(ValueError, match="must lie together"):
        points.batch_to_offset(torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match=r"in 0\.\.1, got 0 to 2"):
        points.batch_to_offset(torch.tensor([0, 2]), 2)
    with pytest.raises(ValueError, match="got -1 to 0"):
        points.batch_to_offset(torch.tensor([-1, 0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_coordinates_that_are_not_finite_are_counted(bad):
    xyz = torch.rand(5, 3)
    xyz[2, 1] = xyz[4, 0] = bad
    with pytest.raises(ValueError, match=r"in 2 of 5 rows, the first is row 2"):
        points.check_points(xyz)


def test_coordinates_of_another_shape_or_type():
    with pytest.raises(ValueError, match=r"\(N, 3\) coordinates, got the shape \(4, 2\)"):
        points.check_points(torch.rand(4, 2))
    with pytest.raises(TypeError, match="floating-point"):
        points.check_points(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="4 points, but there are"):
        points.check_points(torch.rand(4, 3), batch=torch.zeros(3))
