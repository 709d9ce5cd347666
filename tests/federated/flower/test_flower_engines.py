# SPDX-License-Identifier: Apache-2.0
"""All engines give the same weights for the same seed; what is sent outside loopback; and nothing stays behind.

These start Flower's processes and take minutes: ``pytest --slow``, where Flower 1.42 is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower import certificates, flower_switches
from reticent.federated.flower.child_processes import running
from reticent.federated.server_state import FILE
from reticent.federated.train_federation import FederationJob, FederationOutcome, train_federation
from reticent.report.federation_file import read_federation
from reticent.testing.tiny import save_tiny

VERSION = flower_switches.flower_version()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        VERSION is None or not VERSION.startswith(f"{flower_switches.MINOR}."),
        reason=f"needs Flower {flower_switches.MINOR}, and there is {VERSION}: {flower_switches.INSTALL}",
    ),
]
SPEC = FederationSpec(
    rounds=2, clients_per_round=2, local_steps=2, local_batch_size=2, local_learning_rate=1e-2, max_tokens=24
)
FLAGS = [f"--{name}={getattr(SPEC, name)}" for name in ("rounds", "clients_per_round", "local_steps", "max_tokens")]
FLAGS += [f"--{name}={getattr(SPEC, name)}" for name in ("local_batch_size", "local_learning_rate")]
HOST = "127.0.0.1"
WITHOUT = "-dac_override,-dac_read_search"
"""What makes root subject to the permissions of files, taken away."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny")


def mails(clients: Sequence[str]) -> list[Record]:
    found = help_desk(users=len(clients), mails_per_user=6)
    names = dict(zip(sorted({str(mail.user) for mail in found}), clients, strict=True))
    return [Record(id=mail.id, text=mail.text, user=names[str(mail.user)]) for mail in found]


def federated(base: Path, out: Path, records: Sequence[Record], **more: object) -> FederationOutcome:
    usual: dict[str, object] = {"spec": SPEC, "privacy": ClientPrivacy(), "name_of": lambda client: client}
    job = FederationJob(base=str(base), records=records, held_out=(), out=out, **(usual | more))  # type: ignore[arg-type]
    outcome = train_federation(job)
    assert outcome is not None
    return outcome


def ray_folders() -> set[str]:
    """Folders of Ray."""
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))
    return {path.name for path in temporary.iterdir() if path.name.startswith("rt-")}


# ---- the simulation -------------------------------------------------------------------------------------------------


def test_ray_gives_the_weights_of_one_process_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    from reticent.federated.flower.ray_engine import over_ray

    folders, processes = ray_folders(), set(running())
    records = mails(["ana", "ben", "eve", "joe"])
    local = federated(base, tmp_path / "local", records)
    started = time.perf_counter()
    apart = federated(base, tmp_path / "ray", records, engine=partial(over_ray, workers=1))
    total = time.perf_counter() - started
    for name, array in local.state.arrays.items():
        torch.testing.assert_close(apart.state.arrays[name], array, rtol=1e-5, atol=1e-8)
    print(f"local {[row.seconds for row in local.rows]} ray {[row.seconds for row in apart.rows]} in {total:.1f} s")
    assert ray_folders() == folders
    left = {number: entry for number, entry in running().items() if number not in processes and _is_below(number)}
    assert not left


def _is_below(number: int) -> bool:
    """Was a process started by this one, directly or not?"""
    processes = running()
    while number in processes:
        number = processes[number][0]
        if number == os.getpid():
            return True
    return False


LOOPBACK = """
import os, socket, struct, fcntl, sys
with socket.socket() as probe:  # it is down in a new network
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 0x49))
"""
SIMULATED = """
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_flower_engines import federated, mails
from reticent.federated.flower.ray_engine import over_ray
outcome = federated(Path({base!r}), Path({out!r}), mails(["ana", "ben"]), engine=partial(over_ray, workers=1))
print("rounds", len(outcome.rows))
"""


def test_the_simulation_runs_in_a_network_without_a_way_out(base: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a network of its own (unshare -rn)")
    code = LOOPBACK + SIMULATED.format(tests=str(Path(__file__).parent), base=str(base), out=str(tmp_path / "out"))
    ran = subprocess.run(["unshare", "-rn", sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "rounds 2" in ran.stdout, ran.stderr[-2000:]


# ---- the deployment -------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def as_client(group: int) -> list[str]:
    """Words that make a command subject to the permissions of files, in a group of its own; none where we may not."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return []
    return ["setpriv", "--groups", str(group), "--bounding-set", WITHOUT, "--inh-caps", WITHOUT]


def client_folder(folder: Path, name: str, records: Sequence[Record], group: int) -> Path:
    """A client's texts, which its own group alone may read."""
    place = folder / name
    place.mkdir()
    own = [{"id": record.id, "text": record.text} for record in records if record.user == name]
    (place / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    if as_client(group):
        os.chown(place, 65534, group)
        place.chmod(0o070)
    else:
        place.chmod(0o700)
    return place


@contextmanager
def started(
    commands: Sequence[Sequence[str]], log: Path, environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Commands of ours, ended by their ids."""
    processes = []
    try:
        for command in commands:
            with log.open("ab") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment))
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait(timeout=120)


class Deployment:
    """A server and two clients on loopback, each client in a group of its own."""

    def __init__(self, base: Path, folder: Path, flags: Sequence[str] = tuple(FLAGS)) -> None:
        self.base, self.folder, self.port, self.flags = base, folder, free_port(), flags
        self.names = ("ana", "ben")
        self.records = mails(self.names)
        self.groups = {"ana": 61001, "ben": 61002}
        self.homes = {name: client_folder(folder, name, self.records, self.groups[name]) for name in self.names}
        self.keys = {name: certificates.make_node_key(folder / "keys", name) for name in self.names}
        self.files = certificates.make_certificates(folder / "tls", [HOST])
        self.temporary, self.log = folder / "temporary", folder / "log.txt"
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}

    def server(self, out: Path, *more: str) -> list[str]:
        files = ["--certificate", self.files.certificate, "--certificate_key", self.files.key]
        command = ["serve-federation", self.folder / "keys", "--model", self.base, "--out", out, *files]
        command += ["--authority", self.files.authority, "--address", f"{HOST}:{self.port}", "--patience", "900"]
        return [sys.executable, "-m", "reticent", *map(str, command), *self.flags, *more]

    def client(self, name: str) -> list[str]:
        command = ["join-federation", self.homes[name] / "mails.jsonl", "--model", self.base, "--key", self.keys[name]]
        command += ["--superlink", f"{HOST}:{self.port}", "--authority", self.files.authority, "--patience", "900"]
        return [*as_client(self.groups[name]), sys.executable, "-m", "reticent", *map(str, command)]

    def joined(self) -> AbstractContextManager[list[subprocess.Popen[bytes]]]:
        """All clients, until the context is closed."""
        return started([self.client(name) for name in self.names], self.log, self.environment)

    def serving(self, out: Path, *more: str) -> AbstractContextManager[list[subprocess.Popen[bytes]]]:
        """The server, until the context is closed."""
        return started([self.server(out, *more)], self.log, self.environment)

    def served(self, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """The server's command, when it has ended."""
        command = self.server(out, *more)
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)

    def left(self) -> list[str]:
        """Whatever stayed of it: files of its processes, processes, the port."""
        words = [str(self.temporary), str(self.folder)]
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
        found = [line for line in listed.stdout.splitlines() if any(word in line for word in words)]
        found += [str(path) for path in self.temporary.iterdir()]
        return found if port_is_free(self.port) else [*found, f"port {self.port}"]

    def can_read(self, reader: str, home: str) -> bool:
        command = [*as_client(self.groups[reader]), "cat", str(self.homes[home] / "mails.jsonl")]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def deployment(base: Path, tmp_path: Path) -> Deployment:
    return Deployment(base, tmp_path)


def saved(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "adapter_model.safetensors")


def port_is_free(port: int) -> bool:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, port))
        except OSError:
            return False
        return True


def assert_same_weights(one: Path, other: Path) -> None:
    alone, apart = saved(one), saved(other)
    assert alone.keys() == apart.keys()
    for name, array in alone.items():
        torch.testing.assert_close(apart[name], array, rtol=1e-5, atol=1e-8)
    equal = all(torch.equal(apart[name], array) for name, array in alone.items())
    print(f"{len(alone)} arrays; equal to the last bit: {equal}")


def test_a_deployment_gives_the_weights_of_one_process_and_leaves_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    if as_client(0):
        assert deployment.can_read("ana", "ana")
        assert not deployment.can_read("ana", "ben")
        assert not deployment.can_read("ben", "ana")
    local = federated(deployment.base, tmp_path / "local", deployment.records)
    begun = time.monotonic()
    with deployment.joined():
        served = deployment.served(tmp_path / "out")
    print(f"{time.monotonic() - begun:.1f} s, CPU {os.times().children_user + os.times().children_system:.1f} s")
    assert served.returncode == 0, served.stderr + deployment.log.read_text()
    assert_same_weights(tmp_path / "local", tmp_path / "out" / "model")
    results = read_federation(tmp_path / "out" / "federation.json")
    assert results.engine.startswith("deployment")
    assert results.loading_share is not None
    assert 0 < results.loading_share < 1
    print(f"loading {results.loading_share:.2f}, rounds {[row.seconds for row in results.rounds]}")
    print(f"local {[row.seconds for row in local.rows]}")
    assert not deployment.left()


def test_a_deployment_runs_in_a_network_without_a_way_out() -> None:
    """The test above, where there is nothing but loopback."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a network of its own and to give files to others (root)")
    test = f"{__file__}::{test_a_deployment_gives_the_weights_of_one_process_and_leaves_nothing.__name__}"
    within = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--slow", "-s", test]
    code = f"{LOOPBACK}\nos.execv(sys.executable, {within!r})"
    ran = subprocess.run(["unshare", "-n", sys.executable, "-c", code], capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "equal to the last bit" in ran.stdout  # it was not skipped


def test_a_client_whose_process_dies_is_dropped_and_the_round_goes_on(deployment: Deployment, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with deployment.joined() as clients, deployment.serving(out, "--timeout", "120") as (server,):
        _kill_a_training(server, clients[0])
        server.wait(timeout=900)
    assert server.returncode == 0, deployment.log.read_text()
    results = read_federation(out / "federation.json")
    assert len(results.rounds) == SPEC.rounds
    print([(row.answered, row.dropped) for row in results.rounds])
    assert len(results.rounds[0].dropped) == 1
    assert results.rounds[0].answered == 1
    assert not deployment.left()


def test_a_server_that_is_killed_in_a_round_goes_on_to_the_same_weights(deployment: Deployment, tmp_path: Path) -> None:
    out = tmp_path / "out"
    federated(deployment.base, tmp_path / "local", deployment.records)
    with deployment.joined():
        with deployment.serving(out) as (server,):
            first = RunFolder(root=out).checkpoints / FILE
            while not first.exists():
                assert server.poll() is None, deployment.log.read_text()
                time.sleep(0.1)
            server.kill()
        assert not (out / "federation.json").exists()
        again = deployment.served(out)
    assert again.returncode == 0, again.stderr + deployment.log.read_text()
    assert_same_weights(tmp_path / "local", out / "model")
    assert len(read_federation(out / "federation.json").rounds) == SPEC.rounds
    # Nobody was there to take away the folder of the one that was ended by force.
    assert [path.name[: len("reticent-serve-")] for path in deployment.temporary.iterdir()] == ["reticent-serve-"]


def _kill_a_training(server: subprocess.Popen[bytes], client: subprocess.Popen[bytes]) -> None:
    """End the first program that trains for a client, by force."""
    while server.poll() is None:
        children = {number for number, (parent, _) in running().items() if parent == client.pid}
        trainings = [number for number, (parent, _) in running().items() if parent in children]
        if trainings:
            os.kill(trainings[0], signal.SIGKILL)
            return
        time.sleep(0.2)


def test_an_expired_certificate_or_one_for_another_host_is_refused_at_once(
    deployment: Deployment, tmp_path: Path
) -> None:
    other = certificates.make_certificates(tmp_path / "other", ["elsewhere.example"])
    out = tmp_path / "out"
    more = ["--certificate", str(other.certificate), "--certificate_key", str(other.key)]
    more += ["--authority", str(other.authority)]
    refused = deployment.served(out, *more)
    assert refused.returncode == 2
    assert "another host" in " ".join(refused.stderr.split())
    assert not out.exists()
