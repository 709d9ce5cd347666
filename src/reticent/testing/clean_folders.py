# SPDX-License-Identifier: Apache-2.0
"""More clean artefacts, of kinds that people have beside weights: states of training, vocabularies of other makers,
graphs, cards, settings of libraries. `reticent.testing.clean_artefacts` lists them with its own.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Maker = Callable[[Path], None]


def more_clean() -> dict[str, Maker]:
    """``writer/name`` → maker."""
    return {**_states(), **_arrays(), **_headers(), **_vocabularies(), **_graphs(), **_libraries(), **_beside()}


def _write(place: Path, name: str, content: bytes | str) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _files(place: Path, *, files: Mapping[str, bytes | str]) -> None:
    for name, content in files.items():
        _write(place, name, content)


def _states() -> dict[str, Maker]:
    """Single files of a checkpoint, in the forms that trainers write."""

    def saved(place: Path, *, name: str, value: Any) -> None:
        import torch

        torch.save(value() if callable(value) else value, place / name)

    def optimizer() -> Any:
        import torch

        model = torch.nn.Linear(4, 2)
        stepper = torch.optim.AdamW([{"params": model.weight, "lr": 1e-3}, {"params": model.bias, "weight_decay": 0.0}])
        model(torch.ones(3, 4)).sum().backward()
        stepper.step()
        return stepper.state_dict()

    def randomness() -> Any:
        import torch

        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "cpu": torch.random.get_rng_state(),
            "cuda": [torch.zeros(16, dtype=torch.uint8)],
        }

    def small_floats() -> Any:
        import torch

        kinds = (torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16)
        return OrderedDict((str(kind), torch.ones(4).to(kind)) for kind in kinds)

    def lightning() -> Any:
        return {
            "epoch": 3, "global_step": 90, "pytorch-lightning_version": "2.4.0", "state_dict": small_floats(),
            "optimizer_states": [optimizer()], "lr_schedulers": [{"base_lrs": [1e-3], "last_epoch": 3}],
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        }  # fmt: skip

    return {
        "torch state/optimizer.pt": partial(saved, name="optimizer.pt", value=optimizer),
        "torch state/rng_state_0.pth": partial(saved, name="rng_state_0.pth", value=randomness),
        "torch state/scheduler.pt": partial(saved, name="scheduler.pt", value={"last_epoch": 9, "_last_lr": [1e-4]}),
        "torch state/scaler.pt": partial(saved, name="scaler.pt", value={"scale": 65536.0, "_growth_tracker": 3}),
        "torch state/small floats": partial(saved, name="model.pt", value=small_floats),
        "lightning/checkpoint": partial(saved, name="epoch=3-step=90.ckpt", value=lightning),
        "trainer/arguments": _arguments,
    }


def _arguments(place: Path) -> None:
    """Arguments with many of their settings, which become enumerations and classes in the pickle."""
    import torch
    from transformers import Seq2SeqTrainingArguments

    arguments = Seq2SeqTrainingArguments(
        output_dir="out", use_cpu=True, eval_strategy="steps", save_strategy="epoch", lr_scheduler_type="cosine",
        lr_scheduler_kwargs={"num_cycles": 0.5}, report_to=["none"], label_names=["labels"], optim="adamw_torch",
        gradient_checkpointing=True, hub_strategy="checkpoint", logging_strategy="steps",
    )  # fmt: skip
    torch.save(arguments, place / "training_args.bin")


def _arrays() -> dict[str, Maker]:
    table = np.zeros(3, dtype=[("id", "<i4"), ("score", "<f4", (2,)), ("name", "S8")])
    days = np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]")
    mixed = {"weights": np.ones((2, 3)), "labels": np.array(["a", 1, None], dtype=object), "lr": np.float32(0.1)}

    def objects(place: Path) -> None:
        np.save(place / "labels.npy", np.array(["a", None, {"b": 1}], dtype=object), allow_pickle=True)

    return {
        "numpy/table, pickled": partial(_files, files={"table.pkl": pickle.dumps({"table": table, "days": days})}),
        "numpy/mixed, pickled": partial(_files, files={"statistics.pkl": pickle.dumps(mixed, protocol=4)}),
        "numpy/objects": objects,
        "numpy/table": lambda place: np.save(place / "table.npy", table),
    }


def _headers() -> dict[str, Maker]:
    """Headers of safetensors of lengths that begin like the mark of a pickle."""

    def write(place: Path, *, length: int) -> None:
        about = {"weight": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
        raw = json.dumps(about).encode().ljust(length)
        _write(place, "adapter_model.safetensors", struct.pack("<Q", length) + raw + bytes(8))

    return {f"safetensors/header of {length}": partial(write, length=length) for length in (640, 896, 1152, 66176)}


def _vocabularies() -> dict[str, Maker]:
    ranks = "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))
    words = {chr(33 + n): n for n in range(90)}
    merges = "#version: 0.2\n" + "".join(f"{chr(33 + n)} {chr(34 + n)}\n" for n in range(80))
    wordpieces = "[PAD]\n[UNK]\n[CLS]\n" + "".join(f"##{chr(97 + n)}\n" for n in range(26))
    special = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False, "normalized": False}}
    return {
        "tiktoken/ranks": partial(_files, files={"tokenizer.model": ranks, "config.json": "{}"}),
        "byte pairs/vocabulary and merges": partial(
            _files,
            files={
                "vocab.json": json.dumps(words),
                "merges.txt": merges,
                "special_tokens_map.json": json.dumps(special),
                "tokenizer_config.json": '{"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}',
            },
        ),
        "wordpiece/words": partial(
            _files, files={"vocab.txt": wordpieces, "tokenizer_config.json": '{"do_lower_case": true}'}
        ),
    }


def _protobuf(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _graphs() -> dict[str, Maker]:
    entry = _protobuf(1, b"location") + _protobuf(2, b"model.onnx_data")
    onnx = b"\x08\x08" + _protobuf(7, _protobuf(5, _protobuf(8, b"w") + _protobuf(13, entry)))
    nodes = b"".join(_protobuf(1, _protobuf(1, name) + _protobuf(2, name)) for name in (b"MatMul", b"SaveV2"))
    layers = {"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu", "units": 3}}
    keras = io.BytesIO()
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layers]}}))
        archive.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(200))
    h5 = b"\x89HDF\r\n\x1a\n" + bytes(500) + json.dumps(layers).encode() + bytes(700)
    # one map of one map of an array: the extension that flax writes, with shape, dtype and bytes
    array = b"\x93\x91\x04\xa7float32\xc4\x10" + bytes(16)
    msgpack = b"\x81\xa6params\x81\xa1w\xc7" + bytes([len(array), 1]) + array
    return {
        "onnx/weights beside it": partial(_files, files={"model.onnx": onnx, "model.onnx_data": bytes(range(256))}),
        "tensorflow/saved model": partial(
            _files, files={"saved_model.pb": b"\x08\x01" + _protobuf(2, _protobuf(2, nodes))}
        ),
        "keras/archive": partial(_files, files={"model.keras": keras.getvalue()}),
        "keras/h5": partial(_files, files={"tf_model.h5": h5}),
        "flax/msgpack": partial(_files, files={"flax_model.msgpack": msgpack}),
    }


def _libraries() -> dict[str, Maker]:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pipeline = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": [None, None]}  # fmt: skip
    nemo = io.BytesIO()
    with tarfile.open(fileobj=nemo, mode="w") as archive:
        raw = b"model:\n  encoder:\n    _target_: nemo.collections.asr.modules.ConformerEncoder\n    d_model: 16\n"
        entry = tarfile.TarInfo("./model_config.yaml")
        entry.size = len(raw)
        archive.addfile(entry, io.BytesIO(raw))
    return {
        "sentence_transformers/folder": partial(
            _files,
            files={
                "modules.json": json.dumps(modules),
                "1_Pooling/config.json": '{"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}',
                "config_sentence_transformers.json": '{"prompts": {}, "similarity_fn_name": "cosine"}',
                "sentence_bert_config.json": '{"max_seq_length": 256, "do_lower_case": false}',
            },
        ),
        "diffusers/pipeline": partial(_files, files={"model_index.json": json.dumps(pipeline)}),
        "nemo/archive": partial(_files, files={"model.nemo": nemo.getvalue()}),
    }


CARD = """---
license: apache-2.0
tags: [text-generation]
---
# A model

```python
import os
from transformers import pipeline
pipe = pipeline("text-generation", model="someone/model")  # never eval(input())
```
"""


def _beside() -> dict[str, Maker]:
    return {
        "folder/cards and lists": partial(
            _files,
            files={
                "README.md": CARD,
                ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs -text\n",
                "LICENSE": "Apache License\nVersion 2.0, January 2004\n",
                "USE_POLICY.md": "Use it well.\n",
                "config.json": '{"model_type": "llama", "torch_dtype": "bfloat16", "attn_implementation": null}',
                "generation_config.json": '{"temperature": 0.6, "eos_token_id": [1, 2], "do_sample": true}',
                "trainer_state.json": '{"log_history": [{"loss": NaN, "step": 1}], "best_metric": null}',
                "all_results.json": '{"train_loss": 1.5}',
            },
        ),
    }
