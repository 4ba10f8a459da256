"""Put tables and sentences into the README: `python -m lib.study.readme`, the last step of `make figures`.

Between `<!-- 05_quality -->` and `<!-- end -->` stands the file `05_quality.md` of `figures/tables/`, which a notebook
wrote, so that no number is copied by hand; those of benchmarks, `bench_speed.md`, are in `figures/`.
"""

import re
from pathlib import Path

from lib.machine import store

README = Path(__file__).parents[2] / "README.md"
FIGURES = README.parent / "figures"
FOLDERS = (FIGURES / "tables", FIGURES)
PLACE = re.compile(r"(?<=<!-- )(?P<name>(?!end )\w+)( -->\n).*?(?=<!-- end -->)", re.S)


def filled(text: str, *folders: Path) -> str:
    """A README with its places filled, each from the first folder that has its file; prints which places it leaves."""

    def fill(place: re.Match) -> str:
        paths = [folder / f"{place['name']}.md" for folder in folders]
        for path in paths:
            if path.exists():
                return place["name"] + place[2] + path.read_text()
        print(f"{' and '.join(map(str, paths))}: no such file, so its place in {README.name} stays as it is")
        return place[0]

    return PLACE.sub(fill, text)


def main() -> None:
    """Fill the README's places from the tables beside it."""
    text = filled(README.read_text(), *FOLDERS)
    store.replace_file(README, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
