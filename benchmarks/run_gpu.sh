#!/usr/bin/env bash
# All rows that need a GPU, in one call; writes one JSON file named after the device.
#   bash benchmarks/run_gpu.sh [--quick] [FILE.json]      PYTHON chooses the interpreter
# --quick: tiny sizes on any machine, to see that it works; writes FILE.json only if it is named.
set -euo pipefail
quick=""
if [ "${1:-}" = --quick ]; then quick=--quick; shift; fi
out="${1:+$(realpath "$1")}"
cd "$(dirname "$0")"
python="${PYTHON:-$( [ -x ../.venv/bin/python ] && echo ../.venv/bin/python || echo python3 )}"
[ -n "$quick" ] || "$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device: its rows stay not measured")'
parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
for name in training positions embedding deployment pipeline; do
    echo "$name" >&2
    "$python" "$name.py" $quick --out "$parts/$name.json" >&2 || echo "$name failed" >&2
done
"$python" - "$parts" "$quick" "$out" <<'PY'
import sys
from pathlib import Path
import measure
from oskdft.files import read_json, write_json
parts, quick, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
found = {p.stem: read_json(p) for p in sorted(parts.glob("*.json"))}
device = measure.slug(measure.provenance.device_name())
if out or not quick:
    write_json(out or measure.RESULTS / f"gpu-{device}.json", found)
for name, result in found.items():
    missing = sum(row["median_s"] is None for row in result["rows"])
    print(f"{name}: {len(result['rows'])} rows, {missing} not measured")
sys.exit(0 if len(found) == 4 else "some benchmarks failed, see above")
PY
