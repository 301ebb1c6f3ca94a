"""Models that are named by a hub id: the small files of one (config, tokenizer) in a local folder."""

from __future__ import annotations

from pathlib import Path

from registry.errors import UsageError
from trainkit.config import ModelConfig

SMALL_FILES = ["*.json", "*.jinja", "tokenizer*"]


def model_folder(settings: ModelConfig) -> Path:
    """The local folder of a model's tokenizer and config; of a hub id those files are downloaded (or found in cache).

    Raises ``UsageError`` where the hub cannot be reached or does not know the id.
    """
    path = Path(settings.model_name_or_path)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            settings.model_name_or_path,
            revision=settings.model_revision,
            cache_dir=settings.cache_dir,
            allow_patterns=SMALL_FILES,
        )
    except Exception as error:  # noqa: BLE001  # network, authentication, validation: each of a kind of its own
        reason = " ".join(str(error).strip().splitlines()[:2])[:300]
        raise UsageError(
            f"is no local folder, and the hub does not give it: {reason}",
            where=settings.model_name_or_path,
            mend="Check the name, or download the model and name its folder.",
        ) from None
    return Path(found)
