# SPDX-License-Identifier: Apache-2.0
"""FederationSpec: how a federation trains. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.train.config import DTYPES, LARGEST, OPTIMIZERS, TuneConfig

EXCHANGES = ("average", "ffa", "stacked")
SERVER_OPTIMIZERS = ("fedavg", "fedadam")
MISSING = ("zero", "left_out")
WEIGHTING = ("uniform", "size")
_SERVER_LEARNING_RATE = {"fedavg": 1.0, "fedadam": 1e-2}


@dataclass(frozen=True, kw_only=True)
class FederationSpec:
    """How clients train together.

    Args:
        rounds: how often clients are asked.
        clients_per_round: how many train in a round; under client-level privacy on average, as each has a coin.
        local_steps: optimizer steps of a client in a round.
        local_batch_size: records in such a step.
        local_learning_rate: of the clients' optimizer; left out, the method's own for AdamW.
        local_optimizer: sgd, or adamw, which begins anew in each round.
        proximal: weight mu of the FedProx term mu/2 * (distance from the round's start)^2 in the local loss; 0 is off.
        method: what is trained: lora, ia3, full and others, as in `reticent tune`.
        method_params: hyper-parameters of the method, for example {"r": 8}.
        exchange: average sends and averages the trained arrays; ffa too, with the A of LoRA frozen, so that the average
            is exact; stacked keeps all clients' products by adding up ranks, which is exact too, and grows.
        aggregation: rule that makes one update of all: mean, norm_bound, trimmed_mean, median, krum.
        aggregation_params: hyper-parameters of the rule.
        weighting: uniform, or by the size of each client's data, as the server knows it beforehand.
        missing: a client that does not answer counts as a change of zero, or is left_out of the mean.
        server_optimizer: fedavg or fedadam, on the aggregate.
        server_learning_rate: of the server's step; left out, 1 for fedavg and 0.01 for fedadam.
        server_momentum: of fedavg.
        quorum: with fewer answers than this, a round changes nothing.
        max_tokens: records are cut off behind this many tokens.
        seed: of new parameters, draws without privacy, the order of records and dropout.
        dtype: what is computed in; weights and updates stay float32.
        device: "auto" is the GPU if there is one.
        record_updates: keep each client's update of each round in the run folder, for audits of the federation. They
            are private: whoever reads them is not held off by any noise.

    Raises:
        BadInput: a value out of range, or two that contradict each other.

    Examples:
        >>> FederationSpec(rounds=15, clients_per_round=20).server_rate
        1.0
        >>> FederationSpec(clients_per_round=4, quorum=5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: quorum=5: is above the 4 clients that a round asks, so no round could ever ...
    """

    rounds: int = 10
    clients_per_round: int = 8
    local_steps: int = 4
    local_batch_size: int = 8
    local_learning_rate: float | None = None
    local_optimizer: str = "adamw"
    proximal: float = 0.0
    method: str = "lora"
    method_params: dict[str, Any] = field(default_factory=dict)
    exchange: str = "average"
    aggregation: str = "mean"
    aggregation_params: dict[str, Any] = field(default_factory=dict)
    weighting: str = "uniform"
    missing: str = "zero"
    server_optimizer: str = "fedavg"
    server_learning_rate: float | None = None
    server_momentum: float = 0.0
    quorum: int = 1
    max_tokens: int = 512
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    record_updates: bool = False

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in ("rounds", "clients_per_round", "local_steps", "local_batch_size", "quorum", "max_tokens")
        }
        validate.positive(**counts)
        validate.at_most(LARGEST, **counts)
        validate.non_negative(proximal=self.proximal)
        validate.in_range(-1e-12, 1 - 1e-12, server_momentum=self.server_momentum)
        validate.seed(seed=self.seed)
        validate.device(device=self.device)
        choices = {"local_optimizer": OPTIMIZERS, "exchange": EXCHANGES, "weighting": WEIGHTING, "missing": MISSING}
        choices |= {"server_optimizer": SERVER_OPTIMIZERS, "dtype": DTYPES}
        for name, allowed in choices.items():
            validate.one_of(allowed, **{name: getattr(self, name)})
        for name in ("local_learning_rate", "server_learning_rate"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        self._check_together()

    def _check_together(self) -> None:
        if self.quorum > self.clients_per_round:
            raise BadInput(
                f"quorum={self.quorum}",
                f"is above the {self.clients_per_round} clients that a round asks, so no round could ever change "
                "anything",
                f"Give {self.clients_per_round} or less.",
            )
        if self.local_optimizer == "sgd" and self.local_learning_rate is None:
            raise BadInput(
                "local_optimizer='sgd'",
                "has no learning rate that suits most models",
                "Give --local_learning_rate (0.1 is a start).",
            )
        if self.exchange != "average" and self.method != "lora":
            raise BadInput(
                f"exchange={self.exchange!r} with method={self.method!r}",
                "it is about the two factors of LoRA",
                "Give --method lora, or --exchange average.",
            )
        if self.server_optimizer == "fedadam" and self.server_momentum:
            raise BadInput(f"server_momentum={self.server_momentum}", "fedadam has moments of its own", "Leave it out.")
        self._check_stacked()

    def _check_stacked(self) -> None:
        if self.exchange != "stacked":
            return
        plain = {"aggregation": "mean", "server_optimizer": "fedavg", "missing": "zero", "weighting": "uniform"}
        others = [f"{name}={getattr(self, name)!r}" for name, value in plain.items() if getattr(self, name) != value]
        others += [f"server_learning_rate={self.server_learning_rate}"] if self.server_rate != 1 else []
        others += [f"server_momentum={self.server_momentum}"] if self.server_momentum else []
        if others:
            raise BadInput(
                f"exchange='stacked' with {', '.join(others)}",
                "stacked factors are the plain mean of the clients' products, and nothing is left to be changed",
                "Leave it out, or give --exchange average.",
            )

    @property
    def server_rate(self) -> float:
        """The server's learning rate."""
        default = _SERVER_LEARNING_RATE[self.server_optimizer]
        return default if self.server_learning_rate is None else self.server_learning_rate

    @property
    def training(self) -> TuneConfig:
        """The settings that a training has too: method, precision, limits."""
        return TuneConfig(
            method=self.method,
            method_params=self.method_params,
            epochs=1,
            learning_rate=self.local_learning_rate,
            batch_size=self.local_batch_size,
            optimizer=self.local_optimizer,
            max_tokens=self.max_tokens,
            seed=self.seed,
            dtype=self.dtype,
            device=self.device,
        )

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder."""
        return asdict(self)

    def refuse_bases_apart(self, engine: str) -> None:
        """Refuse settings under which the base itself changes, where each worker keeps its own.

        Args:
            engine: for the message.

        Raises:
            BadInput: there are such.
        """
        if self.exchange == "stacked":
            raise BadInput(
                f"exchange='stacked' with engine={engine!r}",
                "stacked factors go into the base itself after each round, and each worker keeps its own",
                "Give --engine local, or --exchange ffa.",
            )

    def refuse_privacy(self) -> None:
        """Refuse settings under which one client could move a round by more than C / (q N), or whose outcome is told
        without noise.

        Raises:
            BadInput: there are such.
        """
        reasons = {
            "weighting": ("uniform", "a client with much data would move the mean by more than its clip norm allows"),
            "missing": ("zero", "who answers would decide what the sum is divided by, and no noise covers that"),
            "quorum": (1, "whether a round counts would tell how many clients were drawn and answered"),
        }
        for name, (value, reason) in reasons.items():
            if getattr(self, name) != value:
                raise BadInput(
                    f"{name}={getattr(self, name)!r} with client-level privacy", reason, f"Leave --{name} out."
                )
        if self.exchange == "stacked":
            raise BadInput(
                "exchange='stacked' with client-level privacy",
                "stacked factors hold each client's own, one beside the other, so there is no sum to add noise to",
                "Give --exchange ffa, whose average is exact, or average.",
            )
