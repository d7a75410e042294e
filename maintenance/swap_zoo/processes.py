"""A trial in a process of its own, which may crash, hang, or leave anything behind."""

from __future__ import annotations

import multiprocessing
import os
import re
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mmengine.logging import MMLogger

from mmeffvit.swap import SwapError


def in_process(function: Callable[..., dict], *args: Any, timeout: float) -> dict[str, Any]:
    """What a function returns; of a failure ``error``, ``refused`` and ``traceback``.

    Args:
        function: What is called, in a fork of this process.
        args: Its arguments.
        timeout: In seconds.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(function, args, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return _failure(f"no result within {timeout:.0f} s")
        return receiver.recv()
    except EOFError:
        process.join()
        return _failure(f"the process ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def sentence(error: BaseException) -> str:
    """Type and first line, without addresses and paths, which differ from run to run."""
    text = str(error).strip()
    line = re.sub(r"/\S*?/(site-packages|bin)/", "", text.splitlines()[0]) if text else ""
    return line if isinstance(error, SwapError) else f"{type(error).__name__}: {line}"[:300]


def _call(function: Callable[..., dict], args: tuple[Any, ...], sender: Connection) -> None:
    try:
        with open(os.devnull, "w") as nowhere:  # the toolboxes log every parameter
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        MMLogger.get_current_instance().setLevel("ERROR")
        result = function(*args)
    except BaseException as error:  # SystemExit of a config is a result, too
        result = _failure(sentence(error), isinstance(error, SwapError))
        result["traceback"] = traceback.format_exc()[-3000:]
    sender.send(result)


def _failure(error: str, refused: bool = False) -> dict[str, Any]:
    return {"error": error, "refused": refused, "traceback": ""}
