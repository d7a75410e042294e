"""Peak memory of a call, measured and not modelled.

On a GPU torch's allocator keeps the count. On a CPU nothing does, so the call runs in a process of
its own and the kernel's high-water mark of resident memory is read before and after; that also
catches what libraries allocate behind torch's back, and a call that is killed for memory takes only
its own process along.
"""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

MIB = 2**20


class ChildError(RuntimeError):
    """The call failed in its process; the message says how."""


def peak_memory(prepare: Callable[..., Callable[[], Any]], *args: Any, device: str = "cpu") -> int:
    """Bytes by which memory rose at most while a call ran, above what was in use before it.

    Args:
        prepare: Called with `args`; returns the call to be measured, which takes nothing. What
            `prepare` allocates (weights, inputs, libraries that are loaded on first use) is not
            counted. For the CPU it must be importable by name, as it runs in another process.
        *args: Arguments of `prepare`; picklable for the CPU.
        device: ``"cpu"`` or a CUDA device.

    Raises:
        ChildError: If the call raised or its process was killed, say for memory.
        NotImplementedError: On the CPU of a system without Linux's ``/proc``.
    """
    if torch.device(device).type == "cuda":
        return _cuda_peak(prepare(*args), device)
    if not _CLEAR_REFS.exists():
        raise NotImplementedError(
            "peak memory on the CPU is read from /proc, which only Linux has; leave memory out "
            "(benchmark.py --no-memory) on this system"
        )
    # forked from a server that has run nothing, and imports once for all calls what takes seconds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, prepare.__module__])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, prepare, args, torch.get_num_threads()))
    child.start()
    sender.close()
    try:
        error, peak = receiver.recv()
    except EOFError:
        child.join()
        raise ChildError(
            f"the process ended with code {child.exitcode} and no result"
            + (", most likely killed because memory ran out" if child.exitcode == -9 else "")
        ) from None
    finally:
        receiver.close()
        child.join()
    if error is not None:
        raise ChildError(error)
    return peak


def memory_during(call: Callable[[], Any], device: str = "cpu") -> int | None:
    """Bytes by which memory rose at most while a call ran in this process.

    On a CPU, blocks that were freed before and are used again go unseen; in a fresh process there
    are none. None on a CPU of a system without Linux's ``/proc``; the call runs there too.
    """
    if torch.device(device).type == "cuda":
        return _cuda_peak(call, device)
    if not _CLEAR_REFS.exists():
        call()
        return None
    return _resident_peak(call)


def _child(sender: Connection, prepare: Callable, args: tuple, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    _keep_no_freed_memory()
    if _OOM_SCORE.exists():
        _OOM_SCORE.write_text("1000")  # if memory runs out, this process goes and no other
    try:
        result = (None, _resident_peak(prepare(*args)))
    except Exception as error:
        result = (f"{type(error).__name__}: {error}", 0)
    sender.send(result)
    sender.close()


def _resident_peak(call: Callable[[], Any]) -> int:
    gc.collect()
    _give_back_free_memory()
    _CLEAR_REFS.write_text("5")  # sets the high-water mark to what is resident now
    before = _status_bytes("VmRSS")
    result = call()
    after = _status_bytes("VmHWM")
    del result
    return max(0, after - before)


def _keep_no_freed_memory() -> None:
    """Without this glibc keeps freed blocks of up to 32 MiB, and re-using them would go unseen."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(threshold, 65536)


def _give_back_free_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {key}")


def _cuda_peak(call: Callable[[], Any], device: str) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    del result
    return peak - before
