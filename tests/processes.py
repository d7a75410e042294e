"""Processes that have imported the stack already: a fresh interpreter takes seconds to do so."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
_requests: Connection | None = None


def start_server() -> None:
    """Fork a process that forks others for :func:`call`, before any test runs in this one.

    It has run nothing: PyTorch lets no process that is forked after gradients compute any. Where
    there is a GPU, which a forked process may not be able to use, Python's own server does it.
    """
    global _requests
    if _requests is not None or torch.cuda.is_available():
        return
    _requests, theirs = multiprocessing.Pipe()
    if os.fork() == 0:
        try:
            _requests.close()
            _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()


def call(function: Callable[..., None], *args, timeout: float) -> int:
    """The exit status of a process that holds :mod:`tests.preloaded` and calls a function.

    Raises:
        TimeoutExpired: It took longer, and was killed.
    """
    if _requests is None:
        return _join(_context().Process(target=function, args=args), timeout)
    _requests.send((function, args))
    process = _requests.recv()
    late = not _requests.poll(timeout)
    if late:
        os.kill(process, signal.SIGKILL)
    status = _requests.recv()
    if late:
        raise subprocess.TimeoutExpired(function.__name__, timeout)
    return status


def _serve(requests: Connection) -> None:
    while True:
        try:
            function, args = requests.recv()
        except EOFError:  # the tests have ended
            return
        import_module("tests.preloaded")
        process = multiprocessing.get_context("fork").Process(target=function, args=args)
        process.start()
        requests.send(process.pid)
        process.join()
        requests.send(process.exitcode)


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    here = os.getcwd()
    os.chdir(ROOT)  # where an older Python's server looks for what it imports
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    return context


def _join(process: multiprocessing.Process, timeout: float) -> int:
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(process.name, timeout)
    return process.exitcode
