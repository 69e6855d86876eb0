"""Make a release: `make release VERSION=0.2.0`. It publishes nothing.

It dates the changes, sets the version everywhere, builds the distributions into `dist/`, commits,
and makes a tag. A fault undoes all of it.
"""

import argparse
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORM = re.compile(r"\d+\.\d+\.\d+")
CHANGES = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]"
# The version stands in the place of the group, and nowhere else in the file.
PLACES = {
    "tornado_rt/__init__.py": r'__version__ = "({})"',
    "clients/python/src/tornado_rt_client/__init__.py": r'__version__ = "({})"',
    "clients/js/package.json": r'^  "version": "({})"',
    "docs/openapi.yaml": r"^  version: ({})$",
    "docs/asyncapi.yaml": r"^  version: ({})$",
    "docs/clients.md": r"tornado-rt-client-({})\.tgz",
    "docs/howto/react.md": r"tornado-rt-client-({})\.tgz",
    "docs/zh-CN/howto/react.md": r"tornado-rt-client-({})\.tgz",
}
MAKE_DOCS = (".venv/bin/python", "-m", "docs.made")
BUILDS = (
    (".venv/bin/python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", "dist", "."),
    (
        *(".venv/bin/python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", "dist"),
        "./clients/python",
    ),
    ("npm", "pack", "--silent", "--pack-destination", "dist", "./clients/js"),
)


class NoRelease(Exception):
    """This version cannot be released now; the message says why."""


def main() -> int:
    """Make the release that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="as 0.2.0")
    version = parser.parse_args().version
    try:
        release(ROOT, version)
    except NoRelease as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    print(f"released {version}: see dist/, then git push --follow-tags")
    return 0


def release(root: Path, version: str) -> None:
    """Make the release. Raise NoRelease, and leave the tree as it was."""
    check(root, version)
    try:
        set_version(root, version, datetime.now(UTC).date())
        for command in (MAKE_DOCS, ("make", "lint"), *BUILDS):
            _run(root, *command)
    except BaseException:
        _run(root, "git", "checkout", "--quiet", "--", ".")
        raise
    _run(root, "git", "commit", "--quiet", "--all", "--message", f"Release {version}")
    _run(root, "git", "tag", "--annotate", "--message", f"tornado_rt {version}", f"v{version}")


def check(root: Path, version: str) -> None:
    """Raise NoRelease for a version or a tree that cannot be released."""
    if not FORM.fullmatch(version):
        raise NoRelease(f"{version!r} is no version: write it as 0.2.0")
    if _run(root, "git", "status", "--porcelain"):
        raise NoRelease("the tree has changes that are not committed")
    if _run(root, "git", "tag", "--list", f"v{version}"):
        raise NoRelease(f"there is a tag v{version}")
    last = version_of(root)
    if _numbers(version) <= _numbers(last) and f"[{last}]" in _changes(root):
        raise NoRelease(f"{version} is not above {last}")
    _, _, news = _changes(root).partition(UNRELEASED)
    if not news.partition("\n## [")[0].strip():
        raise NoRelease(f"{CHANGES} has nothing under {UNRELEASED}")


def version_of(root: Path) -> str:
    """Return the version that stands everywhere. Raise NoRelease when two differ."""
    found = {
        one
        for path, form in PLACES.items()
        for one in re.findall(form.format(FORM.pattern), (root / path).read_text(), re.MULTILINE)
    }
    if len(found) != 1:
        raise NoRelease(f"the version is written as {', '.join(sorted(found))}")
    return str(found.pop())


def set_version(root: Path, version: str, day: date) -> None:
    """Write the version into each place, and the day into the changes."""
    for path, form in PLACES.items():
        file = root / path
        pattern = re.compile(form.format(FORM.pattern), re.MULTILINE)
        file.write_text(pattern.sub(lambda one: one[0].replace(one[1], version), file.read_text()))
    text = _changes(root).replace(UNRELEASED, f"{UNRELEASED}\n\n## [{version}] - {day}", 1)
    (root / CHANGES).write_text(text)


def _changes(root: Path) -> str:
    return (root / CHANGES).read_text()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _run(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoRelease(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
