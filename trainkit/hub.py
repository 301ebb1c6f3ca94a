"""Models that are named by a hub id: the small files of one (config, tokenizer) in a local folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from registry.errors import UsageError
from trainkit.config import ModelConfig

ADAPTER_FILES = ["adapter_*", "*.json", "tokenizer*", "pissa_init/*"]
SMALL_FILES = ["*.json", "*.jinja", "tokenizer*"]
SAMPLE_BYTES = 1 << 20


def adapter_paths(settings: ModelConfig) -> list[Path]:
    """Where the adapters are, each with ``adapter_folder`` within it; what is no folder on this machine is a hub id."""
    inner = settings.adapter_folder or ""
    return [Path(name) / inner for name in settings.adapter_name_or_path or ()]


def adapter_folders(settings: ModelConfig) -> list[str]:
    """The local folders of the adapters; those of the hub are downloaded, or found in the cache.

    Raises ``UsageError`` where the hub cannot be reached or does not know one, or one has no ``adapter_folder``.
    """
    found = []
    for name, path in zip(settings.adapter_name_or_path or (), adapter_paths(settings), strict=True):
        if not Path(name).is_dir():
            within = f"{settings.adapter_folder}/" if settings.adapter_folder else ""
            path = _download(name, None, settings.cache_dir, [f"{within}{each}" for each in ADAPTER_FILES])
            path = path / (settings.adapter_folder or "")
        if not path.is_dir():
            raise UsageError(f'no folder "{settings.adapter_folder}" (adapter_folder) in it', where=name)
        found.append(str(path))
    return found


def model_folder(settings: ModelConfig) -> Path:
    """The local folder of a model's tokenizer and config; of a hub id those files are downloaded (or found in cache).

    Raises ``UsageError`` where the hub cannot be reached or does not know the id.
    """
    path = Path(settings.model_name_or_path)
    if path.is_dir():
        return path
    return _download(settings.model_name_or_path, settings.model_revision, settings.cache_dir, SMALL_FILES)


def _download(name: str, revision: str | None, cache_dir: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  # network, authentication, validation: each of a kind of its own
        reason = " ".join(str(error).strip().splitlines()[:2])[:300]
        raise UsageError(
            f"is no local folder, and the hub does not give it: {reason}",
            where=name,
            mend="Check the name, or download the model and name its folder.",
        ) from None


def identity_of(settings: ModelConfig) -> str:
    """A hash that changes with the weights a run starts from: name, size and first and last megabyte of every file of
    the model's and the adapters' folders that holds weights or their config. Reading all of them would take minutes."""
    found = hashlib.sha256()
    for folder in (Path(settings.model_name_or_path), *adapter_paths(settings)):
        files = sorted(
            p for p in folder.glob("*") if p.suffix in (".safetensors", ".bin") or p.name.endswith("config.json")
        )
        if not folder.is_dir():  # a hub id: its revision is all that is known of it here
            found.update(f"{folder}@{settings.model_revision}".encode())
            continue
        for path in files:
            size = path.stat().st_size
            found.update(f"{path.name} {size}".encode())
            with path.open("rb") as handle:
                found.update(handle.read(SAMPLE_BYTES))
                handle.seek(max(0, size - SAMPLE_BYTES))
                found.update(handle.read(SAMPLE_BYTES))
    return found.hexdigest()[:16]


def tokenizer_folder(settings: ModelConfig) -> Path:
    """Where the tokenizer is taken from: the last adapter's folder where it holds one (with what training added to
    it and the chat template it was trained with), else the model's."""
    for adapter in reversed(adapter_paths(settings)):
        if (adapter / "tokenizer.json").is_file():
            return adapter
    return model_folder(settings)


def adapters_below(adapter: Path) -> list[str]:
    """The adapters that were merged into the base before this one was trained on it, as its run recorded them.

    ``adapter_config.json`` names the bare base alone, and an adapter on another base than its own is another model.
    """
    try:
        config = json.loads((adapter / "run.json").read_text(encoding="utf-8"))["config"]
        given = list(config["adapter_name_or_path"] or ())
        return given if config["create_new_adapter"] else given[:-1]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no run of ours, or a checkpoint inside one
