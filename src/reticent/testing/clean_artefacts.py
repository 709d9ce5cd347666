# SPDX-License-Identifier: Apache-2.0
"""Clean artefacts of many writers, for tests and benchmarks of scanners: a false alarm on one is a bug."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reticent.testing.clean_folders import Maker, more_clean


def clean_artefacts(folder: Path) -> Mapping[str, Path]:
    """Make all of them below ``folder``; gives ``writer/name`` → folder of each.

    Writers: torch (zip and legacy), pickle, numpy, a Trainer's checkpoint, PEFT, safetensors, GGUF, tokenizers and
    sentencepiece. Nothing is fetched; it takes some seconds.
    """
    makers: dict[str, Maker] = {}
    for add in (_torch, _pickle, _numpy, _trainer, _safetensors, _gguf, _tokenizers, _models):
        makers |= add()
    makers |= more_clean()
    made = {}
    for name, make in makers.items():
        place = folder / name.replace("/", "-").replace(" ", "_")
        place.mkdir(parents=True)
        make(place)
        made[name] = place
    return made


def _torch() -> dict[str, Maker]:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    objects: dict[str, Any] = {
        "state dict": model.state_dict(),
        "half": {name: value.half() for name, value in model.state_dict().items()},
        "dtypes": {
            str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.int64, torch.bool, torch.uint8)
        },
        "parameters": dict(model.named_parameters()),
        "values": {"dtype": torch.float32, "size": torch.Size([2, 3]), "device": torch.device("cpu"), "lr": 1e-4},
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.ones(3, dtype=torch.complex64),
        "containers": {"list": [torch.zeros(1)], "counter": Counter("aab"), "set": {1, 2}, "text": "a" * 5000},
    }
    makers: dict[str, Maker] = {}
    for name, value in objects.items():
        makers[f"torch zip/{name}"] = partial(_checkpoint, value=value, zipped=True)
        makers[f"torch legacy/{name}"] = partial(_checkpoint, value=value, zipped=False)
    makers["pickle/a tensor"] = lambda place: _write(place / "tensor.pkl", pickle.dumps(torch.arange(3.0)))
    return makers


def _checkpoint(place: Path, *, value: Any, zipped: bool) -> None:
    import torch

    torch.save(value, place / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)


def _pickle() -> dict[str, Maker]:
    content = {
        "words": ["a", "b"],
        "counts": Counter("abc"),
        "by": defaultdict(int, a=1),
        "order": OrderedDict(a=(1, 2.5)),
    }
    makers: dict[str, Maker] = {
        f"pickle/protocol {protocol}": partial(_vocabulary, content=content, protocol=protocol) for protocol in range(6)
    }
    makers["pickle/gzip"] = lambda place: _write(place / "vocabulary.pkl.gz", gzip.compress(pickle.dumps(content)))
    return makers


def _vocabulary(place: Path, *, content: Any, protocol: int) -> None:
    _write(place / "vocabulary.pkl", pickle.dumps(content, protocol=protocol))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _numpy() -> dict[str, Maker]:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(4, 5))
    return {
        "numpy/array": lambda place: np.save(place / "embeddings.npy", array),
        "numpy/archive": lambda place: np.savez(place / "weights.npz", a=array, b=array.astype(np.int8)),
        "numpy/packed archive": lambda place: np.savez_compressed(place / "weights.npz", a=array),
        "numpy/pickled": lambda place: _write(place / "array.pkl", pickle.dumps({"a": array, "n": np.float64(2)})),
        "numpy/pickled, protocol 2": lambda place: _write(place / "array.pkl", pickle.dumps(array, protocol=2)),
        "numpy/pickled, protocol 5": lambda place: _write(place / "array.pkl", pickle.dumps(array, protocol=5)),
    }


def _trainer() -> dict[str, Maker]:
    def checkpoint(place: Path) -> None:
        import torch
        from transformers import TrainingArguments

        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        model(torch.ones(3, 4)).sum().backward()
        optimizer.step()
        schedule.step()
        state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
        torch.save(optimizer.state_dict(), place / "optimizer.pt")
        torch.save(schedule.state_dict(), place / "scheduler.pt")
        torch.save(state, place / "rng_state.pth")
        torch.save({"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0}, place / "scaler.pt")
        torch.save(TrainingArguments(output_dir="out", use_cpu=True), place / "training_args.bin")
        torch.save(model.state_dict(), place / "pytorch_model.bin")
        (place / "trainer_state.json").write_text(json.dumps({"epoch": 1.0, "log_history": [{"loss": 1.5}]}))

    return {"trainer/checkpoint": checkpoint}


def _safetensors() -> dict[str, Maker]:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    weights = {f"layer.{number}": rng.normal(size=(3, number)).astype(np.float32) for number in range(1, 5)}
    mixed = {"a": np.ones(3, dtype=np.float16), "b": np.ones((2, 2), dtype=np.int64), "empty": np.zeros((0, 4))}

    def sharded(place: Path) -> None:
        places = {}
        for number, (name, array) in enumerate(weights.items(), 1):
            file = f"model-{number:05d}-of-00004.safetensors"
            save_file({name: array}, place / file)
            places[name] = file
        index = {"metadata": {"total_size": 120}, "weight_map": places}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))

    return {
        "safetensors/one": lambda place: save_file(weights, place / "model.safetensors"),
        "safetensors/with words": lambda place: save_file(
            weights, place / "model.safetensors", metadata={"format": "pt", "note": "made\nhere"}
        ),
        "safetensors/mixed": lambda place: save_file(mixed, place / "model.safetensors"),
        "safetensors/no tensors": lambda place: save_file({}, place / "model.safetensors"),
        "safetensors/shards": sharded,
    }


def _gguf() -> dict[str, Maker]:
    def write(place: Path, *, tensors: int, template: str = "") -> None:
        import gguf

        writer = gguf.GGUFWriter(place / "model.gguf", "llama")
        writer.add_context_length(128)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([f"t{number}" for number in range(300)])
        writer.add_token_scores([0.5] * 300)
        if template:
            writer.add_chat_template(template)
        for number in range(tensors):
            writer.add_tensor(f"blk.{number}.weight", np.ones((3 + number, 32), dtype=np.float32))
            writer.add_tensor(f"blk.{number}.half", np.ones((3, 32), dtype=np.float16))
        if tensors > 2:
            packed = gguf.quants.quantize(np.ones((4, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return {
        "gguf/weights": lambda place: write(place, tensors=2),
        "gguf/packed": lambda place: write(place, tensors=3, template=CHATML),
        "gguf/vocabulary only": lambda place: write(place, tensors=0),
    }


UNKNOWN_WORD = "[UNK]"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REASONING = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.content is string %}{%- set content = message.content %}"
    "{%- else %}{%- set content = '' %}{%- endif %}"
    "{%- if message.role == 'assistant' and '</think>' in content %}{%- set content = content.split('</think>')[-1] %}"
    "{%- endif %}{%- if message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if tools %}{{- 'You may call these functions:\n' + tools | tojson }}{%- endif %}"
    "{% generation %}{{ '' }}{% endgeneration %}"
)
PARTS = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part %}"
    "Picture {{ loop.index }}: <|vision_start|>{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
TEMPLATES = {"ChatML": CHATML, "reasoning": REASONING, "parts": PARTS}
"""Templates in the manner of those that families use: tools, reasoning that is cut out, parts with pictures."""


def _tokenizers() -> dict[str, Maker]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = {word: number for number, word in enumerate(["[UNK]", "a", "b", "ab", "c"])}
    kinds = {
        "bpe": models.BPE(vocab=words, merges=[("a", "b")], unk_token=UNKNOWN_WORD),
        "wordpiece": models.WordPiece(vocab=words, unk_token=UNKNOWN_WORD),
        "unigram": models.Unigram([("[UNK]", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0),
    }

    def write(place: Path, model: Any) -> None:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(["<|im_end|>"])
        tokenizer.save(str(place / "tokenizer.json"))

    def settings(place: Path, template: str) -> None:
        content = {"chat_template": template, "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (place / "tokenizer_config.json").write_text(json.dumps(content))

    makers: dict[str, Maker] = {f"tokenizers/{name}": partial(write, model=model) for name, model in kinds.items()}
    makers |= {f"templates/{name}": partial(settings, template=text) for name, text in TEMPLATES.items()}
    makers["sentencepiece/model"] = lambda place: _write(place / "tokenizer.model", _sentencepiece())
    return makers


def _sentencepiece() -> bytes:
    """A vocabulary in the form that sentencepiece writes: a protobuf with a field for each piece."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"▁w{n}", -float(n), 1) for n in range(200))]
    content = b""
    for text, score, kind in pieces:
        raw = text.encode()
        inner = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        content += b"\x0a" + bytes([len(inner)]) + inner
    return content


def _models() -> dict[str, Maker]:
    from reticent.testing.tiny import save_tiny

    def whole(place: Path) -> None:
        save_tiny(place / "model")

    def adapter(place: Path, *, safe: bool) -> None:
        import torch
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
        from transformers import AutoModelForCausalLM

        base = save_tiny(place.parent / f".base of {place.name}")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules="all-linear"))
        model.save_pretrained(str(place))
        if not safe:
            torch.save(get_peft_model_state_dict(model), place / "adapter_model.bin")
            (place / "adapter_model.safetensors").unlink()

    return {
        "transformers/whole model": whole,
        "peft/adapter": lambda place: adapter(place, safe=True),
        "peft/adapter, pickled": lambda place: adapter(place, safe=False),
    }
