# SPDX-License-Identifier: Apache-2.0
"""The allow-list of pickles: names that a checkpoint may refer to, and the way each may be used.

All others are refused, however harmless they sound: a list of forbidden names can never be whole, since every installed
package adds callables to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

Use = Literal["call", "value", "instance", "enum", "codec", "nested"]
"""``call``: may be called with anything; ``value``: only stands there; ``instance``: made without its ``__init__`` and
then filled; ``enum``: called with one plain value; ``codec``: `_codecs.encode` into Latin-1 or UTF-8; ``nested``: its
argument is a pickle, which is read as well."""
USES = get_args(Use)

TENSORS = (
    "_utils._rebuild_tensor",
    "_utils._rebuild_tensor_v2",
    "_utils._rebuild_tensor_v3",
    "_utils._rebuild_parameter",
    "_utils._rebuild_parameter_with_state",
    "_utils._rebuild_qtensor",
    "_utils._rebuild_sparse_tensor",
    "_utils._rebuild_nested_tensor",
    "_utils._rebuild_meta_tensor_no_storage",
    "_utils._rebuild_device_tensor_from_cpu_tensor",
    "_utils._rebuild_device_tensor_from_numpy",
    "_tensor._rebuild_from_type_v2",
    "serialization._get_layout",
    "Size",
    "device",
    "Tensor",
    "nn.parameter.Parameter",
    "storage.TypedStorage",
    "storage.UntypedStorage",
)
"""Of torch: what makes tensors, sizes and devices."""
STORAGES: Mapping[str, int] = {
    "Bool": 1,
    "Byte": 1,
    "Char": 1,
    "QInt8": 1,
    "QUInt8": 1,
    "QUInt4x2": 1,
    "QUInt2x4": 1,
    "Short": 2,
    "Half": 2,
    "BFloat16": 2,
    "Int": 4,
    "Float": 4,
    "QInt32": 4,
    "Long": 8,
    "Double": 8,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
"""Storages of torch, with the bytes of an element."""
DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "complex32", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("qint8", "qint32", "quint8", "quint4x2", "quint2x4", "strided", "sparse_coo", "sparse_csr"),
    *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
    *("contiguous_format", "preserve_format", "channels_last"),
)
"""Types, layouts and schemes of torch: values, which nothing can be done with."""
NUMPY = ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
"""Of numpy's core, which is ``numpy.core`` or ``numpy._core`` by version."""
NUMPY_TYPES = (
    *("Bool", "Bytes", "Str", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
    *("Float16", "Float32", "Float64", "LongDouble", "Complex64", "Complex128"),
)
COLLECTIONS = ("OrderedDict", "defaultdict", "Counter", "deque")
BUILTINS = ("set", "frozenset", "bytearray", "complex", "slice", "list", "dict", "int", "float", "bool", "bytes")
_OF_TRL = ("SFT", "DPO", "KTO", "ORPO", "CPO", "BCO", "PPO", "RLOO", "GRPO", "Reward", "PRM")
TRAINER_OBJECTS = (
    "transformers.training_args.TrainingArguments",
    "transformers.training_args_seq2seq.Seq2SeqTrainingArguments",
    "transformers.trainer_pt_utils.AcceleratorConfig",
    "accelerate.state.PartialState",
    "transformers.generation.configuration_utils.GenerationConfig",
    *(f"trl.trainer.{name.lower()}_config.{name}Config" for name in _OF_TRL),
    "trl.trainer.model_config.ModelConfig",
)
"""Classes in the ``training_args.bin`` of a Trainer: plain fields, allowed where they are made without ``__init__``."""
TRAINER_WORDS = (
    *(f"transformers.trainer_utils.{name}" for name in ("IntervalStrategy", "SaveStrategy", "HubStrategy")),
    *("transformers.trainer_utils.SchedulerType", "transformers.trainer_utils.EvaluationStrategy"),
    *("transformers.training_args.OptimizerNames", "transformers.training_args.ParallelMode"),
    *("accelerate.utils.dataclasses.DistributedType", "transformers.debug_utils.DebugOption"),
    "transformers.trainer_utils.FSDPOption",
)
"""Enumerations in it: they are called with the word that they stand for."""


def _all(names: Iterable[str], use: Use) -> dict[str, Use]:
    return dict.fromkeys(names, use)


def _list() -> dict[str, Use]:
    uses: dict[str, Use] = {f"torch.{name}": "call" for name in TENSORS}
    uses |= {f"torch.{device}{name}Storage": "call" for device in ("", "cuda.") for name in STORAGES}
    uses |= {f"torch.{name}": "value" for name in DTYPES}
    uses |= {f"numpy.{core}.{name}": "call" for core in ("core", "_core") for name in NUMPY}
    uses |= {f"numpy.dtypes.{name}DType": "call" for name in NUMPY_TYPES}
    uses |= {"numpy.ndarray": "value", "numpy.dtype": "call"}
    uses |= {f"collections.{name}": "call" for name in COLLECTIONS}
    uses |= {f"{module}.{name}": "call" for module in ("builtins", "__builtin__") for name in BUILTINS}
    uses |= {"__builtin__.long": "call"}
    uses |= _all(TRAINER_OBJECTS, "instance") | _all(TRAINER_WORDS, "enum")
    uses |= {"_codecs.encode": "codec", "torch.storage._load_from_bytes": "nested"}
    return uses


ALLOWED: Mapping[str, Use] = _list()
"""``module.name`` → how it may be used."""


def element_bytes(name: str) -> int | None:
    """Bytes of an element of a storage class such as ``FloatStorage``; None for one that is not known, or untyped.

    >>> element_bytes("HalfStorage")
    2
    """
    return STORAGES.get(name.removesuffix("Storage"))
