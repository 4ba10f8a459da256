"""The processes of one `accelerate launch`; the launcher tells each its number in environment variables.

Accelerate itself is imported late: it brings torch in, and most processes are alone.
"""

import os

COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # torchrun's, then those of MPI
NUMBERS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def count() -> int:
    """How many processes were launched together."""
    return _first(COUNTS, 1)


def number() -> int:
    """The number of this process among them, from 0."""
    return _first(NUMBERS, 0) if count() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes, prints and builds; the others wait for what it builds."""
    return number() == 0


def from_main(value: object) -> object:
    """The main process's value, in every process; all of them have to call this."""
    if count() == 1:
        return value
    join()
    import accelerate

    return accelerate.utils.broadcast_object_list([value])[0]


def from_all(value: object) -> list:
    """Every process's value, in the order of their numbers; all of them have to call this."""
    if count() == 1:
        return [value]
    join()
    import accelerate

    return accelerate.utils.gather_object([value])


def join() -> None:
    """Start the process group where there is none yet; without it Accelerate would gather from this process alone.

    Raises RuntimeError if Accelerate was started before in another way: each process would work by itself, unnoticed.
    """
    import accelerate

    from lib.machine import hardware

    state = accelerate.PartialState(cpu=hardware.device().type == "cpu")  # as `hardware.accelerator`
    if (found := state.num_processes) != count():
        fault = f"{count()} processes were launched, but Accelerate was started for {found}"
        raise RuntimeError(f"{fault}: make no Accelerator and no PartialState before lib trains or scores")


def _first(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)
