"""The tokens that a config adds, and what its YAML says each of them means."""

from __future__ import annotations

from pathlib import Path

from registry.errors import UsageError
from registry.new_tokens import NewTokens
from registry.tokenizer import Tokenizer
from trainkit.config import ModelConfig


def new_tokens(settings: ModelConfig) -> NewTokens:
    """``add_tokens``, and the tokens of ``new_special_tokens_config``, or else ``add_special_tokens``, in their order.

    Raises ``UsageError`` as ``descriptions`` does.
    """
    special = tuple(descriptions(settings)) or settings.add_special_tokens or ()
    return NewTokens(settings.add_tokens or (), special)


def grows(settings: ModelConfig, tokenizer: Tokenizer) -> bool:
    """Whether a run asks for a model with rows for all ids of its tokenizer: new tokens imply it."""
    return settings.resize_vocab or bool(tokenizer.added_tokens)


def descriptions(settings: ModelConfig) -> dict[str, str]:
    """What each new special token means, by ``new_special_tokens_config``; nothing where no file is named.

    Raises ``UsageError`` for a file that is not there, or holds no YAML mapping of tokens to descriptions.
    """
    path = settings.new_special_tokens_config
    if not path:
        return {}
    import yaml

    try:
        found = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"new_special_tokens_config cannot be read: {error}", where=path) from None
    except yaml.YAMLError as error:
        raise UsageError(f"new_special_tokens_config is not YAML: {error}", where=path) from None
    if not isinstance(found, dict) or not found:
        raise UsageError(
            "new_special_tokens_config must map each token to its description",
            where=path,
            mend='One line each, e.g.  "<tool>": "the name of a tool to be called"',
        )
    wrong = [str(token) for token, text in found.items() if not _is_token(token) or not isinstance(text, str | None)]
    if wrong:
        raise UsageError(
            f"in new_special_tokens_config these are no token with a text: {', '.join(map(repr, wrong[:5]))}",
            where=path,
            mend="Put tokens and descriptions into quotes.",
        )
    return {token: text or "" for token, text in found.items()}


def _is_token(token: object) -> bool:
    return isinstance(token, str) and bool(token.strip())
