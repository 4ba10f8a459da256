"""Trackers of experiments, through Accelerate: `STUDY_TRACKER=tensorboard`, or trackio, wandb, mlflow; none by default.

They are told of a training's steps and change none of its numbers, so they are no part of an experiment. What they keep
in files goes to `tracked/` in the data folder. Steps that are computed again, after a training was cut short, are told
again.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

import accelerate
from accelerate import tracking

from lib.machine import hardware, processes, store

Log = Callable[[dict[str, float], int], None]  # takes what a step computed, and the number of the step


def chosen() -> list[str]:
    """The trackers of STUDY_TRACKER, separated by commas; raises ValueError if one is unknown or not installed."""
    names = [name.strip() for name in os.environ.get("STUDY_TRACKER", "").split(",") if name.strip()]
    known, installed = set(tracking.LOGGER_TYPE_TO_CLASS), {str(one) for one in tracking.get_available_trackers()}
    for name in names:
        if name not in known:
            raise ValueError(f"STUDY_TRACKER={name!r}: Accelerate has {', '.join(sorted(known))}")
        if name not in installed:
            raise ValueError(f"STUDY_TRACKER={name!r} is not installed: pip install {name.replace('_', '-')}")
    return names


@contextlib.contextmanager
def following(name: str, key: str, about: Mapping[str, object]) -> Iterator[Log | None]:
    """A block in which the trackers follow the run of this name and key; gives what tells them of a step.

    It gives None if there are no trackers, and in all processes of a launch but the main one. `about` has what the run
    is; what is no literal is told as text.
    """
    if not (names := chosen()) or not processes.is_main():
        yield None
        return
    folder = store.data_folder() / "tracked" / key
    with store.clear_write_errors(store.data_folder()):
        folder.mkdir(parents=True, exist_ok=True)
    configuration = accelerate.utils.ProjectConfiguration(logging_dir=str(folder))
    accelerator = hardware.accelerator(log_with=names, project_config=configuration)
    values = {one: value if isinstance(value, bool | int | float | str) else str(value) for one, value in about.items()}
    named = {"wandb": {"name": name, "dir": str(folder)}, "trackio": {"name": name}, "mlflow": {"run_name": name}}
    accelerator.init_trackers("study", {"name": name, "key": key, **values}, named)
    try:
        yield lambda values, step: accelerator.log(values, step=step)
    finally:
        # Accelerate's own `end_training` would also part the processes of a launch.
        for tracker in accelerator.trackers:
            tracker.finish()
