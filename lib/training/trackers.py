"""Trackers of experiments, through Accelerate: `STUDY_TRACKER=tensorboard`, or trackio, wandb, mlflow; none by default.

They are told of a training's steps and change none of its numbers, so they are no part of an experiment. What they keep
in files goes to `tracked/` in the data folder.
"""

import os
from collections.abc import Mapping

import accelerate
from accelerate import tracking

from lib.machine import store


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


def begin(accelerator: accelerate.Accelerator, about: Mapping[str, object]) -> None:
    """Tell the trackers, if there are any, which training begins: `about` has literals alone."""
    if not accelerator.log_with:
        return
    folder = store.data_folder() / "tracked"
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in about.items()
    }
    accelerator.project_configuration.set_directories(str(folder / str(about.get("key", "training"))))
    accelerator.init_trackers("study", config=values)


def end(accelerator: accelerate.Accelerator) -> None:
    """The training has ended. (Accelerate's own `end_training` would also part the processes of a launch.)"""
    for tracker in accelerator.trackers:
        tracker.finish()
