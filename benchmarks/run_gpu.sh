#!/usr/bin/env bash
# All rows that need a GPU, in one call; writes one JSON file named after the device.
#   bash benchmarks/run_gpu.sh [FILE.json]      PYTHON chooses the interpreter
set -euo pipefail
cd "$(dirname "$0")"
python="${PYTHON:-$( [ -x ../.venv/bin/python ] && echo ../.venv/bin/python || echo python3 )}"
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device: its rows stay not measured")'
parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
for name in training embedding deployment startup; do
    echo "$name" >&2
    "$python" "$name.py" --json >"$parts/$name.json" || echo "$name failed" >&2
done
"$python" - "$parts" "${1:-}" <<'PY'
import sys
from pathlib import Path
import measure
from oskdft.files import read_json, write_json
parts, out = Path(sys.argv[1]), sys.argv[2]
found = {p.stem: read_json(p) for p in sorted(parts.glob("*.json")) if p.stat().st_size}
device = measure.slug(measure.provenance.device_name())
write_json(out or measure.RESULTS / f"gpu-{device}.json", found)
print(out or measure.RESULTS / f"gpu-{device}.json")
sys.exit(0 if len(found) == 4 else "some benchmarks failed, see above")
PY
