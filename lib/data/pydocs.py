"""PyDocs: a retrieval collection built in seconds from the docstrings of installed packages.

A query is a docstring's summary line; its relevant passage is the readable name of the function or class and what
follows the summary. Like in MS MARCO, a query has one or few relevant passages, and a lexical first stage does fairly.
Sources are parsed with `ast`, never imported. Each domain becomes a folder in the BEIR layout.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path

LAYOUT = 1  # noted beside the texts: raise it when the text that this file builds changes

# domain -> distributions. The first is in-domain: only it has training and dev queries.
DOMAINS = {
    "pydocs": ("numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "torch", "datasets", "accelerate", "matplotlib",
               "seaborn"),
    "sympy": ("sympy",), "networkx": ("networkx",), "stdlib": ("python",),
    "web": ("tornado", "anyio", "httpx", "requests", "urllib3", "jupyter_server", "jupyter_client"),
}  # fmt: skip
IN_DOMAIN, *OUT_OF_DOMAIN = DOMAINS

QUERY_WORDS = (3, 24)  # shorter summaries name nothing, longer ones are paragraphs
PASSAGE_WORDS = (12, 32)  # words of the passage's body: at least, and at most (the rest is cut)
NEAR_DUPLICATE = 0.8  # Jaccard overlap of word 4-grams from which two passages count as the same
SHARES = {"train": 80, "dev": 5, "test": 15}  # per cent of the in-domain queries

_SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendor", "site-packages", "idlelib", "lib2to3", "_pytest"}
# Doctests, directives and underlines, which say nothing about what a function does.
_NOT_PROSE = re.compile(r"^\s*>>>.*(?:\n.*\S.*)*|^\s*\.\..*|^[-=~^*#+_ ]+$", re.MULTILINE)

Pair = tuple[str, str, str]  # document id, query, passage


@cache
def versions() -> dict[str, str]:
    """Distribution -> version of every source package."""
    distributions = {name for names in DOMAINS.values() for name in names} - {"python"}
    try:
        installed = {name: importlib.metadata.version(name) for name in distributions}
    except importlib.metadata.PackageNotFoundError as error:
        what = f"PyDocs reads the docstrings of {error.name!r}, which is not installed"
        advice = "install the kit's packages: pip install -c constraints.txt -e ."
        raise ModuleNotFoundError(f"{what}; {advice}") from error
    return {"python": platform.python_version(), **installed}


def build(folder: Path) -> None:
    """Write one BEIR folder per domain."""
    for domain, pairs in _parsed().items():
        packages = {name: versions()[name] for name in sorted(DOMAINS[domain])}
        write(folder / domain, pairs, SHARES if domain == IN_DOMAIN else {"test": 100}, packages)


def write(place: Path, pairs: list[Pair], shares: dict[str, int], packages: dict[str, str]) -> None:
    """Write a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv), and what it was built from."""
    (place / "qrels").mkdir(parents=True)
    passages, queries, judgements = merge(pairs)
    corpus = [json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in passages.items()]
    topics = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items()]
    (place / "corpus.jsonl").write_text("".join(corpus))
    (place / "queries.jsonl").write_text("".join(topics))
    for split, members in _split(judgements, shares).items():
        rows = [f"{query}\t{document}\t1\n" for query in members for document in sorted(judgements[query])]
        (place / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    built_from = {"packages": packages, "layout": LAYOUT, "texts": len(pairs)}
    (place / "built_from.json").write_text(json.dumps(built_from, indent=1))


def _parsed() -> dict[str, list[Pair]]:
    """The pairs of each domain, parsed by a process that runs this file.

    It has neither the caller's folder nor this one on its module path (-P): a `json.py` that lies there is not
    imported. It may fork one process per core, unlike the caller, which has threads (torch's and Jupyter's).
    """
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).absolute())]
    parser = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if parser.returncode:
        why = parser.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it wrote no error"]
        raise RuntimeError(f"parsing the installed packages failed (status {parser.returncode}): {why[0]}")
    return json.loads(parser.stdout)


def _sources(distribution: str) -> Iterator[tuple[str, Path]]:
    """(dotted module name, file) of every source file, tests left out."""
    if distribution == "python":
        root, prefix = Path(sysconfig.get_paths()["stdlib"]), ()
    else:
        module = "sklearn" if distribution == "scikit-learn" else distribution
        root, prefix = Path(importlib.util.find_spec(module).origin).parent, (module,)
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if not _SKIPPED_FOLDERS.intersection(parts[:-1]) and not parts[-1].startswith("test_"):
            yield ".".join((*prefix, *(part for part in parts if part != "__init__"))), path


def _pairs_of_file(source: tuple[str, Path]) -> list[Pair]:
    """The pairs of one (module name, file): one for each public function and class with a usable docstring."""
    module, path = source
    text = path.read_bytes()
    if b'"""' not in text and b"'''" not in text:
        return []
    try:
        documented = _documented(ast.parse(text))
    except (SyntaxError, ValueError):  # templates and deliberately broken samples lie in some packages
        return []
    return [(".".join((module, *names)), *found) for names, text in documented if (found := _pair(names, text))]


def _documented(node: ast.AST, owners: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(names, docstring) of every public function, class and method below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from _documented(child, owners)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            names = (*owners, child.name)
            yield names, ast.get_docstring(child) or ""
            if isinstance(child, ast.ClassDef):
                yield from _documented(child, names)


def _pair(names: tuple[str, ...], docstring: str) -> tuple[str, str] | None:
    """(query, passage) of a docstring, or None where it has no summary, little else, or repeats its summary."""
    summary, _, rest = docstring.partition("\n\n")
    query, body = _plain(summary), _plain(_NOT_PROSE.sub("", rest))
    if len(query.split()) > QUERY_WORDS[1]:
        query = re.split(r"\. (?=[A-Z])", query)[0]
    return pair(query, readable_name(names), body, PASSAGE_WORDS)


def pair(summary: str, name: str, rest: str, passage_words: tuple[int, int]) -> tuple[str, str] | None:
    """(query, passage), or None where the summary is too short or long, or repeated, or the rest is too short."""
    (few, many), (least, most) = QUERY_WORDS, passage_words
    query, body = summary.rstrip(". :"), rest.split()
    passage = f"{name}: {' '.join(body[:most])}"
    usable = few <= len(query.split()) <= many and len(body) >= least and query.isascii()
    return (query, passage) if usable and words(query) not in words(passage) else None


def readable_name(names: tuple[str, ...]) -> str:
    """('DataFrame', 'to_parquet') -> 'data frame to parquet': the last two names, split as a reader would."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+", " ", " ".join(names[-2:]))
    return " ".join(text.lower().split())


def words(text: str) -> str:
    """Lower-case words with single spaces and a space at each end: `words(a) in words(b)` is 'b contains a'."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def _plain(text: str) -> str:
    """Text without reST and Markdown marks."""
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]*)`", r"\1", text)
    return " ".join(re.sub(r"[`*|]+|\\\w+", " ", text).split())


def merge(pairs: list[Pair]) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Passages, queries and judgements in which each text appears once.

    Near-equal passages (inherited and copied docstrings) become one document, the first by name. Equal summaries become
    one query, to which all their passages are relevant.
    """
    pairs = sorted(set(map(tuple, pairs)))
    passages, query_texts, relevant = {}, {}, defaultdict(set)
    for (_, query, _), first in zip(pairs, near_duplicates([passage for _, _, passage in pairs]), strict=True):
        document, _, passages[document] = pairs[first]
        query_texts.setdefault(words(query), query)
        relevant[words(query)].add(document)
    queries, judgements = {}, {}
    for form, text in query_texts.items():
        # A passage stands for its near-duplicates, so it must not contain any query that it now answers.
        if not any(form in words(passages[document]) for document in relevant[form]):
            name = hashlib.sha256(form.encode()).hexdigest()[:12]
            queries[name], judgements[name] = text, relevant[form]
    return passages, queries, judgements


def near_duplicates(passages: list[str]) -> list[int]:
    """For every passage the index of the first one that it nearly equals (itself if none).

    4-grams of bodies, without the name, are compared, so that an inherited method is found; and only of passages that
    share one of their eight rarest.
    """
    grams = []
    for passage in passages:
        tokens = words(passage.partition(": ")[2]).split()
        grams.append({tuple(tokens[i : i + 4]) for i in range(max(1, len(tokens) - 3))})
    counts, holders = Counter(chain.from_iterable(grams)), defaultdict(list)
    first = list(range(len(passages)))
    for index, own in enumerate(grams):
        rarest = sorted(own, key=lambda gram: (counts[gram], gram))[:8]
        for other in sorted({holder for gram in rarest for holder in holders[gram][:50]}):
            if len(own & grams[other]) >= NEAR_DUPLICATE * len(own | grams[other]):
                first[index] = first[other]
                break
        for gram in rarest:
            holders[gram].append(index)
    return first


def _split(judgements: dict[str, set[str]], shares: dict[str, int]) -> dict[str, list[str]]:
    """Queries of each split, in an order that is random but the same on every machine.

    Queries that share a relevant passage go to the same split: no passage of a test query is a training positive.
    """
    order = sorted(judgements)  # names are hashes of the text
    groups = {query: [query] for query in order}  # queries that belong together share a list
    first_with = {}
    for query in order:
        for document in sorted(judgements[query]):
            group, earlier = groups[query], groups[first_with.setdefault(document, query)]
            if group is not earlier:
                earlier += group
                groups |= dict.fromkeys(group, earlier)
    split_of_percent = [split for split, share in shares.items() for _ in range(share)]
    splits = {split: [] for split in shares}
    for query in order:
        percent = int(hashlib.sha256(groups[query][0].encode()).hexdigest(), 16) % 100
        splits[split_of_percent[percent]].append(query)
    return splits


if __name__ == "__main__":  # the process of `_parsed`
    pairs = {}
    with ProcessPoolExecutor() as pool:
        for domain, distributions in DOMAINS.items():
            sources = chain.from_iterable(map(_sources, distributions))
            pairs[domain] = list(chain.from_iterable(pool.map(_pairs_of_file, sources, chunksize=8)))
    print(json.dumps(pairs))
