#!/usr/bin/env bash
# The whole path, top to bottom: Python's documentation -> a tuned checkpoint -> two endpoints -> a verdict -> a deployment.
# Every stage resumes: run it again and only what is missing is made. Usage: examples/demo.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-demo}" && cd "${1:-demo}"

step() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
servers=()
trap 'for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done; wait' EXIT
# Wait for a server of ours; stop when it ends instead, having said why.
up() { step serve wait "$1" & wait -n $! "$2" && kill -0 "$2"; }

[ -f recipe.toml ] || step tune init
step tune collect
step evalsuite questions
step tune dataset
step tune nano
step tune train
step tune export --format mxfp4
step tune export --format merged

step serve preflight work/nano --port 8101
step serve preflight work/merged --port 8102
printf '\n\033[1m$ serve run work/nano --port 8101 &\n$ serve run work/merged --port 8102 &\033[0m\n'
serve run work/nano --port 8101 & servers+=($!)
serve run work/merged --port 8102 & servers+=($!)
up http://127.0.0.1:8101/v1 "${servers[0]}"
up http://127.0.0.1:8102/v1 "${servers[1]}"

step evalsuite compare --base http://127.0.0.1:8101/v1 --tuned http://127.0.0.1:8102/v1 --concurrency 64
verdict=0; step evalsuite gate work/report.json || verdict=$?
if [ "$verdict" = 0 ]; then
  for target in modal runpod sagemaker; do
    step deploy render "$target" --checkpoint work/merged --report work/report.json --out "work/deploy/$target"
  done
else
  printf '\nThe gate did not pass, so nothing is rendered: deploy refuses a checkpoint without a passing report.\n'
fi
step tune status
