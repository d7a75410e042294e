#!/usr/bin/env python
"""Time and peak memory of point networks in synthetic rooms and sweeps.

python tools/analysis/benchmark_points.py network --points 20000 40000 80000 160000 --threads 2
python tools/analysis/benchmark_points.py attention --points 80000 --threads 2
python tools/analysis/benchmark_points.py flatformer --points 10000 20000 40000 --threads 2

'network' measures ConDaFormer in training mode, forward and backward in rooms of one density, and
fits how cost grows with the points; 'attention' the window attention alone, at the first pooled
level of the room, factored ('fused') against the literal formula over all pairs ('reference'), in
one process and in turn; 'flatformer' the middle encoder of FlatFormer in evaluation mode, from the
features of so many pillars to the bird's-eye-view map, grouping and all.
"""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mmeffvit import compat
from mmeffvit.analysis import results
from mmeffvit.analysis.benchmark import (
    describe_environment,
    growth_exponent,
    paired_ratio,
    time_in_turn,
)
from mmeffvit.analysis.memory import MIB, peak_memory
from mmeffvit.analysis.points import (
    describe_pillars,
    describe_room,
    prepare_attention,
    prepare_flatformer,
    prepare_network,
)
from mmeffvit.models.points import ConDaFormer, FlatFormer

COLUMNS = [
    "what",
    "arch",
    "implementation",
    "device",
    "points",
    "tokens",
    "pairs",
    "rounds",
    "time_s",
    "time_min_s",
    "time_max_s",
    "cpu_s",
    "speedup_over_reference",
    "peak_memory_mib",
    "memory_of_reference",
    "machine",
    "threads",
    "python",
    "torch",
    "mmeffvit",
    "command",
]


@dataclass(frozen=True)
class Benchmark:
    """What can be measured.

    Attributes:
        network: The class whose variants there are.
        prepare: (arch, points, implementation, device) to a call.
        describe: (arch, points) to tokens and pairs.
        implementations: Those that are measured by default; one without a name has no choice.
    """

    network: type
    prepare: Callable[[str, int, str, str], Callable]
    describe: Callable[[str, int], tuple[int, int]]
    implementations: tuple[str, ...]


BENCHMARKS = {
    "network": Benchmark(ConDaFormer, prepare_network, describe_room, ("fused",)),
    "attention": Benchmark(ConDaFormer, prepare_attention, describe_room, ("fused", "reference")),
    "flatformer": Benchmark(FlatFormer, prepare_flatformer, describe_pillars, ("",)),
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=BENCHMARKS)
    parser.add_argument("--arch", help="variant (default: the first one of the network)")
    parser.add_argument(
        "--points", nargs="+", type=int, default=[20000, 40000], help="points, or pillars"
    )
    parser.add_argument(
        "--implementations",
        nargs="+",
        choices=("fused", "reference"),
        help="default: fused for the network, both for attention",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's own)")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each")
    parser.add_argument("--warmup", type=int, default=1, help="calls of each before that")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the results here")
    args = parser.parse_args(argv)
    benchmark = BENCHMARKS[args.what]
    variants = list(benchmark.network.arch_zoo)
    args.arch = args.arch or variants[0]
    if args.arch not in variants:
        parser.error(f"'{args.what}' has the variants {', '.join(variants)}, not '{args.arch}'")
    if args.implementations is None:
        args.implementations = list(benchmark.implementations)
    elif "" in benchmark.implementations:
        parser.error(f"'{args.what}' has one implementation only")
    if min(args.points) < 100:
        parser.error("rooms and sweeps need at least 100 points")
    return args


def measure(args: argparse.Namespace, num_points: int) -> list[dict[str, str]]:
    """Rows of one size: all implementations in turn, then the memory of each in its own process."""
    benchmark = BENCHMARKS[args.what]
    prepare = benchmark.prepare
    calls = {
        name: prepare(args.arch, num_points, name, args.device) for name in args.implementations
    }
    on_gpu = torch.device(args.device).type == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else (lambda: None)
    cpu = {name: [] for name in calls}

    def counted(name: str) -> Callable[[], None]:
        def call() -> None:
            start = time.process_time()
            calls[name]()
            cpu[name].append(time.process_time() - start)

        return call

    times = time_in_turn(
        {name: counted(name) for name in calls}, args.rounds, args.warmup, synchronize
    )
    tokens, pairs = benchmark.describe(args.arch, num_points)
    calls.clear()
    peaks = {}
    if not args.no_memory:
        for name in args.implementations:
            arguments = (args.arch, num_points, name, args.device)
            peaks[name] = peak_memory(prepare, *arguments, device=args.device)
    rows = []
    for name in args.implementations:
        row = {
            "what": args.what,
            "arch": f"{benchmark.network.family}-{args.arch}",
            "implementation": name,
            "device": args.device,
            "points": str(num_points),
            "tokens": str(tokens),
            "pairs": str(pairs),
            "rounds": str(args.rounds),
            "time_s": f"{statistics.median(times[name]):.3f}",
            "time_min_s": f"{min(times[name]):.3f}",
            "time_max_s": f"{max(times[name]):.3f}",
            "cpu_s": f"{statistics.median(cpu[name][args.warmup :]):.3f}",
        }
        if name in peaks:
            row["peak_memory_mib"] = f"{peaks[name] / MIB:.0f}"
        if "reference" in times and name != "reference":
            ratio = paired_ratio(times["reference"], times[name])
            row["speedup_over_reference"] = f"{ratio:.2f}"
            if peaks:
                row["memory_of_reference"] = f"{peaks[name] / peaks['reference']:.3f}"
        rows.append(row)
    return rows


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    command = shlex.join(
        ["tools/analysis/benchmark_points.py", *(sys.argv[1:] if argv is None else argv)]
    )
    environment = {k: v for k, v in describe_environment(args.device).items() if k in COLUMNS}
    print("; ".join(f"{key}: {value}" for key, value in environment.items()), file=sys.stderr)
    rows, done, start = [], 0, time.monotonic()
    for num_points in sorted(args.points):
        print(f"{num_points} points ...", file=sys.stderr, flush=True)
        rows += [{**r, **environment, "command": command} for r in measure(args, num_points)]
        if args.out is not None:
            results.write_csv(args.out, rows, COLUMNS)
        done += num_points
        elapsed = time.monotonic() - start
        left = elapsed / done * (sum(args.points) - done)
        print(f"{elapsed:.0f} s so far, about {left:.0f} s left", file=sys.stderr, flush=True)
    shown = COLUMNS[COLUMNS.index("implementation") : COLUMNS.index("machine")]
    for row in ({name: name for name in shown}, *rows):
        print("  ".join(f"{row.get(name, ''):>12.22}" for name in shown))
    for name in args.implementations:
        own = [row for row in rows if row["implementation"] == name]
        if len(own) > 1:
            points = [int(row["points"]) for row in own]
            for column in ("time_s", "cpu_s"):
                exponent = growth_exponent(points, [float(row[column]) for row in own])
                of_what = f"{name or args.what}: {column}"
                print(f"{of_what} grows with the points to the power of {exponent:.2f}")
    if args.out is not None:
        print(f"written to {args.out}")


if __name__ == "__main__":
    main()
