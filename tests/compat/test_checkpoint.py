"""Resuming a run of mmengine's under torch.load(weights_only=True)."""

import types
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmeffvit.compat.distribution import installed_version
from mmeffvit.files import numpy_globals

FORKS = installed_version("onedl-mmengine") is not None

TRAIN_AND_RESUME = """
    import json, sys, torch
    sys.modules["transformers"] = None  # mmengine would import it, which takes seconds
    from mmeffvit import compat
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)
        def forward(self, *inputs, mode):
            return dict(loss=self.linear(torch.stack(inputs)).sum())

    class Data(torch.utils.data.Dataset):
        metainfo = dict(classes=("a", "b"), palette=[(1, 2, 3)])
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return torch.ones(2)

    names = iter(range(9))

    def train(epochs, resume):
        runner = Runner(
            Model(), "work",
            train_dataloader=dict(
                dataset=Data(), sampler=dict(type="DefaultSampler"), batch_size=2, num_workers=0
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
            param_scheduler=[
                dict(type="OneCycleLR", eta_max=0.1, total_steps=8, by_epoch=False),
                dict(type="MultiStepLR", milestones=[1]),
            ],
            custom_hooks=[dict(type="EMAHook")],
            resume=resume,
            log_level="ERROR",
            experiment_name=f"run_{next(names)}",
        )
        runner.train()

    def succeeds(function, *args, **kwargs):
        try:
            function(*args, **kwargs)
            return True
        except Exception:
            return False

    def attempt():
        return [
            succeeds(torch.load, "work/epoch_1.pth", weights_only=True),
            succeeds(train, 2, resume=True),
        ]

    train(1, resume=False)
    before = attempt()
    compat.setup()
    print(json.dumps([before, attempt()]))
"""


@pytest.mark.slow
def test_resume(run_python):
    before, after = run_python(TRAIN_AND_RESUME)
    # The forks resume on their own, here by falling back to unsafe loading; mmengine 0.10.7 cannot.
    assert before == [False, FORKS]
    assert after == [True, True]


def save_and_load(value, path):
    torch.save(value, path)
    return torch.load(path, weights_only=True)


def test_history_and_numbers_survive(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 1])
    value = {
        "history": history,
        "best": np.float64(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["a", "b"]),
    }
    loaded = save_and_load(value, tmp_path / "state.pth")
    assert loaded["history"].mean() == 3.0
    assert loaded["history"].statistics("max") == 6.0
    assert (loaded["best"], loaded["count"], loaded["flag"]) == (0.5, 3, True)
    np.testing.assert_array_equal(loaded["array"], value["array"])
    assert loaded["names"].tolist() == ["a", "b"]


def test_trust_outlives_a_context_of_trust(tmp_path):
    """onedl-mmengine loads within one, and torch takes its entries back at the end."""
    reconstruct = np.ones(1).__reduce__()[0]
    entries = [HistoryBuffer, getattr, np.ndarray, np.dtype, reconstruct]
    with torch.serialization.safe_globals([*entries, type(np.dtype(np.float64))]):
        pass
    loaded = save_and_load({"history": HistoryBuffer([1.0], [1])}, tmp_path / "state.pth")
    assert loaded["history"].current() == 1.0


@pytest.mark.filterwarnings("ignore:numpy.core")
def test_the_last_numpy_1_has_an_empty_core_beside_its_own(monkeypatch):
    numpy_globals.cache_clear()
    monkeypatch.setattr(np, "_core", types.ModuleType("_core"))
    names = [name for _, name in numpy_globals()]
    numpy_globals.cache_clear()
    assert names[:2] == [
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
    ]


def test_files_of_the_other_numpy_load(tmp_path):
    """NumPy 2 moved its pickling functions from numpy.core to numpy._core."""
    path, old = tmp_path / "own.pth", tmp_path / "other.pth"
    torch.save({"array": np.ones(3), "scalar": np.float64(2)}, path)
    names = [b"numpy.core.multiarray", b"numpy._core.multiarray"]
    own, other = names if np.__version__ < "2" else names[::-1]
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert own in data
                data = data.replace(own, other)
            target.writestr(name, data)
    loaded = torch.load(old, weights_only=True)
    assert loaded["array"].tolist() == [1, 1, 1]
    assert loaded["scalar"] == 2


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Calls(print, "run"),
        Calls(getattr, "text", "format"),
        Calls(getattr, HistoryBuffer, "__init__"),
        Calls(getattr, np.ndarray, "tofile"),
        np.array([{"any": "object"}], dtype=object),
    ],
    ids=["function", "method", "dunder", "numpy", "objects"],
)
def test_nothing_else_is_trusted(tmp_path, value):
    with pytest.raises(Exception, match=r"Unsupported|weights_only|never saves"):
        save_and_load({"value": value}, tmp_path / "bad.pth")
