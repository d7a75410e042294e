#!/usr/bin/env bash
# Train with several processes on this machine, or on several machines (start it on each of them).
set -euo pipefail

if (($# < 2)); then
    cat >&2 <<USAGE
usage: [NNODES=1] [NODE_RANK=0] [MASTER_ADDR=127.0.0.1] [PORT=29500] $0 CONFIG GPUS [ARGS]

  GPUS   processes on this machine: its GPUs, or CPU processes where there are none
  ARGS   what tools/train.py takes, such as --work-dir DIR --amp --resume
USAGE
    exit 2
fi

config=$1
gpus=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$root/tools/train.py" "$config" --launcher pytorch "$@"
