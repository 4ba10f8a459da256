"""What workers do in `tests/test_engines.py`: they import it, so it is a module of its own."""

import os
from pathlib import Path


def note(folder, name):
    """Leave a file for every call; the task "bad" fails, "second" fails once."""
    path = Path(folder, f"{name}-{len(list(Path(folder).glob(f'{name}-*')))}")
    path.write_text(os.environ.get("STUDY_DATA", ""))
    if name == "bad" or (name == "second" and path.name.endswith("-0")):
        raise ValueError(f"{name} is\nbad")


def threads(folder, name):
    """Leave a file with the number of threads that the task may use."""
    Path(folder, name).write_text(os.environ["OMP_NUM_THREADS"])


def train(run, folder):
    """Train a run where it is missing, and leave a file if this process trained it."""
    from lib.study import runs  # here: the other tasks start sooner without it

    trained = runs.MAKE[type(run)]

    def noted(*arguments):
        Path(folder, str(os.getpid())).touch()
        trained(*arguments)

    runs.MAKE[type(run)] = noted
    runs.complete([run])
