"""Licences of what is installed, from the packages' own metadata: ``python tests/tools/licences.py``."""

import importlib.metadata as metadata
import re
from collections.abc import Iterable

from packaging.requirements import Requirement

# what MIT code may be installed beside without conditions on it
ALLOWED = re.compile(
    r"^(MIT(-CMU|-0)?|BSD(-[234]-Clause|-3-Clause-Clear)?|0BSD|Apache-2\.0|ISC|PSF-2\.0|Python-2\.0(\.1)?|MPL-2\.0|"
    r"Unlicense|Zlib|HPND|BSL-1\.0|CC0-1\.0|CNRI-Python|LLVM-exception)$"
)
PLAIN = {  # words of older metadata -> SPDX
    "mit license": "MIT",
    "mit-license": "MIT",
    "the mit license": "MIT",
    "expat license": "MIT",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "simplified bsd": "BSD-2-Clause",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "public domain": "CC0-1.0",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "zlib/libpng license": "Zlib",
}
FORBIDDEN_FILES = re.compile(r"(^|/)lib(x264|x265)")


def installed() -> dict[str, metadata.Distribution]:
    """Name in normal form -> distribution; without what setuptools carries for itself."""
    return {
        normal(found.metadata["Name"]): found
        for found in metadata.distributions()
        if "_vendor" not in str(found.locate_file(""))
    }


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def default_install(root: str = "oskdft") -> set[str]:
    """Names that `pip install` of a package brings on this machine, without its extras."""
    here, names, waiting = installed(), set(), [(root, frozenset[str]())]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name not in here:
            continue
        seen.add((name, extras))
        names.add(name)
        for line in here[name].requires or []:
            needed = Requirement(line)
            places = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(place) for place in places):
                waiting.append((normal(needed.name), frozenset(needed.extras)))
    return names


def licences(found: metadata.Distribution) -> list[str]:
    """SPDX names of a package's licences; words that are unknown stay as they are."""
    expression = found.metadata.get("License-Expression")
    if expression:
        return _terms(expression)
    kinds = found.metadata.get_all("Classifier") or []
    words = [kind.split("::")[-1].strip() for kind in kinds if kind.startswith("License ::")]
    words = [word for word in words if word != "OSI Approved"]
    if not words:
        first = (found.metadata.get("License") or "").strip().splitlines()
        words = [first[0]] if first else ["unknown"]
    return [PLAIN.get(term.lower(), term) for word in words for term in _terms(word)]


def _terms(expression: str) -> list[str]:
    """The names in an SPDX expression; other words stay whole."""
    plain = re.sub(r"^\((.*)\)$", r"\1", expression) if " AND " in expression else expression
    return re.split(r"\s+(?:AND|OR|WITH)\s+", plain)


def refused(names: Iterable[str]) -> dict[str, str]:
    """Package -> why it may not be installed: an unknown or excluded licence, or a library under the GPL."""
    here, reasons = installed(), {}
    for name in sorted(names):
        unknown = [word for word in licences(here[name]) if not ALLOWED.match(word)]
        if unknown:
            reasons[name] = f"licence {', '.join(unknown)}"
        carried = [str(f) for f in here[name].files or [] if FORBIDDEN_FILES.search(str(f))]
        if carried:
            reasons[name] = f"carries {carried[0]}"
    return reasons


def main() -> None:
    """Print package, version, licence, and whether a plain installation has it."""
    plain = default_install()
    for name, found in sorted(installed().items()):
        kind = "default" if name in plain else "extra"
        print(f"{name} {found.version}: {', '.join(licences(found))} ({kind})")


if __name__ == "__main__":
    main()
