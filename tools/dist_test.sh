#!/usr/bin/env bash
# Evaluate with several processes on this machine, or on several machines (start it on each of them).
set -euo pipefail

if (($# < 3)); then
    cat >&2 <<USAGE
usage: [NNODES=1] [NODE_RANK=0] [MASTER_ADDR=127.0.0.1] [PORT=29500] $0 CONFIG CHECKPOINT GPUS [ARGS]

  GPUS   processes on this machine: its GPUs, or CPU processes where there are none
  ARGS   what tools/test.py takes, such as --show-dir DIR --out FILE.pkl
USAGE
    exit 2
fi

config=$1
checkpoint=$2
gpus=$3
shift 3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
