# SPDX-License-Identifier: Apache-2.0
"""Several processes at one command, of which one leads. This is the only place that says what each of them may do.

A launcher (torchrun, accelerate, srun) starts the same command several times. Process 0 does all that one process would
do: it reads, throws coins, plants, claims the folder, writes, and speaks. The others do what it tells them
(`Ranks.all_do`), write nothing and say nothing. So a verb is written for one process, and only the work that is dealt
out knows of more.

Before anything is done all compare what they were asked for, and their versions. When one fails, it leaves a word for
the others and closes its connections; whoever waits for it learns that at once, reads the word, and ends too. The
leader speaks for all.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from reticent.core.errors import BadInput, ReticentError, Unusable
from reticent.core.processes import EndedElsewhere, Place, meeting_point, place, refuse_several, several
from reticent.core.progress import console

if TYPE_CHECKING:
    from reticent.train.ranks import Ranks

R = TypeVar("R")

JOIN = timedelta(minutes=10)
"""How long processes wait for each other at the beginning."""
WORK = timedelta(days=7)
"""How long those who follow wait for the leader: it may look at a panel, or write, for hours."""
FAREWELL = 5.0
"""Seconds that a process which failed waits for the leader to speak: launchers end all when the first one ends."""
LINGER = 10.0
"""Seconds that a leader which failed stays for others who are too busy to have heard of it."""
_NOT_HERE = (
    "processes share a training here by --strategy ddp or fsdp alone",
    "Choose multi-CPU or multi-GPU in the settings of accelerate, or start it with torchrun.",
)
COMPARED = ("reticent", "torch", "transformers", "peft", "accelerate")
STRATEGIES = {
    "ACCELERATE_USE_FSDP": (
        "the model is shared out here without accelerate, so that the outcome is that of one process",
        "Give --strategy fsdp, and choose multi-CPU or multi-GPU in the settings of accelerate, or start it with "
        "torchrun.",
    ),
    "ACCELERATE_USE_DEEPSPEED": _NOT_HERE,
    "ACCELERATE_USE_MEGATRON_LM": _NOT_HERE,
}
"""Variables of accelerate that ask for a strategy of its own, why that is refused, and the remedy."""
_LOST = ("gloo", "nccl", "by peer", "broken pipe", "connection", "socket")


@dataclass(frozen=True, kw_only=True)
class _Account:
    """One process's account of what it was asked for.

    Args:
        digest: of the arguments.
        versions: of the packages that decide the outcome.
        refused: why it cannot be done here; empty where it can.
    """

    digest: str
    versions: tuple[tuple[str, str], ...]
    refused: str


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The end of a command that went well, with what came of it."""

    result: Any


def led(what: str, asked: Callable[[], Any], lead: Callable[[], R]) -> R:
    """Do ``lead`` in one process, or, where a launcher started several, in the first, with the help of the others.

    Args:
        what: is done, for messages: ``reticent tune``.
        asked: what all have to have been asked for alike, as plain values and dataclasses; not called in one process.
        lead: the work. It may give the others a part of it, see `Ranks.all_do`.

    Returns:
        What ``lead`` returned, in all processes.

    Raises:
        BadInput: the processes were asked for different things, cannot find each other, or one of them failed.
        EndedElsewhere: another process failed, and says why.

    >>> led("reticent tune", lambda: 3, lambda: "done")
    'done'
    """
    if not several():
        return lead()
    from reticent.train.ranks import ranks

    here = ranks()
    if here.busy:
        return lead()
    if here.closed:
        raise Unusable(
            "these processes", "failed at an earlier command and no longer answer", "Start all of them anew."
        )
    error, mine = _account(asked)
    if here.size == 1:
        here = _join(place())
    here.busy = True
    try:
        _compare(here, what, mine, error)
        return _lead(here, lead) if here.leads else _follow(here)
    except BaseException as raised:
        here.closed = True
        ended = _failed(here, raised)
        if ended is raised:
            raise
        raise ended from raised
    finally:
        here.busy = False


def refuse_unled(what: str) -> None:
    """Refuse several processes of which none leads.

    Raises:
        BadInput: they were started, and not through `led`.
    """
    if several():
        from reticent.train.ranks import ranks

        if not ranks().busy:
            refuse_several(what)


# ---- the beginning ---------------------------------------------------------------------------------------------------


def _account(asked: Callable[[], Any]) -> tuple[ReticentError | None, _Account]:
    versions = tuple((name, version(name)) for name in COMPARED)
    try:
        text = json.dumps(_plain(asked()), sort_keys=True)
    except ReticentError as error:
        return error, _Account(digest="", versions=versions, refused=str(error))
    return None, _Account(digest=hashlib.sha256(text.encode()).hexdigest(), versions=versions, refused="")


def _plain(value: Any) -> Any:
    """``value`` as it is written alike in all processes: sets are not in one order, and functions lie elsewhere."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__} | {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    return repr(value)


def _join(at: Place) -> Ranks:
    """Find the other processes.

    Raises:
        BadInput: nothing says where, a strategy is asked for that is not there, or they do not come.
    """
    strategy = next((name for name in STRATEGIES if os.environ.get(name, "").lower() in ("true", "1", "yes")), "")
    if strategy:
        raise BadInput(
            f"{strategy}={os.environ[strategy]}",
            *STRATEGIES[strategy],
        )
    os.environ.update(meeting_point(at))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a process that goes is told of by us, in one sentence
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore, _set_pg_timeout
    from torch.distributed.rendezvous import rendezvous

    from reticent.train.ranks import Ranks, open_ranks

    if at.rank:
        console.quiet = True
    on_gpu = torch.cuda.is_available() and at.local < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(at.local)  # "cuda" is this process's own GPU from here on
    try:
        store, rank, size = next(rendezvous("env://", timeout=JOIN))
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=JOIN)
        group = dist.new_group(backend="gloo", timeout=JOIN)
        _set_pg_timeout(WORK, group)  # not before all have met: one that dies here would be waited for as long
    except (RuntimeError, ValueError) as error:
        raise Unusable(
            at.told,
            f"the {at.size} processes did not find each other ({str(error).splitlines()[0][:200]})",
            "Start all of them, with the same MASTER_ADDR and MASTER_PORT that all can reach.",
        ) from error
    words = PrefixStore("reticent", store)
    here = Ranks(rank=at.rank, local=at.local, size=at.size, group=group, store=words)
    open_ranks(here)
    atexit.register(_leave, here)
    return here


def _compare(here: Ranks, what: str, mine: _Account, error: ReticentError | None) -> None:
    answers = here.gather(mine)
    if error is not None:
        raise error
    for rank, theirs in enumerate(answers):
        given = f"process {rank} of {here.size}"
        if theirs.refused:
            raise BadInput(given, theirs.refused.rstrip("."), "Start all processes with the same command.")
        if theirs.versions != answers[0].versions:
            names = [
                f"{name} {number}" for name, number in theirs.versions if (name, number) not in answers[0].versions
            ]
            raise BadInput(given, f"has other versions than process 0 ({', '.join(names)})", "Install the same in all.")
        if theirs.digest != answers[0].digest:
            raise BadInput(
                given,
                f"was asked for something else than process 0 ({what})",
                "Start all processes with the same command, settings and data.",
            )


# ---- the work --------------------------------------------------------------------------------------------------------


def _lead(here: Ranks, lead: Callable[[], R]) -> R:
    result = lead()
    here.tell(_Outcome(result=result))
    return result


def _follow(here: Ranks) -> Any:
    while not isinstance(job := here.hear(), _Outcome):
        job.function(*job.given)
    return job.result


# ---- the end ---------------------------------------------------------------------------------------------------------


def _failed(here: Ranks, error: BaseException) -> BaseException:
    """The error with which this process ends, once the others can know of it."""
    lost = _is_lost(error)
    if not lost:
        here.note(f"failed/{here.rank}", _word(error))
    _close(here)
    if here.leads:
        ended = _by_another(here) if lost else error
        if lost:
            here.note("failed/0", _word(ended))
        return ended
    return _behind_the_leader(here, error, lost=lost)


def _by_another(here: Ranks) -> Unusable:
    """The error of a leader that lost another process."""
    until = time.monotonic() + FAREWELL
    while time.monotonic() < until:
        for rank in range(1, here.size):
            with suppress(RuntimeError):
                if word := here.read(f"failed/{rank}"):
                    why = json.loads(word)["said"].rstrip(".")
                    return Unusable(f"process {rank} of {here.size}", why, "All processes were ended.")
        time.sleep(0.1)
    return _without_a_word(f"one of {here.size} processes")


def _behind_the_leader(here: Ranks, error: BaseException, *, lost: bool) -> BaseException:
    """The error of one who follows: silent where the leader speaks."""
    until = time.monotonic() + FAREWELL
    word = None
    with suppress(RuntimeError):  # whoever kept the words is gone
        while time.monotonic() < until:
            gone = here.read("gone")  # before the word: it is the last that the leader writes
            if word is None and (word := here.read("failed/0")) is not None:
                here.note(f"heard/{here.rank}", "1")
            if gone:
                break
            time.sleep(0.1)
    if word is not None:
        told = json.loads(word)
        return EndedElsewhere(f"process 0 of {here.size}: {told['said']}", told["exit_code"])
    console.quiet = False
    return _without_a_word(f"process 0 of {here.size}") if lost else error


def _without_a_word(who: str) -> Unusable:
    return Unusable(
        who,
        "ended without a word (killed, out of memory, or its machine is gone), and the others with it",
        "Start all processes again: the same command goes on where it was.",
    )


def _word(error: BaseException) -> str:
    """For the others. Errors that nobody expected are named alone, as their words may quote private text."""
    expected = isinstance(error, ReticentError)
    code = error.exit_code if isinstance(error, ReticentError) else 130 if isinstance(error, KeyboardInterrupt) else 2
    said = str(error) if expected else f"it failed where it should have said why ({type(error).__name__})"
    return json.dumps({"said": said, "exit_code": code})


def _is_lost(error: BaseException) -> bool:
    """True if the error says that another process does not answer."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST)


def _leave(here: Ranks) -> None:
    if here.leads:
        here.note("gone", "1")
        if here.closed:
            _wait_for_hearers(here)
    _close(here)


def _wait_for_hearers(here: Ranks) -> None:
    """Give the others a moment to read the leader's word: it may be this process that keeps it."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return  # torchrun keeps it
    until = time.monotonic() + LINGER
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if all(here.read(f"heard/{rank}") for rank in range(1, here.size)):
                return
            time.sleep(0.05)


def _close(here: Ranks) -> None:
    """Close the connections, so that whoever waits for this process learns that it does not come."""
    import torch.distributed as dist

    here.group = None  # the last reference to it: connections last as long as it does
    with suppress(RuntimeError, AssertionError, ValueError):
        if dist.is_initialized():
            dist.destroy_process_group()
