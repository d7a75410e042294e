import torch

from mmeffvit.ops.tables import cached_table


def counted():
    calls = []

    @cached_table(maxsize=2)
    def table(size, device):
        """A table."""
        calls.append(size)
        return torch.arange(size, device=device, dtype=torch.float32)

    return table, calls


def test_built_once_for_each_size():
    table, calls = counted()
    assert table.__doc__ == "A table."
    first = table(3, "cpu")
    assert first.tolist() == [0, 1, 2]
    assert table(3, "cpu") is first
    table(4, "cpu")
    assert calls == [3, 4]


def test_least_recently_used_is_dropped():
    table, calls = counted()
    for size in (1, 2, 1, 3, 1, 2):
        table(size, "cpu")
    assert calls == [1, 2, 3, 2]


def test_serves_training_after_inference():
    table, _ = counted()
    with torch.inference_mode():
        made = table(3, "cpu")
    assert not made.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * made).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2]


def test_nothing_is_kept_while_tracing(monkeypatch):
    table, calls = counted()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert table(3, "cpu") is not table(3, "cpu")
    assert calls == [3, 3]
