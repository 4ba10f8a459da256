"""Put a study's tables and sentences into the README: `python -m lib.study.readme laptop`.

Between `<!-- 05_quality -->` and `<!-- end -->` stands the file `05_quality.md` that a notebook wrote beside its
figures, so that no number is copied by hand.
"""

import argparse
import re
from pathlib import Path

from lib.analysis import style
from lib.machine import store

README = Path(__file__).parents[2] / "README.md"
PLACE = re.compile(r"(?<=<!-- )(?P<name>(?!end )\w+)( -->\n).*?(?=<!-- end -->)", re.S)


def filled(text: str, folder: Path) -> str:
    """A README with every place filled from a folder; FileNotFoundError names a file that is missing."""
    return PLACE.sub(lambda place: place["name"] + place[2] + (folder / f"{place['name']}.md").read_text(), text)


def main() -> None:
    """Fill the README's places from a profile's study."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.readme", description=main.__doc__)
    parser.add_argument("profile")
    text = filled(README.read_text(), style.folder(parser.parse_args().profile))
    store.replace_file(README, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
