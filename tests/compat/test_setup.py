"""setup(): any number of times, from any number of threads, on whatever is installed."""

import sys
import threading

import pytest

from mmeffvit import compat


def test_a_second_call_changes_nothing():
    extension = sys.modules.get("mmcv._ext")
    compat.setup()
    assert sys.modules.get("mmcv._ext") is extension


def test_threads_set_up_once(monkeypatch):
    from mmeffvit.compat import config

    calls, start = [], threading.Barrier(8)
    monkeypatch.setattr(compat, "_is_set_up", False)
    monkeypatch.setattr(config, "repair_prefixes", lambda: calls.append(1))

    def call():
        start.wait()
        compat.setup()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_a_failed_set_up_is_tried_again(monkeypatch):
    from mmeffvit.compat.mmcv_ops import module

    def fail():
        raise module.TooLateError("too late")

    monkeypatch.setattr(compat, "_is_set_up", False)
    with monkeypatch.context() as patch:
        patch.setattr(module, "install", fail)
        with pytest.raises(module.TooLateError):
            compat.setup()
    compat.setup()
    assert compat._is_set_up


def test_without_any_toolbox(run_python):
    """Importing mmeffvit.compat loads no third package; setup passes over what is not installed."""
    script = """
        import json, sys
        from mmeffvit import compat
        light = not {"torch", "numpy", "mmengine", "mmcv"} & set(sys.modules)
        sys.modules.update(dict.fromkeys(["mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain"]))
        compat.setup()
        print(json.dumps([light, "mmcv._ext" in sys.modules]))
    """
    assert run_python(script) == [True, False]
