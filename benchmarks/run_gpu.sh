#!/usr/bin/env bash
# All rows that need a GPU, in one call; writes one JSON file named after the device.
#   bash benchmarks/run_gpu.sh [--quick] [FILE.json]      PYTHON chooses the interpreter
# --quick: tiny sizes on any machine, to see that it works; writes FILE.json only if it is named.
# A part that fails is left out of the file, and the exit code is 1.
set -euo pipefail
quick=""
if [ "${1:-}" = --quick ]; then quick=--quick; shift; fi
out="${1:+$(realpath "$1")}"
cd "$(dirname "$0")"
python="${PYTHON:-$( [ -x ../.venv/bin/python ] && echo ../.venv/bin/python || echo python3 )}"
[ -n "$quick" ] || "$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device: its rows stay not measured")'
parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
names=(training cnn positions embedding deployment pipeline)
for name in "${names[@]}"; do
    echo "$name" >&2
    "$python" "$name.py" $quick --out "$parts/$name.json" >&2 || rm -f "$parts/$name.json"
done
"$python" - "$parts" "$quick" "$out" "${names[@]}" <<'PY'
import sys
from pathlib import Path
import measure
from oskdft.utils.files import read_json, write_json
parts, quick, out, *names = sys.argv[1:]
results = {p.stem: read_json(p) for p in sorted(Path(parts).glob("*.json"))}
device = measure.slug(measure.provenance.device_name())
if out or not quick:
    write_json(Path(out or measure.RESULTS / f"gpu-{device}.json"), results)
for name, result in results.items():
    missing = sum(row["median_s"] is None for row in result["rows"])
    print(f"{name}: {len(result['rows'])} rows, {missing} not measured")
failed = [name for name in names if name not in results]
sys.exit(f"failed, see above: {', '.join(failed)}" if failed else 0)
PY
