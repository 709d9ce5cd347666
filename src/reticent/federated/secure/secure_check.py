# SPDX-License-Identifier: Apache-2.0
"""The self-check of a secure federation that is simulated: what clients mask and what the server opens are measured,
and compared with what was promised.

Each client's vector is looked at before its masks: it has to be the update, clipped and rounded by other code here, and
a share of noise that is new and of the promised size. The opened sum has to be that of those vectors. A deployment's
server could see none of the former; there the promise rests on the clients.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr

from reticent.federated.federation_check import ERROR, RECOUNTED
from reticent.federated.release_check import ReleaseCheck, broken
from reticent.federated.secure.keyed_hash import Vector
from reticent.federated.secure.lattice import Whole
from reticent.federated.secure.random_bits import RandomBits
from reticent.federated.secure.secure_collector import SecureMeasurements
from reticent.federated.secure.secure_ledger import SecureLedger
from reticent.federated.secure.secure_mechanism import SecureMechanism
from reticent.federated.update import Update
from reticent.privacy.check import SelfCheckItem
from reticent.privacy.meters import NoiseMeter, correlation
from reticent.privacy.recount import epsilon_again
from reticent.privacy.watch import FIRST, Floats, WatchPoints, places

NOISE = "each client masks its clipped update and its share of the noise"
SUM = "what is opened is the sum of the clients that are in it"


class SecureSelfCheck(ReleaseCheck):
    """Watches one secure federation. Every method raises ``GuaranteeViolated`` as soon as a promise breaks.

    Call order in each round: ``drawn``, ``masked`` for each client, ``closed``, then ``given``; at the end ``saved``
    and ``finished``.

    Args:
        mechanism: what was promised.
        names: of the clients, which their keys follow from.
        like: the global arrays before the first round of this process.
        first: number of that round.
    """

    def __init__(self, mechanism: SecureMechanism, names: Sequence[str], like: Update, *, first: int = 0) -> None:
        super().__init__(mechanism.key, like, first=first)
        self.mechanism, self.clients = mechanism, names
        self.looks = mechanism.rounds * mechanism.per_round
        self.meter: NoiseMeter | None = None
        self._numbers: tuple[int, ...] = ()
        self._seen: dict[int, Whole] = {}
        self._shares: dict[int, Floats] = {}
        begun = first - first % mechanism.pass_length
        self._had_turn = {int(client) for number in range(begun, first) for client in mechanism.sampled(number)}

    # ---- one round -------------------------------------------------------------------------------------------------

    def drawn(self, round_number: int, clients: Collection[int]) -> None:
        """The clients that a round asks, by number."""
        if round_number % self.mechanism.pass_length == 0:
            self._had_turn = set()
        twice = self._had_turn & set(clients) or len(set(clients)) < len(clients)
        few, most = self.mechanism.noise.threshold, self.mechanism.per_round
        if round_number != self.due or twice or not few <= len(clients) <= most:
            broken(
                "all clients take turns, once a pass",
                f"round {round_number} (number {self.due} is due) asks {len(clients)} clients"
                + (", one of them a second time in its pass" if twice else f", and {few} to {most} are planned"),
                "ε is counted for the rounds that a client is in by its turns.",
            )
        self._had_turn |= set(clients)
        self._numbers, self._seen = tuple(sorted(clients)), {}

    def masked(self, round_: int, client: int, update: Update, vector: Vector) -> None:
        """A client's update, as it was trained, and its vector before masks, in a round (from 1)."""
        where = self._where_of(round_ - 1)
        whole = self._at(where, _symmetric(vector, self.mechanism.bits))
        share = whole - self._at(where, self._rounded_again(round_, client, update))
        if self.meter is None:
            std, count = math.sqrt(self.mechanism.noise.variance), len(share)
            self.meter = NoiseMeter(["the vector"], [count], [0], std=std, steps=self.looks, error=ERROR)
        odd = self.meter.add(share.astype(np.float64)) or self._used_before(client, where, share)
        if odd:
            broken(
                NOISE,
                f"a client of round {round_ - 1} masks something else: {odd}",
                "Its noise does not hide it, or not the others that count on it.",
            )
        self._seen[client] = whole

    def closed(self, measured: SecureMeasurements, mean: Update | None) -> None:
        """Check what was seen of the round, and what leaves it.

        Args:
            measured: by the server.
            mean: what it gave; None where the round changes nothing.
        """
        self._check_plan(measured)
        if measured.total is not None:
            self._check_total(measured, measured.total)
        if mean is not None:
            self._check_mean(measured, mean)
            self.rounds += 1
        self.due += 1

    # ---- the end ---------------------------------------------------------------------------------------------------

    def finished(self, ledger: SecureLedger, *, rounds: int, epsilon: float) -> tuple[SelfCheckItem, ...]:
        """After the last round.

        Args:
            ledger: what was put on record.
            rounds: that were run, by this process and those before it.
            epsilon: that is stated.

        Returns:
            All checks, for the logs.
        """
        noise = self.mechanism.noise
        real = (noise.threshold, noise.variance, noise.lattice.levels)
        wrong = [entry for entry in ledger.spent if (entry.threshold, entry.variance, entry.levels) != real]
        if wrong or not ledger.rounds == rounds == self.due:
            broken(
                "the ledger has all rounds that were run, as they were run",
                f"it has {ledger.rounds} rounds, {len(wrong)} of them with other noise, and {rounds} were run",
                "ε is stated for another federation than this one.",
            )
        again = epsilon_again(
            self.mechanism.effective_noise,
            [1],
            [1.0],
            steps=self.mechanism.appearances(rounds),
            delta=self.mechanism.delta,
        )
        if again is not None and epsilon < again * (1 - RECOUNTED) - 1e-3:
            broken(
                "ε is at least what these rounds cost",
                f"ε = {epsilon:.4g} is stated for {rounds} rounds, and a second count has {again:.4g}",
                "The accounting is wrong, or is of another federation.",
            )
        return self._items(epsilon, again)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _where_of(self, round_number: int) -> WatchPoints:
        return places(self.sizes, self.mechanism.key, round_number)

    def _at(self, where: WatchPoints, flat: Whole) -> Whole:
        """A flat vector at the watched places of each array."""
        parts = np.split(flat, np.cumsum(self.sizes)[:-1])
        return np.rint(where.of([torch.from_numpy(part) for part in parts])).astype(np.int64)

    def _rounded_again(self, round_: int, client: int, update: Update) -> Whole:
        """The update in steps as the client has to round it: clipped here, in float64, by another norm."""
        lattice = self.mechanism.noise.lattice
        parts = [torch.linalg.vector_norm(update[name], dtype=torch.float64).item() for name in self.names]
        length = math.hypot(*parts)
        flat = np.concatenate([update[name].double().reshape(-1).numpy() for name in self.names])
        steps = flat * (min(1.0, lattice.clip_norm / length) if length else 1.0) / lattice.step
        bits = RandomBits(self.mechanism.client_key(self.clients[client]), "rounding", round_)
        coins = bits.uniforms(len(steps))
        whole = np.floor(steps)
        return (whole + (coins < steps - whole)).astype(np.int64)

    def _used_before(self, client: int, where: WatchPoints, share: Whole) -> str | None:
        """Does a client's noise go with that of the last round that it was in, where the same elements are seen?"""
        starts = np.concatenate([[0], np.cumsum(where.counts)[:-1]])
        common = [np.arange(start, start + min(FIRST, size)) for start, size in zip(starts, self.sizes, strict=True)]
        now = share[np.concatenate(common)].astype(np.float64) / math.sqrt(self.mechanism.noise.variance)
        before, self._shares[client] = self._shares.get(client), now
        z = 0.0 if before is None else correlation(now, before)
        return None if 2 * ndtr(-abs(z)) >= ERROR / self.looks else f"noise that goes with an earlier round's ({z:.0f})"

    def _check_plan(self, measured: SecureMeasurements) -> None:
        plan, strangers = self.mechanism.plan(self.due), set(measured.present) - set(self._numbers)
        few = 0 if measured.total is None else self.mechanism.noise.threshold
        odd = {
            "another number": measured.round != self.due,
            "another session, threshold, modulus or dimension": measured.plan != plan,
            "another denominator": measured.denominator != float(self.mechanism.per_round),
            "clients in its sum that were not asked": bool(strangers),
            f"{len(measured.present)} clients in its sum": len(measured.present) < few,
        }
        for what, is_so in odd.items():
            if is_so:
                broken(
                    "each round is run as it is planned, and no sum of fewer clients than the threshold is opened",
                    f"round {self.due} has {what}",
                    "The noise of the sum, or what one client can change in it, is then another than is accounted for.",
                )

    def _check_total(self, measured: SecureMeasurements, total: Whole) -> None:
        """The masks came off, and nothing else, and no number went around the modulus."""
        noise = self.mechanism.noise
        most = len(measured.present) * noise.lattice.levels + noise.largest_noise(self.mechanism.rounds)
        missing = [client for client in measured.present if client not in self._seen]
        zero = np.zeros(sum(self._where_of(self.due).counts), dtype=np.int64)
        expected = sum((self._seen[client] for client in measured.present if client in self._seen), zero)
        off = self._at(self._where_of(self.due), total) - expected
        fine = not missing and not (off % (1 << self.mechanism.bits)).any()
        if not measured.spoiled and not (fine and float(np.abs(total).max(initial=0)) <= most):
            broken(
                SUM,
                f"the sum of {len(measured.present)} clients in round {self.due} is another, or left the modulus",
                "Masks did not come off, or it holds what no client sent.",
            )

    def _check_mean(self, measured: SecureMeasurements, mean: Update) -> None:
        """The mean that leaves is the sum over the fixed number, and nothing besides."""
        assert measured.total is not None, "a mean is of a sum"
        where = self._where_of(self.due)
        left = self.leaves(where, mean)
        due = self._at(where, measured.total) * self.mechanism.noise.lattice.step / self.mechanism.per_round
        if measured.spoiled or not np.allclose(left, due, rtol=1e-5, atol=1e-30):
            broken(
                "the mean is the opened sum over a number that is fixed",
                f"what left round {self.due} is something else",
                "Who answered, or an update, would show in it beside the noise.",
            )

    def _items(self, epsilon: float, again: float | None) -> tuple[SelfCheckItem, ...]:
        """All that was checked; nothing of it depends on who answered or what was sent."""
        mechanism, meter, item = self.mechanism, self.meter, partial(SelfCheckItem, passed=True)
        noise = mechanism.noise
        size = "" if meter is None else f"{meter.ratio:.4f} of what is promised ({meter.samples} looks)"
        counted = "not counted again: δ is too small for it" if again is None else f"{again:.4g} by a second count"
        return (
            item(name="turns", measured="nobody twice in a pass", bound=f"{mechanism.pass_length} rounds a pass"),
            item(name="masked vectors", measured=size, bound=f"clipped, and noise of {noise.variance} squared steps"),
            item(name="opened sums", measured="summed again", bound=f"of at least {noise.threshold} clients"),
            item(name="modulus", measured="no number outside", bound=f"{mechanism.bits} bits"),
            item(name="sessions", measured="another each round", bound="by the key and round"),
            item(name="denominator", measured="the same", bound=f"{mechanism.per_round}"),
            item(name="ledger", measured=f"{self.due} rounds", bound="each before its sum was opened"),
            SelfCheckItem(
                name="epsilon",
                measured=counted,
                bound=f"{epsilon:.4g} is stated",
                passed=None if again is None else True,
            ),
            SelfCheckItem(
                name="reloaded",
                measured="the same arrays, changed" if self.reloaded else "not looked at",
                bound="the arrays after the last round",
                passed=self.reloaded,
            ),
        )


def _symmetric(vector: Vector, bits: int) -> Whole:
    whole: npt.NDArray[np.int64] = vector.astype(np.int64)
    half = 1 << (bits - 1)
    return np.where(whole >= half, whole - 2 * half, whole)
