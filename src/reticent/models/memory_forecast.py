# SPDX-License-Identifier: Apache-2.0
"""The memory that each stage needs, in bytes, from the numbers of a model: arithmetic, and nothing else.

The counts come of a pass over the model without weights (`models.memory_count`). A stage's peak is the larger of two
moments: the loss, when activations and several copies of the logits are there and gradients are not, and the end of the
backward pass, when it is the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.memory_size import memory_bytes

FLOAT = 4
"""Bytes of a number in float32."""
MOMENTS = {"adamw": 2, "sgd": 0}
"""Numbers that an optimizer keeps of each that is trained."""
LOGIT_COPIES = 4
"""At the loss: the logits, their log-softmax, and the gradients of both, in float32."""
CHUNK_COPIES = 3
"""Of a chunk of logits that is scored: itself, and what is made of it."""


@dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """A training whose memory is asked for.

    Args:
        method: see reticent tune.
        load_in: see reticent tune: 4bit or 8bit. An audit reads the model as its files have it.
        gpus: how many would train, all in one machine, each with its share of the batch; 0 for the CPU.
        strategy: see reticent tune: with ddp each GPU has the whole model, with fsdp its part of it.
        batch_size: texts in a batch of all of them.
        max_tokens: of each text.
        memory: of each device, such as 80GB; says what does not fit.

    Examples:
        >>> ForecastConfig(memory="80GB", gpus=2).limit
        80000000000
    """

    method: str = "lora"
    load_in: str = ""
    gpus: int = 0
    strategy: str = "ddp"
    batch_size: int = 8
    max_tokens: int = 512
    memory: str = ""

    def __post_init__(self) -> None:
        validate.positive(batch_size=self.batch_size, max_tokens=self.max_tokens)
        validate.non_negative(gpus=self.gpus)
        validate.one_of(("ddp", "fsdp"), strategy=self.strategy)
        if self.strategy == "fsdp" and self.gpus < 2:
            raise BadInput(
                f"--strategy fsdp with --gpus {self.gpus}",
                "asks for a part of a model on each of several devices",
                "Give --gpus 2 or more, or leave --strategy out.",
            )

    @property
    def limit(self) -> int | None:
        """Bytes of each device; None where nothing was said.

        Raises:
            BadInput: ``memory`` is no amount.
        """
        return memory_bytes(self.memory) if self.memory else None


@dataclass(frozen=True, kw_only=True)
class ModelFootprint:
    """Counts of a model with a tuning method on it, and of one text that goes through it.

    Args:
        weights: bytes of all weights as they lie in memory while it is trained, what is added included.
        numbers: how many numbers the base has.
        trained: how many of all numbers are trained.
        largest: numbers of the largest matrix that is held in 16 bits; 0 where none is.
        blocks: how many blocks the model has.
        width: of a hidden state.
        vocabulary: tokens that it knows.
        tokens: T of the text.
        kept: bytes that autograd keeps of the text for the backward pass, without logits.
        outputs: numbers that layers which are trained put out for the text.
        is_adapter: target and reference are one model in memory, with something switched on and off.
        block, outside: bytes of the weights of the largest block, and of all that lies outside of blocks, in memory.
        block_trained, outside_trained: how many numbers of these are trained.
        largest_trained: numbers of the largest parameter that is trained.
    """

    weights: int
    numbers: int
    trained: int
    largest: int
    blocks: int
    width: int
    vocabulary: int
    tokens: int
    kept: int
    outputs: int
    is_adapter: bool
    block: int = 0
    outside: int = 0
    block_trained: int = 0
    outside_trained: int = 0
    largest_trained: int = 0

    def logits(self, rows: int) -> int:
        """Bytes of the logits of so many texts, once, in float32."""
        return FLOAT * rows * self.tokens * self.vocabulary

    def activations(self, rows: int, *, checkpointed: bool = False) -> int:
        """Bytes that are kept of so many texts; with ``checkpointed``, what goes into each block, and one block."""
        if not checkpointed:
            return rows * self.kept
        return rows * (FLOAT * self.blocks * self.tokens * self.width + self.kept // self.blocks)


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """Bytes that one stage needs on one device (or, on a CPU, in one process).

    Args:
        stage: ``tune``, ``tune (private)`` or ``audit``.
        weights, gradients, optimizer, activations, logits: the parts, each at its own largest.
        peak: all that is there at the worst moment; less than the sum, as not all parts are there at one time.
        host: bytes that all processes of a machine together need in its own memory while they begin, with
            ``strategy="fsdp"``; None elsewhere, where it is not told.
    """

    stage: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    peak: int
    host: int | None = None

    def fits(self, memory: int) -> bool:
        """True if the peak is within ``memory`` bytes."""
        return self.peak <= memory


def tune_memory(
    model: ModelFootprint, *, rows: int, optimizer: str = "adamw", checkpointed: bool = False
) -> StageMemory:
    """Memory of ordinary tuning.

    Args:
        model: with its method, and texts as long as they may be.
        rows: texts in a batch of one process.
        optimizer: ``"adamw"`` or ``"sgd"``.
        checkpointed: with gradient checkpointing.

    Examples:
        >>> model = ModelFootprint(weights=4000, numbers=1000, trained=1000, largest=0, blocks=2, width=8,
        ...     vocabulary=10, tokens=5, kept=600, outputs=0, is_adapter=False)
        >>> stage = tune_memory(model, rows=2)
        >>> stage.gradients, stage.optimizer, stage.activations, stage.logits
        (4000, 8000, 1200, 1600)
        >>> stage.peak  # at the end of the backward pass: weights, gradients, and two moments of each
        16000
        >>> tune_memory(model, rows=100).peak  # at the loss
        152000
    """
    gradients, moments = FLOAT * model.trained, FLOAT * MOMENTS[optimizer] * model.trained
    activations, logits = model.activations(rows, checkpointed=checkpointed), model.logits(rows)
    loss = activations + _of_the_loss(model, logits)
    return StageMemory(
        stage="tune",
        weights=model.weights,
        gradients=gradients,
        optimizer=moments,
        activations=activations,
        logits=LOGIT_COPIES * logits,
        peak=model.weights + moments + max(loss, gradients),
    )


def private_memory(
    model: ModelFootprint, *, micro_tokens: int, optimizer: str = "adamw", checkpointed: bool = False
) -> StageMemory:
    """Memory of private tuning: a micro-batch at a time, with the sums of clipped gradients beside it, and on the tape
    the gradients of what trained layers put out. An upper bound, as short texts write gradients out where that is less.

    Args:
        model, optimizer, checkpointed: see `tune_memory`.
        micro_tokens: of a micro-batch; at least one text.

    Examples:
        >>> model = ModelFootprint(weights=4000, numbers=1000, trained=1000, largest=0, blocks=2, width=8,
        ...     vocabulary=10, tokens=5, kept=600, outputs=50, is_adapter=False)
        >>> private_memory(model, micro_tokens=10).peak
        18800
    """
    rows = max(1, micro_tokens // model.tokens)
    sums, moments = FLOAT * model.trained, FLOAT * MOMENTS[optimizer] * model.trained
    activations, logits = model.activations(rows, checkpointed=checkpointed), model.logits(rows)
    loss = activations + max(_of_the_loss(model, logits), FLOAT * rows * model.outputs)
    return StageMemory(
        stage="tune (private)",
        weights=model.weights,
        gradients=sums,
        optimizer=moments,
        activations=activations,
        logits=LOGIT_COPIES * logits,
        peak=model.weights + moments + sums + loss,
    )


def shared_out_memory(
    model: ModelFootprint, *, rows: int, processes: int, optimizer: str = "adamw", checkpointed: bool = False
) -> StageMemory:
    """Memory of ordinary tuning of which each process holds its part (``strategy="fsdp"``).

    Each has its rows of weights, moments and gradients. What lies outside of blocks is whole in a pass, and one block
    is, while the next one arrives. The peak is the largest of four moments: the loss; the last block's backward pass,
    when activations are there; the first block's, when gradients are; and the end, when those of what lies outside are
    summed. Gradients that are summed lie there twice.

    Args:
        model, optimizer, checkpointed: see `tune_memory`.
        rows: texts in a batch of one process.
        processes: how many share the model.

    Examples:
        >>> model = ModelFootprint(weights=4000, numbers=1000, trained=1000, largest=0, blocks=2, width=8,
        ...     vocabulary=10, tokens=5, kept=600, outputs=0, is_adapter=False, block=1800, outside=400,
        ...     block_trained=450, outside_trained=100)
        >>> stage = shared_out_memory(model, rows=1, processes=2)
        >>> stage.weights, stage.gradients, stage.optimizer, stage.host
        (2000, 2000, 4000, 8000)
        >>> stage.peak  # in the first block: two of them and their gradients twice, and what is of all others
        14420
    """
    weights, trained = _part(model.weights, processes), FLOAT * _part(model.trained, processes)
    moments = MOMENTS[optimizer] * trained
    activations, logits = model.activations(rows, checkpointed=checkpointed), model.logits(rows)
    of_block, of_outside = FLOAT * model.block_trained, FLOAT * model.outside_trained
    of_head = min(of_outside, FLOAT * model.vocabulary * model.width)
    of_blocks = model.outside + of_head + 2 * model.block + 2 * of_block
    moments_of_a_step = (
        model.outside + model.block + activations + _of_the_loss(model, logits),
        of_blocks + activations - activations // model.blocks,
        of_blocks + activations // model.blocks + trained - 2 * _part(of_block, processes),
        model.outside + 2 * of_outside + of_block + trained,
    )
    return StageMemory(
        stage="tune",
        weights=weights,
        gradients=trained,
        optimizer=moments,
        activations=activations,
        logits=LOGIT_COPIES * logits,
        peak=weights + moments + max(moments_of_a_step),
        host=processes * model.weights,
    )


def shared_out_private_memory(
    model: ModelFootprint, *, micro_tokens: int, processes: int, optimizer: str = "adamw", checkpointed: bool = False
) -> StageMemory:
    """Memory of private tuning of which each process holds its part. An upper bound, as `private_memory`.

    Args:
        model, micro_tokens, optimizer, checkpointed: see `private_memory`.
        processes: how many share the model.

    Examples:
        >>> model = ModelFootprint(weights=4000, numbers=1000, trained=1000, largest=0, blocks=2, width=8,
        ...     vocabulary=10, tokens=5, kept=600, outputs=50, is_adapter=False, block=1800, outside=400,
        ...     block_trained=450, outside_trained=100, largest_trained=100)
        >>> shared_out_private_memory(model, micro_tokens=10, processes=2).peak
        15600
    """
    whole = private_memory(model, micro_tokens=micro_tokens, optimizer=optimizer, checkpointed=checkpointed)
    weights, sums, moments = (_part(size, processes) for size in (whole.weights, whole.gradients, whole.optimizer))
    of_a_pass = whole.peak - whole.weights - whole.gradients - whole.optimizer
    together = model.outside + 2 * model.block + 2 * FLOAT * model.largest_trained
    return replace(
        whole,
        weights=weights,
        gradients=sums,
        optimizer=moments,
        peak=weights + sums + moments + of_a_pass + together,
        host=processes * model.weights,
    )


def _part(size: int, processes: int) -> int:
    """Of the process that has the most."""
    return -(-size // processes)


def audit_memory(model: ModelFootprint, *, bytes_of_a_number: int, batch_tokens: int, chunk: int) -> StageMemory:
    """Memory of scoring a target and its reference: both in memory, one model where the target is an adapter.

    Args:
        model: with its method.
        bytes_of_a_number: of the dtype that is scored in.
        batch_tokens: of a batch.
        chunk: bytes of a chunk of logits.

    Examples:
        >>> model = ModelFootprint(weights=4000, numbers=1000, trained=1000, largest=0, blocks=2, width=8,
        ...     vocabulary=10, tokens=5, kept=600, outputs=50, is_adapter=False)
        >>> audit_memory(model, bytes_of_a_number=2, batch_tokens=10, chunk=100).weights  # two models
        4000
    """
    target = model.numbers + model.trained if model.is_adapter else 2 * model.numbers
    weights = bytes_of_a_number * target
    rows = max(1, batch_tokens // model.tokens)
    activations = rows * model.kept // model.blocks * bytes_of_a_number // FLOAT  # of one block: nothing is kept
    return StageMemory(
        stage="audit",
        weights=weights,
        gradients=0,
        optimizer=0,
        activations=activations,
        logits=CHUNK_COPIES * chunk,
        peak=weights + activations + CHUNK_COPIES * chunk,
    )


def _of_the_loss(model: ModelFootprint, logits: int) -> int:
    """The copies of logits; or two of them, beside the largest matrix while it lies in float32."""
    return max(LOGIT_COPIES * logits, 2 * logits + FLOAT * model.largest)
