"""How long a study will take on this machine: times measured once, scaled by what the two machines compute.

`TIMES` holds, for each profile and notebook, the seconds with an empty data folder and those when everything is there
(a kernel's start and imports, tables, figures), beside the probe of the machine that measured them. A notebook that was
measured later has a probe and a machine of its own. A forecast scales the difference of the two times by the probes'
ratio. `python -m lib.study.forecast laptop smoke` writes the file anew, with `--only 05_comparison` that part.
"""

import argparse
import json
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers

from lib.machine import hardware, progress, provenance, store
from lib.models import packed
from lib.study import notebooks
from lib.study.run import Run

TIMES = Path(__file__).parents[2] / "notebooks" / "times.json"
HALF_AN_HOUR = 1800
SHORT = 600  # seconds; below, a forecast is not worth the probe


@cache
def probe() -> float:
    """Seconds for 256 pairs of 64 tokens through three layers of MiniLM's size, trained once and scored three times.

    That is about how a study divides its time. Random weights and tokens, batches of 32; median of three rounds, or of
    those that begin in the first five seconds.
    """
    config = transformers.BertConfig(
        hidden_size=384, num_attention_heads=12, num_hidden_layers=3, intermediate_size=1536, vocab_size=1000,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    hardware.keep_memory()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertModel(config).to(hardware.device())
        packed.pack(model)
        batch = {"input_ids": torch.randint(1000, (32, 64)), "attention_mask": torch.ones(32, 64, dtype=torch.long)}
        batch = {name: values.to(model.device) for name, values in batch.items()}
    rounds = []
    _work(model, batch, 1)  # warms up
    while len(rounds) < 3 and sum(rounds) < 5:
        start = time.perf_counter()
        _work(model, batch, 8)
        rounds.append(time.perf_counter() - start)
    return float(np.median(rounds))


def training(runs: Iterable[Run]) -> float:
    """Seconds of training runs, without scoring: `probe` spends half its time on 256 pairs in three layers."""
    return sum(run.work for run in runs) * probe() / 2 / (256 * 3)


def rate() -> float:
    """Floating-point operations a second in the layers of `probe`: 2 per parameter and token in scoring, 6 in training.

    Of small products: large models on an accelerator do more, so what is made from it is an upper bound there.
    """
    of_layer = 12 * 384**2  # parameters
    return (6 + 3 * 2) * of_layer * 3 * 64 * 256 / probe()


def _work(model: torch.nn.Module, batch: dict[str, torch.Tensor], batches: int) -> None:
    for _ in range(batches):
        with hardware.autocast():
            loss = model(**batch).last_hidden_state[:, 0].sum()
        loss.backward()
        model.zero_grad()
        for _ in range(3):
            with torch.inference_mode(), hardware.autocast():
                model(**batch).last_hidden_state[:, 0].sum().item()


def _times() -> dict[str, dict]:
    """Profile -> what was measured of it."""
    return json.loads(TIMES.read_text()) if TIMES.exists() else {}


def forecast(profile: str, names: list[str], seconds: float) -> dict[str, float]:
    """Seconds of each notebook that was measured with a profile, on a machine whose probe takes `seconds`."""
    times = _times().get(profile, {"notebooks": {}})
    known = {name: times["notebooks"][name] for name in names if name in times["notebooks"]}
    return {
        name: value["warm"] + (value["cold"] - value["warm"]) * seconds / value.get("probe", times["probe"])
        for name, value in known.items()
    }  # fmt: skip


def _machines(times: dict, names: list[str]) -> dict[str, float]:
    """Machine -> its probe, seconds: of those that measured these notebooks, from a profile's times."""
    measured = [times | times["notebooks"][name] for name in names if name in times["notebooks"]]
    return {value["device"]: value["probe"] for value in measured}


def announce(profile: str, names: list[str]) -> None:
    """Print what these notebooks will cost, and with which profiles they would fit half an hour.

    Of those that took less than `SHORT`, only what they took on the machines that measured them.
    """
    times = _times()
    measured = times[profile]["notebooks"] if profile in times else {}
    if measured.keys() >= set(names) and (together := sum(measured[name]["cold"] for name in names)) < SHORT:
        about = progress.duration(together)
        print(
            f"From an empty data folder {' and '.join(_machines(times[profile], names))} took about {about}.",
            flush=True,
        )
        return
    seconds = probe()
    expected = forecast(profile, names, seconds)
    if expected:
        others = "; ".join(f"{device} took {value:.2f} s" for device, value in _machines(times[profile], names).items())
        print(f"This machine does the probe in {seconds:.2f} s; {others}. So from an empty data folder:")
        for name, value in expected.items():
            print(f"  {name:<32} about {progress.duration(value)}")
        print(f"  {'together':<32} about {progress.duration(sum(expected.values()))}")
    if lacking := [name for name in names if name not in expected]:
        print(f"Not measured with profile {profile}, so no forecast: {', '.join(lacking)}")
    every = {name: sum(forecast(name, names, seconds).values()) for name in times}
    fit = [name for name, total in every.items() if 0 < total <= HALF_AN_HOUR]  # 0: none of them was measured
    print(f"Profiles with which they fit half an hour: {', '.join(fit) or 'none that was measured'}", flush=True)


def main() -> None:
    """Write `TIMES` of the profiles given, after a study ran twice with one data folder that was empty at first."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.forecast", description=main.__doc__)
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--only", nargs="+", help="notebooks whose times are replaced; the others keep theirs")
    times, about, given = _times(), hardware.description(), parser.parse_args()
    device = f"{about['device']} ({about['features']}, {about['threads']} threads)"
    for profile in given.profiles:
        path = store.data_folder() / "executed" / profile / notebooks.TIMES
        if not path.exists():
            parser.error(f"{path} does not exist: run `make study PROFILE={profile}` twice, from an empty data folder")
        taken = json.loads(path.read_text())
        measured = {
            name: {"cold": round(value["first"], 1), "warm": round(min(value.values()), 1)}
            for name, value in sorted(taken.items())
        }  # fmt: skip
        conditions = {"probe": round(probe(), 3), "device": device, "commit": provenance.commit()}
        if given.only:
            if unknown := ({profile} - times.keys()) | (set(given.only) - measured.keys()):
                parser.error(f"--only: {', '.join(sorted(unknown))} was not measured: run it with that profile first")
            times[profile]["notebooks"] |= {name: measured[name] | conditions for name in given.only}
        else:
            times[profile] = conditions | {"notebooks": measured}
    store.replace_file(TIMES, lambda into: into.write_text(json.dumps(times, indent=1) + "\n"))


if __name__ == "__main__":
    main()
