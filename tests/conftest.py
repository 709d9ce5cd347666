# SPDX-License-Identifier: Apache-2.0
"""One thread for each test process: tiny models gain nothing from more, and processes would fight over cores.

Property tests draw the same examples in every run; ``pytest --hypothesis-profile=explore`` looks for new ones.
"""

import gc
import os
import shutil
import socket
import sys
import traceback

# Bytecode is kept even where the environment says not to: otherwise each worker rewrites the asserts of all tests anew,
# and each process that a test starts compiles the whole package.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("seeded", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("seeded")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Examples are in the package: files of tests are not looked through for them."""
    collectors = yield
    return [collector for collector in collectors if type(collector).__name__ != "DoctestModule"]


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that need the real model or minutes")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="needs the real model or minutes: pytest --slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


def pytest_collection_finish():
    _set_aside()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or nextitem.path != item.path:
        _set_aside()


def _set_aside():
    """Leave all that was imported out of later collections of garbage: a Trainer asks for one each time it trains, and
    each would look at it for a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks():
    """Files are safe from a crash of the process without it, which is what tests look at; power does not fail here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(common_root, request):
    """Tables and kernels of tests stay out of the user's cache, and are made once for all processes; the real model is
    read from it only by slow tests."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--slow"):
            patch.setenv("RETICENT_CACHE", str(common_root / "cache"))
        yield


@pytest.fixture(scope="session")
def common_root(tmp_path_factory, request):
    """A folder that all processes of this run of the tests share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base


@pytest.fixture(scope="session")
def once_a_run(common_root):
    """``once_a_run(name, make)``: a folder that ``make(folder)`` fills once for all processes of this run of the tests.

    For what takes seconds to train and is only read, or keeps a cache that several processes may use.
    """

    def folder(name, make):
        place, whole = common_root / name, common_root / f"{name}.whole"
        with FileLock(common_root / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(place, ignore_errors=True)  # of a process that did not come to its end
                place.mkdir()
                make(place)
                whole.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def mood_base(once_a_run):
    """The folder of a tiny model that knows a label task. Do not change it: copy it."""
    from reticent.testing.label_models import mood_records, trained_tiny

    def fill(folder):
        for part in trained_tiny(mood_records(400, seed=9), steps=160, seed=1):
            part.save_pretrained(folder)

    return once_a_run("mood-base", fill)


@pytest.fixture(scope="session")
def in_a_fork():
    """``in_a_fork(work)``: call ``work()`` in a fork of this process; its exit code.

    What it registers, or changes in modules, stays there, as in a process of its own, which would have to import torch
    first. What it prints is captured with what the test prints.
    """

    def exit_code(work):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:  # noqa: BLE001  (whatever it is, this process must end here)
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return exit_code


@pytest.fixture
def in_ranks():
    """``in_ranks(work)``: call ``work(rank)`` in two forks of this process, as a launcher starts two processes; their
    exit codes. They find each other over gloo."""

    def start(work, rank, size, port):
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)})
            os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank)})
            code = work(rank) or 0
        except BaseException:  # noqa: BLE001  (whatever it is, this process must end here)
            traceback.print_exc()
        finally:
            from reticent.train.leading import _leave
            from reticent.train.ranks import ranks

            sys.stdout.flush()
            sys.stderr.flush()
            if ranks().size > 1:
                _leave(ranks())
            os._exit(code)

    def exit_codes(work, size=2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        children = [start(work, rank, size, port) for rank in range(size)]
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    return exit_codes


@pytest.fixture(scope="module")
def one_thread():
    """Trainings of tiny models are compared to the last bit, and threads that take turns cost more than they give."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
