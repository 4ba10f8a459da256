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


def join() -> None:
    """Start the process group of a launch, where it is not started yet; raises RuntimeError if this is not possible."""
    import accelerate

    from lib.machine import hardware

    # Without `cpu` Accelerate would not see that a launcher started several processes on a processor.
    found = accelerate.PartialState(cpu=hardware.device().type == "cpu").num_processes
    if found != count():
        raise RuntimeError(f"{count()} processes were launched, but Accelerate was started before, with {found}: "
                           "do not use it before the kit")  # fmt: skip


def from_main(value: object) -> object:
    """The main process's value, in every process; all of them have to call this."""
    if count() == 1:
        return value
    join()
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def from_all(value: object) -> list:
    """Every process's value, in the order of their numbers; all of them have to call this."""
    if count() == 1:
        return [value]
    join()
    from accelerate.utils import gather_object

    return gather_object([value])


def _first(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)
