"""Print the versions installed here of everything that Frostline and some of its extras need, for requirements.lock.

Usage: python scripts/lock.py EXTRA,EXTRA
Packages that happen to be here but that nothing asks for are left out.
"""

import sys
from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# The tested set: versions of the base install and the extras {extras}, as constraints for pip (--constraint).
# Made by `make lock` with Python {python}. Not every line is needed on every system.
"""


def needed(requirement: Requirement, versions: dict[str, str], visited: set[tuple[str, str]]) -> None:
    """Add the version of what a requirement names, and of all that it needs in turn, to ``versions``."""
    name = canonicalize_name(requirement.name)
    for extra in requirement.extras or {""}:
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        installed = distribution(name)
        versions[name] = installed.version
        for text in installed.requires or ():
            deeper = Requirement(text)
            if deeper.marker is None or deeper.marker.evaluate({"extra": extra}) or deeper.marker.evaluate({"extra": ""}):
                needed(deeper, versions, visited)


def main() -> None:
    """Print the lock file."""
    versions: dict[str, str] = {}
    needed(Requirement(f"frostline[{sys.argv[1]}]"), versions, set())
    del versions["frostline"]
    if local := [f"{name} {version}" for name, version in versions.items() if "+" in version]:
        sys.exit(f"Not from the index, so not for the lock: {', '.join(local)}")
    print(HEADER.format(extras=sys.argv[1].replace(",", ", "), python=".".join(map(str, sys.version_info[:2]))), end="")
    print("\n".join(f"{name}=={version}" for name, version in sorted(versions.items())))


if __name__ == "__main__":
    main()
