# SPDX-License-Identifier: Apache-2.0
"""One thread for each test process: tiny models gain nothing from more, and processes would fight over cores.

Property tests draw the same examples in every run; ``pytest --hypothesis-profile=explore`` looks for new ones.
"""

import gc
import os
import shutil
import sys

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
def own_cache(tmp_path_factory, request):
    """Tables and kernels of tests stay out of the user's cache; the real model is read from it only by slow tests."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--slow"):
            patch.setenv("RETICENT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def once_a_run(tmp_path_factory, request):
    """``once_a_run(name, make)``: a folder that ``make(folder)`` fills once for all processes of this run of the tests.

    For what takes seconds to train and is only read, or keeps a cache that several processes may use.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if hasattr(request.config, "workerinput") else base

    def folder(name, make):
        place, whole = root / name, root / f"{name}.whole"
        with FileLock(root / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(place, ignore_errors=True)  # of a process that did not come to its end
                place.mkdir()
                make(place)
                whole.touch()
        return place

    return folder


@pytest.fixture
def one_thread():
    """Trainings of tiny models are compared to the last bit, and threads that take turns cost more than they give."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
