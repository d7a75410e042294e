"""Structure and arithmetic of the benchmark; what it measures depends on the machine."""

import math
import os

import pytest
import torch
from torch import nn

from mmeffvit.analysis import benchmark, results
from mmeffvit.analysis.benchmark import (
    Contender,
    Measurement,
    Setting,
    growth_exponent,
    growth_over_area,
    make_contenders,
    paired_ratio,
    run_setting,
    time_in_turn,
)


class Clock:
    """A clock that moves only when a call says how long it took."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, seconds, log, name):
        def call():
            log.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return call


def test_contenders_run_in_turn():
    clock, log = Clock(), []
    slowdown = iter([1, 1, 10, 10, 2, 2, 3, 3])
    calls = {
        "slow": clock.taking(lambda: 4 * next(slowdown), log, "slow"),
        "fast": clock.taking(lambda: 2 * next(slowdown), log, "fast"),
    }
    times = time_in_turn(calls, rounds=3, warmup=1, clock=clock)
    assert log == ["fast", "slow", "slow", "fast", "fast", "slow", "slow", "fast"]
    assert times == {"slow": (40, 8, 12), "fast": (20, 4, 6)}
    # the machine was ten times slower in one round, and the ratio does not notice
    assert paired_ratio(times["slow"], times["fast"]) == 2


def test_rounds_are_checked():
    with pytest.raises(ValueError, match="rounds >= 1"):
        time_in_turn({}, rounds=0)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_growth(exponent):
    areas = [224 * 224, 512 * 512, 800 * 1344, 2048 * 2048]
    values = [3e-9 * area**exponent for area in areas]
    assert growth_exponent(areas, values) == pytest.approx(exponent)
    expected = (areas[-1] / areas[0]) ** (exponent - 1)
    assert growth_over_area(areas[::-1], values[::-1]) == pytest.approx(expected)


def test_growth_needs_two_sizes():
    with pytest.raises(ValueError, match="two different input sizes"):
        growth_exponent([4, 4], [1.0, 2.0])
    with pytest.raises(ValueError, match="above 0"):
        growth_exponent([4, 8], [1.0, 0.0])


def test_contenders():
    assert make_contenders(["secvit-tiny", "mmdet.ResNet:depth=18"], ["reference", "fused"]) == [
        Contender("secvit-tiny", "reference"),
        Contender("secvit-tiny", "fused"),
        Contender("mmdet.ResNet:depth=18"),
    ]


def test_setting_is_checked():
    with pytest.raises(ValueError, match="mode 'backward' is not one of forward, train"):
        Setting(32, 32, "backward")


@pytest.fixture
def record(monkeypatch):
    """Replace backbones by one that records how it is called."""
    calls = []

    class Recorder(nn.Module):
        def __init__(self, name, options):
            super().__init__()
            self.name, self.options = name, options
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            implementation = os.environ.get(benchmark.ENVIRONMENT_VARIABLE)
            y = self.conv(x)
            calls.append(
                (self.name, self.options, implementation, self.training, y.requires_grad, y.dtype)
            )
            return (y,)

    monkeypatch.setattr(benchmark, "build_backbone", lambda name, **kw: Recorder(name, kw))
    monkeypatch.setenv(benchmark.ENVIRONMENT_VARIABLE, "untouched")
    return calls


def test_what_runs(record):
    contenders = make_contenders(["a", "mmdet.B"], ["reference", "fused"])
    setting = Setting(32, 48, "train", batch_size=2, dtype="bfloat16")
    measured = run_setting(
        setting, contenders, rounds=2, warmup=0, memory=False, options={"tokens_per_cluster": 9}
    )
    ours = {"tokens_per_cluster": 9}
    low = torch.bfloat16
    one_round = [
        ("a", ours, "reference", True, True, low),
        ("a", ours, "fused", True, True, low),
        ("mmdet.B", {}, "untouched", True, True, low),
    ]
    assert record == one_round + one_round[::-1]
    assert [m.contender for m in measured] == contenders
    assert all(len(m.times) == 2 and m.peak_bytes is None for m in measured)
    reference, fused, other = measured
    assert (reference.speedup, other.speedup) == (1, None)
    assert fused.speedup == paired_ratio(reference.times, fused.times)


def test_forward_has_no_gradients(record):
    run_setting(Setting(32, 32), [Contender("a")], rounds=1, warmup=0, memory=False)
    assert record == [("a", {}, "untouched", False, False, torch.float32)]


def test_what_cannot_run_is_told(monkeypatch, record):
    def refuse(prepare, setting, contender, options, device):
        if contender.implementation == "reference":
            raise benchmark.ChildError("killed because memory ran out")
        return 5 * 2**20

    monkeypatch.setattr(benchmark, "peak_memory", refuse)
    contenders = make_contenders(["a"], ["reference", "fused"])
    reference, fused = run_setting(Setting(32, 32), contenders, rounds=1, warmup=0)
    assert reference.times == ()
    assert "memory ran out" in reference.note
    assert math.isnan(reference.seconds)
    assert (fused.peak_bytes, len(fused.times), fused.speedup) == (5 * 2**20, 1, None)


def _row(size, seconds, implementation="fused", peak=None, speedup=None, note=""):
    measurement = Measurement(
        Setting(*size), Contender("net", implementation), seconds, peak, speedup, note
    )
    environment = dict.fromkeys(results.ENVIRONMENT_COLUMNS, "x")
    return results.to_row(measurement, environment, "", "benchmark.py")


def test_csv_round_trip(tmp_path):
    path = tmp_path / "deep" / "benchmark.csv"
    rows = [
        _row((224, 224), (0.2, 0.1, 0.4), peak=3 * 2**20, speedup=1.5),
        _row((512, 512), (), note='not run: "killed", for memory'),
    ]
    results.write_csv(path, rows)
    assert results.read_csv(path) == rows
    assert [file.name for file in path.parent.iterdir()] == ["benchmark.csv"]
    first = rows[0]
    assert (first["time_ms"], first["time_min_ms"], first["time_max_ms"]) == (
        "200.00",
        "100.00",
        "400.00",
    )
    assert (first["peak_memory_mib"], first["speedup_over_reference"]) == ("3.0", "1.500")


def test_csv_is_whole_or_absent(tmp_path):
    path = tmp_path / "benchmark.csv"
    rows = [_row((224, 224), (0.2,))]
    results.write_csv(path, rows)
    with pytest.raises(ValueError):
        results.write_csv(path, [*rows, {"no such column": "1"}])
    assert results.read_csv(path) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["benchmark.csv"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a benchmark"):
        results.read_csv(path)


def test_tables():
    rows = [
        _row((256, 256), (0.1,)),
        _row((512, 512), (0.8,)),
        _row((64, 64), (), note="not run: why"),
    ]
    assert "not run: why" in results.format_rows(rows)
    assert "time ~ area^1.50, time per pixel x2.00" in results.format_growth(rows)
    assert results.format_growth(rows[:1]) == ""
