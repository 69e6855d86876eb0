"""`python -m tornado_rt.locales FOLDER FILE ...`: write an author's texts into PO files.

Each FILE is a module of kinds. The PO files of FOLDER are brought up to date; `--language` makes
one. The exit status is 1 while one of them does not say a text.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tornado_rt.locales.catalogue import SUFFIX
from tornado_rt.locales.extraction import find_all, find_said, update
from tornado_rt.locales.tags import is_locale


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the texts, say what is not translated, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tornado_rt.locales", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of PO files, which RT_LOCALES names")
    parser.add_argument("files", type=Path, nargs="+", help="modules of kinds")
    parser.add_argument("--language", action="append", default=[], help="make its file, as zh-CN")
    options = parser.parse_args(arguments)
    for one in options.language:
        if not is_locale(one):
            parser.error(f"--language: {one} is no language tag such as de-AT")
    try:
        found = find_all(options.files, find_said)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    made = [options.folder / f"{one}{SUFFIX}" for one in options.language]
    files = sorted({*options.folder.glob(f"*{SUFFIX}"), *made})
    left = [(file, one) for file in files for one in update(file, found)]
    for file, one in left:
        sys.stdout.write(f"{file}: no text for {one!r}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
