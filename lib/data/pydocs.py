"""PyDocs: a retrieval collection built in seconds from the docstrings of installed packages.

A query is a docstring's summary line; its relevant passage is the readable name of the function or class and what
follows the summary. It behaves like MS MARCO: one or few relevant passages a query, and a lexical first stage that
does fairly. Sources are parsed with `ast`, never imported. Each domain becomes a folder in the BEIR layout.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

LAYOUT = 1  # goes into the fingerprint: raise it when the text that this file builds changes

# domain -> {module: distribution}. The first is in-domain: only it has training and dev queries.
DOMAINS: dict[str, dict[str, str]] = {
    "pydocs": {
        "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "pyarrow": "pyarrow", "sklearn": "scikit-learn",
        "torch": "torch", "datasets": "datasets", "accelerate": "accelerate", "matplotlib": "matplotlib",
        "seaborn": "seaborn",
    },
    "sympy": {"sympy": "sympy"},
    "networkx": {"networkx": "networkx"},
    "stdlib": {"stdlib": "python"},
    "web": {
        "tornado": "tornado", "anyio": "anyio", "httpx": "httpx", "requests": "requests", "urllib3": "urllib3",
        "jupyter_server": "jupyter_server", "jupyter_client": "jupyter_client",
    },
}  # fmt: skip
IN_DOMAIN, *OUT_OF_DOMAIN = DOMAINS

QUERY_WORDS = (3, 24)  # shorter summaries name nothing, longer ones are paragraphs
PASSAGE_WORDS = (12, 32)  # words of the passage's body: at least, and at most (the rest is cut)
NEAR_DUPLICATE = 0.8  # Jaccard overlap of word 4-grams from which two passages count as the same
SHARES = {"train": 80, "dev": 5, "test": 15}  # per cent of the in-domain queries

_SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendor", "site-packages", "idlelib", "lib2to3", "_pytest"}
_WORD = re.compile(r"[a-z0-9]+")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Distribution -> version of every source package; the parse is repeated when one changes.

    Raises:
        ModuleNotFoundError: a source package is not installed.
    """
    found = {"python": platform.python_version()}
    for domain in DOMAINS.values():
        for distribution in domain.values():
            if distribution != "python":
                try:
                    found[distribution] = importlib.metadata.version(distribution)
                except importlib.metadata.PackageNotFoundError as error:
                    raise ModuleNotFoundError(
                        f"PyDocs reads the docstrings of {distribution!r}, which is not installed; "
                        f"install the kit's packages: pip install -c constraints.txt -e ."
                    ) from error
    return found


def build(folder: Path) -> None:
    """Write one BEIR folder per domain (corpus.jsonl, queries.jsonl, qrels/*.tsv), and what it was built from."""
    package_versions = versions()
    pairs = _parse_in_parallel()
    for domain in DOMAINS:
        _write(folder / domain, domain, pairs[domain], package_versions)


def _parse_in_parallel() -> dict[str, list[tuple[str, str, str]]]:
    """Domain -> (document id, query, passage) of all its files, parsed by one process per core.

    The processes run this file, which needs the standard library alone, by its path and with neither the caller's
    folder nor this one on the module path (-P): a `lib/` or a `json.py` that lies there is not imported.
    multiprocessing would not do: forking a caller with threads (torch, a notebook) is unsafe, and spawning runs the
    caller's script again.
    """
    share = os.cpu_count() or 1
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).absolute())]
    workers = [
        subprocess.Popen([*command, str(number), str(share)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(share)
    ]
    pairs: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    said = [worker.communicate() for worker in workers]
    for worker, (output, errors) in zip(workers, said, strict=True):
        if worker.returncode:
            why = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise RuntimeError(f"parsing the installed packages failed (status {worker.returncode}): {why[0]}")
        for domain, some in json.loads(output).items():
            pairs[domain] += [tuple(pair) for pair in some]
    return pairs


def _parse_share(number: int, share: int) -> dict[str, list[tuple[str, str, str]]]:
    """What one process parses: every file whose position is `number` modulo `share`."""
    files = [(domain, module, path) for domain, modules in DOMAINS.items() for package in modules
             for module, path in _sources(package)]  # fmt: skip
    pairs: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for domain, module, path in files[number::share]:
        pairs[domain] += _pairs_of_file(module, path)
    return pairs


def _sources(module: str) -> list[tuple[str, Path]]:
    """(dotted module name, file) of every source file of a package, tests left out, in a stable order."""
    if module == "stdlib":
        root, prefix = Path(sysconfig.get_paths()["stdlib"]), ()
    else:
        root, prefix = Path(importlib.util.find_spec(module).origin).parent, (module,)
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not _SKIPPED_FOLDERS.intersection(parts[:-1]) and not parts[-1].startswith("test_"):
            found.append((".".join((*prefix, *(part for part in parts if part != "__init__"))), path))
    return found


def _pairs_of_file(module: str, path: Path) -> list[tuple[str, str, str]]:
    """(document id, query, passage) of every public function and class of one file with a usable docstring."""
    text = path.read_bytes()
    if b'"""' not in text and b"'''" not in text:
        return []
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # templates and deliberately broken samples lie in some packages
        return []
    found = []

    def visit(node: ast.AST, owners: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if not child.name.startswith("_"):
                    names = (*owners, child.name)
                    pair = _pair(names, ast.get_docstring(child) or "")
                    if pair:
                        found.append((f"{module}.{'.'.join(names)}", *pair))
                    if isinstance(child, ast.ClassDef):
                        visit(child, names)
            elif isinstance(child, ast.If | ast.Try):
                visit(child, owners)

    visit(tree, ())
    return found


def _pair(names: tuple[str, ...], docstring: str) -> tuple[str, str] | None:
    """(query, passage) of a docstring, or None where it has no summary, little else, or leaks the query."""
    summary, _, rest = docstring.partition("\n\n")
    query = _plain(summary)
    if len(query.split()) > QUERY_WORDS[1]:
        query = re.split(r"\. (?=[A-Z])", query)[0]
    query = query.rstrip(". :")
    body = _plain(_prose(rest)).split()
    few, many = QUERY_WORDS
    if not few <= len(query.split()) <= many or len(body) < PASSAGE_WORDS[0] or not query.isascii():
        return None
    passage = f"{readable_name(names)}: {' '.join(body[: PASSAGE_WORDS[1]])}"
    if words(query) in words(passage):  # the summary is repeated below: the passage would contain its query
        return None
    return query, passage


def readable_name(names: tuple[str, ...]) -> str:
    """('DataFrame', 'to_parquet') -> 'data frame to parquet': the last two names, split as a reader would."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+", " ", " ".join(names[-2:]))
    return " ".join(text.lower().split())


def words(text: str) -> str:
    """Lower-case words with single spaces and a space at each end: `words(a) in words(b)` is 'b contains a'."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def _prose(text: str) -> str:
    """Drop underlines, doctests and directives, which say nothing about what a function does."""
    kept, in_doctest = [], False
    for line in text.splitlines():
        bare = line.strip()
        in_doctest = bare.startswith(">>>") or (in_doctest and bool(bare))
        if not (in_doctest or bare.startswith("..") or (bare and not set(bare) - set("-=~^*#+_ "))):
            kept.append(bare)
    return " ".join(kept)


def _plain(text: str) -> str:
    """Text without reST and Markdown marks."""
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]*)`", r"\1", text)
    return " ".join(re.sub(r"[`*|]+|\\\w+", " ", text).split())


def _write(folder: Path, domain: str, pairs: list[tuple[str, str, str]], package_versions: dict[str, str]) -> None:
    """Merge duplicates, judge, split and write one domain."""
    passages, queries, judgements = _merge(pairs)
    splits = _split(queries, judgements, in_domain=domain == IN_DOMAIN)
    (folder / "qrels").mkdir(parents=True)
    corpus = "".join(json.dumps({"_id": i, "title": "", "text": text}) + "\n" for i, text in passages.items())
    topics = "".join(json.dumps({"_id": i, "text": text}) + "\n" for i, text in queries.items())
    (folder / "corpus.jsonl").write_text(corpus)
    (folder / "queries.jsonl").write_text(topics)
    for split, members in splits.items():
        rows = "".join(f"{query}\t{document}\t1\n" for query in members for document in sorted(judgements[query]))
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    used = {name: package_versions[name] for name in sorted(DOMAINS[domain].values())}
    card = {"packages": used, "layout": LAYOUT, "docstrings": len(pairs)}
    (folder / "built_from.json").write_text(json.dumps(card, indent=1))


def _merge(pairs: list[tuple[str, str, str]]) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Passages, queries and judgements in which each text appears once.

    Equal or near-equal passages (inherited and copied docstrings) become one document, the first by name. Equal
    summaries become one query, to which every one of their passages is relevant.
    """
    pairs = sorted(set(pairs))
    same = _near_duplicates([passage for _, _, passage in pairs])
    passages: dict[str, str] = {}
    text_of_query: dict[str, str] = {}
    relevant: dict[str, set[str]] = defaultdict(set)
    for (_, query, _), keeper in zip(pairs, same, strict=True):
        document = pairs[keeper][0]
        passages[document] = pairs[keeper][2]
        text_of_query.setdefault(words(query), query)
        relevant[words(query)].add(document)
    # A kept passage stands for its near-duplicates, so it must not contain any query that it now answers.
    leaking = {form for form, documents in relevant.items() if any(form in words(passages[d]) for d in documents)}
    queries, judgements = {}, {}
    for form, text in text_of_query.items():
        if form not in leaking:
            name = hashlib.sha256(form.encode()).hexdigest()[:12]
            queries[name], judgements[name] = text, relevant[form]
    return passages, queries, judgements


def _near_duplicates(passages: list[str]) -> list[int]:
    """For every passage the index of the first one that it nearly equals (itself if none).

    Passages are compared on the 4-grams of their bodies, without the name, so that an inherited method is found.
    Only pairs that share one of their eight rarest 4-grams are compared.
    """
    grams = []
    for passage in passages:
        tokens = words(passage.partition(": ")[2]).split()
        grams.append({tuple(tokens[i : i + 4]) for i in range(max(1, len(tokens) - 3))})
    counts = Counter(gram for some in grams for gram in some)
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    keeper = list(range(len(passages)))
    for index, own in enumerate(grams):
        rarest = sorted(own, key=lambda gram: (counts[gram], gram))[:8]
        for other in sorted({held for gram in rarest for held in holders[gram][:50]}):
            if len(own & grams[other]) >= NEAR_DUPLICATE * len(own | grams[other]):
                keeper[index] = keeper[other]
                break
        for gram in rarest:
            holders[gram].append(index)
    return keeper


def _split(queries: dict[str, str], judgements: dict[str, set[str]], *, in_domain: bool) -> dict[str, list[str]]:
    """Queries of each split, in an order that is random but the same on every machine.

    Queries that share a relevant passage go to the same split: no passage of a test query is a training positive.
    """
    order = sorted(queries)  # names are hashes of the text
    if not in_domain:
        return {"test": order}
    owner = {query: query for query in order}

    def root(query: str) -> str:
        while owner[query] != query:
            query = owner[query] = owner[owner[query]]
        return query

    first_with: dict[str, str] = {}
    for query in order:
        for document in sorted(judgements[query]):
            owner[root(query)] = root(first_with.setdefault(document, query))
    splits: dict[str, list[str]] = {split: [] for split in SHARES}
    for query in order:
        draw = int(hashlib.sha256(root(query).encode()).hexdigest(), 16) % 100
        for split, share in SHARES.items():
            draw -= share
            if draw < 0:
                splits[split].append(query)
                break
    return splits


if __name__ == "__main__":
    print(json.dumps(_parse_share(int(sys.argv[1]), int(sys.argv[2]))))
