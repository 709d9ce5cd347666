# SPDX-License-Identifier: Apache-2.0
"""The self-check of a private federation: what each round did is measured, and compared with what was promised.

As that of private training (`reticent.privacy.self_check`), and with its meters: draws and noise are made a second time
by other code, sums are added up a second time where they are watched (`round_watch`), and ε is counted a second time. A
check that fails stops the run and names the promise; nothing of the run may be released then.

A federation that keeps its promises is stopped by the statistical checks with probability at most ``ERROR`` in a run.
What clients do on their machines nobody sees here: all that is promised holds whatever they send.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from reticent.federated.client_mechanism import COINS, ClientMechanism
from reticent.federated.client_privacy import POISSON
from reticent.federated.release_check import ReleaseCheck, broken
from reticent.federated.round_ledger import RoundLedger
from reticent.federated.round_watch import RoundMeasurements
from reticent.federated.update import Update
from reticent.privacy.check import SelfCheckItem
from reticent.privacy.meters import DrawMeter, NoiseMeter, SizeMeter
from reticent.privacy.noise import normals
from reticent.privacy.recount import epsilon_again
from reticent.privacy.redraw import batch_again, noise_again
from reticent.privacy.watch import FIRST, Floats

ERROR = 1e-6
"""Probability that a right federation is stopped, over all statistical checks and rounds."""
RECOUNTED = 0.03
"""The share by which a stated ε may be below what a second count finds."""
ROUNDED = 1e-5
"""Error that float32 may add to a sum, relative to all that went into it."""


class FederationSelfCheck(ReleaseCheck):
    """Watches one private federation. Every method raises ``GuaranteeViolated`` as soon as a promise breaks.

    Call order in each round: ``drawn``, ``closed``, then the ledger, then ``given``; ``released`` for what is logged;
    at the end ``saved`` and ``finished``.

    Args:
        mechanism: what was promised.
        like: the global arrays before the first round of this process.
        first: number of that round.
        clip: the clip norm that it begins with: that of the plan, or what the ledger says.
    """

    def __init__(self, mechanism: ClientMechanism, like: Update, *, first: int = 0, clip: float | None = None) -> None:
        super().__init__(mechanism.key, like, first=first)
        self.mechanism = mechanism
        self.clip = mechanism.clip_norm if clip is None else clip
        clients, rate, rounds = mechanism.clients, mechanism.rate, mechanism.rounds
        self.draw_sizes = SizeMeter(clients, rate, steps=rounds, error=ERROR / 4)
        self.draws = DrawMeter(clients, rate, steps=rounds, error=ERROR / 4)
        self.noise: NoiseMeter | None = None
        self._had_turn = self._had_before(first)
        self._numbers: tuple[int, ...] = ()

    # ---- one round -------------------------------------------------------------------------------------------------

    def drawn(self, round_number: int, clients: Collection[int]) -> None:
        """The clients that a round asks, by number."""
        if round_number != self.due:
            broken(
                "each round is run once, in order",
                f"round {round_number} was drawn and round {self.due} is due",
                "Rounds that are run twice, or under another's noise, are not accounted for.",
            )
        numbers = tuple(sorted(clients))
        odd = self._odd_coins(round_number, numbers) if self._by_coins else self._odd_turn(round_number, numbers)
        if odd:
            broken(
                "clients take part by the draw that is accounted for",
                odd,
                "ε is computed for that draw, and another one may give away more.",
            )
        self._numbers = numbers

    def closed(self, measured: RoundMeasurements, mean: Update) -> None:
        """Check what was seen of the round, and what leaves it.

        Args:
            measured: by the round.
            mean: what it gave.
        """
        self._check_plan(measured, mean)
        self._check_sum(measured)
        self._check_noise(measured, self.leaves(measured.places, mean))
        self._check_clip(measured)
        self.clip = measured.next_clip
        self.due += 1
        self.rounds += 1

    # ---- the end ---------------------------------------------------------------------------------------------------

    def finished(self, ledger: RoundLedger, *, rounds: int, epsilon: float) -> tuple[SelfCheckItem, ...]:
        """After the last round.

        Args:
            ledger: what was put on record.
            rounds: that were run, by this process and those before it.
            epsilon: that is stated.

        Returns:
            All checks, for the logs.
        """
        if ledger.rounds != rounds or rounds != self.due:
            broken(
                "the ledger has all rounds that were run",
                f"it has {ledger.rounds}, and {rounds} were run, the last of them number {self.due - 1}",
                "ε is stated for another federation than this one.",
            )
        real = (self.mechanism.noise_multiplier, self.mechanism.rate)
        for entry in ledger.spent:
            if (entry.noise_multiplier, entry.rate) != real:
                broken(
                    "the ledger matches the rounds",
                    f"round {entry.round} is on record with (z, q) = {(entry.noise_multiplier, entry.rate)}, and was "
                    f"run with {real}",
                    "ε is stated for another mechanism.",
                )
        again = self._recounted(rounds)
        if again is not None and epsilon < again * (1 - RECOUNTED) - 1e-3:
            broken(
                "ε is at least what these rounds cost",
                f"ε = {epsilon:.4g} is stated for {rounds} rounds, and a second count has {again:.4g}",
                "The accounting is wrong, or is of another federation.",
            )
        return self._items(ledger, epsilon, again)

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def _by_coins(self) -> bool:
        return self.mechanism.sampling == POISSON

    def _odd_coins(self, round_number: int, numbers: Sequence[int]) -> str | None:
        clients, rate = self.mechanism.clients, self.mechanism.rate
        again = batch_again(self.mechanism.key, round_number, units=clients, rate=rate, purpose=COINS)
        if list(numbers) != again:
            return f"the {len(numbers)} clients of round {round_number} are others than a second draw has"
        return self.draw_sizes.add(len(numbers)) or self.draws.add(numbers)

    def _had_before(self, first: int) -> set[int]:
        """Clients that had a turn in the pass before this process began, where clients take turns."""
        if self._by_coins:
            return set()
        earlier = range(first - first % self.mechanism.pass_length, first)
        return {client for number in earlier for client in self.mechanism.sampled(number).tolist()}

    def _odd_turn(self, round_number: int, numbers: Sequence[int]) -> str | None:
        if round_number % self.mechanism.pass_length == 0:
            self._had_turn = set()
        twice = self._had_turn & set(numbers)
        if twice or len(set(numbers)) < len(numbers):
            return f"a client takes part twice in the pass of round {round_number}"
        if len(numbers) > self.mechanism.expected:
            return f"round {round_number} has {len(numbers)} clients, and {self.mechanism.expected:g} are planned"
        self._had_turn |= set(numbers)
        return None

    def _check_plan(self, measured: RoundMeasurements, mean: Update) -> None:
        real = (measured.round, measured.drawn, measured.denominator, measured.clip, set(mean))
        plan = (self.due, self._numbers, float(self.mechanism.expected), self.clip, set(self.names))
        said = ("number", "clients", "denominator", "clip norm", "arrays")
        for what, found, due in zip(said, real, plan, strict=True):
            if found != due:
                broken(
                    "each round is run as it is planned",
                    f"round {self.due} has another {what} than planned"
                    + (f": {found:g}, not {due:g}" if isinstance(found, float) and isinstance(due, float) else ""),
                    "What one client can change is then not what the noise is sized for.",
                )

    def _check_sum(self, measured: RoundMeasurements) -> None:
        """The sum is that of the clipped updates, each once, and within its bound."""
        bound = measured.answered * measured.clip
        length = math.sqrt(math.fsum(seen.x_squared for seen in measured.noise))
        off = np.abs(measured.summed - measured.expected)
        wrong = ~(off <= ROUNDED * measured.weight + 1e-30)
        if not wrong.any() and length <= bound * (1 + 1e-4) and len(measured.norms) == measured.answered:
            return
        where = self.names[measured.places.tensor_of(int(np.argmax(wrong)))] if wrong.any() else "the whole"
        broken(
            "each client adds at most the clip norm, once",
            f"the sum of round {measured.round} is another than that of the clipped updates, in {where} (its length is "
            f"{length:.4g}, and at most {bound:.4g} may be)",
            "The noise is sized for less, so it does not hide a client.",
        )

    def _check_noise(self, measured: RoundMeasurements, left: Floats) -> None:
        """The mean that left less the sum is the noise of this round, key and array."""
        std = self.mechanism.update_noise * self.clip
        denominator = float(self.mechanism.expected)
        drawn = left * denominator - measured.summed
        nodes = self.mechanism.nodes(measured.round)
        key, where = self.mechanism.key, measured.places
        expected = sum(std * node.sign * noise_again(key, node.step, where) for node in nodes)
        # add_noise is good to 1e-5, and sums are float32.
        allowed = 1e-4 * std * len(nodes) + 1e-6 * (np.abs(measured.summed) + np.abs(left) * denominator)
        wrong = ~(np.abs(drawn - expected) <= allowed)
        odd = self._odd_noise(measured, drawn, std) if self._by_coins else None
        if wrong.any() or odd:
            name = self.names[where.tensor_of(int(np.argmax(wrong)))]
            found = f"the noise in {name} is other than the generator's at this key, round and place"
            broken(
                f"noise of standard deviation {std:.4g} is in each array (z × the clip norm that clipped)",
                f"in round {measured.round}, {odd or found}",
                "ε is larger than promised, or there is no privacy at all.",
            )

    def _odd_noise(self, measured: RoundMeasurements, drawn: Floats, std: float) -> str | None:
        """The deviation in size or freshness. In units of this round's own standard deviation, as the clip moves."""
        if [seen.n for seen in measured.noise] != self.sizes:
            return "not all elements of all arrays got noise"
        if self.noise is None:
            shared = [min(FIRST, size) for size in self.sizes]
            self.noise = NoiseMeter(
                self.names, measured.places.counts, shared, std=1.0, steps=self.mechanism.rounds, error=ERROR / 2
            )
        return self.noise.add(drawn / std)

    def _check_clip(self, measured: RoundMeasurements) -> None:
        """The next clip norm follows from this one and the noised count of short updates."""
        rule = self.mechanism.adaptive
        due, right = self.clip, measured.noised_bits is None
        if rule is not None and measured.noised_bits is not None:
            bits = sum(length <= self.clip for length in measured.norms) - measured.answered / 2
            # The two norms of an update may differ in their last digit, which decides where it is just as long.
            on_edge = sum(math.isclose(length, self.clip, rel_tol=1e-9) for length in measured.norms)
            drawn = float(normals(self.mechanism.key, measured.round, len(self.names), np.arange(1))[0, 0])
            off = abs(measured.noised_bits - bits - rule.bit_noise * drawn)
            right = off <= on_edge + 1e-3 * (rule.bit_noise + 1)
            share = measured.noised_bits / self.mechanism.expected + 0.5
            due = self.clip * math.exp(rule.learning_rate * (rule.quantile - share))
        elif rule is not None:
            right = False
        if not right or not math.isclose(measured.next_clip, due, rel_tol=1e-6):
            broken(
                "the clip norm moves by the noised count of short updates",
                f"after round {measured.round} it is {measured.next_clip:.4g}, and {due:.4g} is due"
                if right
                else f"the count of round {measured.round} is another than that of the updates with its noise",
                "A norm that follows from anything else tells of updates what no noise covers.",
            )

    def _recounted(self, rounds: int) -> float | None:
        """ε by other code than the accountant's; None where that cannot count so small a δ."""
        if rounds == 0:
            return 0.0
        step, times = self.mechanism.composed(rounds)
        chances = [1 - step.rate, step.rate]
        return epsilon_again(step.noise_multiplier, [0, 1], chances, steps=times, delta=self.mechanism.delta)

    def _items(self, ledger: RoundLedger, epsilon: float, again: float | None) -> tuple[SelfCheckItem, ...]:
        """All that was checked; nothing of it depends on who was drawn or what was sent."""
        mechanism, meter = self.mechanism, self.noise
        size = (
            "" if meter is None or not meter.looks else f"{meter.ratio:.4f} of what is promised ({meter.samples} looks)"
        )
        draw = "all drawn again" if self._by_coins else "nobody twice in a pass"
        return (
            SelfCheckItem(name="draws", measured=draw, bound="by the key, round and rate", passed=True),
            SelfCheckItem(name="updates", measured="summed again", bound="at most the clip norm each", passed=True),
            SelfCheckItem(
                name="noise", measured=size or "drawn again", bound=f"z = {mechanism.update_noise:.4g}", passed=True
            ),
            SelfCheckItem(name="denominator", measured="the same", bound=f"{mechanism.expected:g}", passed=True),
            SelfCheckItem(name="ledger", measured=f"{ledger.rounds} rounds", bound=f"{self.due} were run", passed=True),
            SelfCheckItem(
                name="epsilon",
                measured="not counted again: δ is too small for it"
                if again is None
                else f"{again:.4g} by a second count",
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
