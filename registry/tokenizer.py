"""A model folder's tokenizer, through the `tokenizers` library alone: text to ids and back, and its special tokens."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from registry.errors import RowFault, UsageError
from registry.fast_tokenizers import PLAIN, Coder, PlainCoder, check_backend, open_coder
from registry.new_tokens import NO_TOKENS, NewTokens
from registry.own_template import OwnTemplate
from registry.probed_template import probed_template
from registry.render import Renderer, RenderRules, SlotRenderer
from registry.slots import special_pattern
from registry.templates import ROLES, Template, Token, load_template
from registry.tools import tool_format_named

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("tunekit")

# In tokenizer_config.json: special tokens that a run added to be written in prompts too.
PROMPT_TOKENS = "prompt_special_tokens"


class TextEncoder(Protocol):
    """What encoding needs of a tokenizer; tests bring a byte tokenizer of their own."""

    eos_token: str

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def pad_id(self) -> int | None: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, special tokens in the text recognised, none added."""
        ...

    def token_id(self, token: str) -> int | None: ...


class Tokenizer:
    """``tokenizer.json`` with what ``tokenizer_config.json`` says of it. One object serves one template."""

    def __init__(self, folder: str | Path) -> None:
        """Load from a model folder. Raises ``UsageError`` naming what is missing."""
        from tokenizers import Tokenizer as Backend

        self.folder = Path(folder)
        path = self.folder / "tokenizer.json"
        if not self.folder.is_dir():
            raise UsageError("no such folder", where=str(folder), mend="Give the folder of a model or tokenizer.")
        if not path.is_file():
            raise UsageError(
                "the folder holds no tokenizer.json",
                where=str(folder),
                mend="Save the tokenizer in its fast form first: AutoTokenizer.from_pretrained(...).save_pretrained(...)",
            )
        try:
            self.backend = Backend.from_file(str(path))
        except Exception as error:  # noqa: BLE001  # the library raises bare Exception for every fault of the file
            raise UsageError(f"not a tokenizer: {error}", where=str(path)) from None
        self.backend.no_padding()
        self.backend.no_truncation()
        self.coder: Coder = PlainCoder(self.backend)
        config = _read_json(self.folder / "tokenizer_config.json")
        self.config = _read_json(self.folder / "special_tokens_map.json") | config
        self.bos_token, self.eos_token, self.pad_token = (self._named(f"{n}_token") for n in ("bos", "eos", "pad"))
        self.chat_template = self._chat_template()
        self.new_tokens: tuple[str, ...] = ()  # of the template
        self.added = NO_TOKENS  # of the run
        self.added_tokens: tuple[str, ...] = ()  # those of them that were not there
        self.prompt_tokens = frozenset(map(str, self.config.get(PROMPT_TOKENS) or ()))
        self.eos_is_guessed = False  # neither tokenizer nor template names an end of sequence

    def _named(self, key: str) -> str:
        value = self.config.get(key)
        return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

    def _chat_template(self) -> str | None:
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        value = self.config.get("chat_template")
        if isinstance(value, list):  # several named ones; "default" is the one for plain chat
            value = next((v.get("template") for v in value if v.get("name") == "default"), None)
        return value

    @property
    def bos_id(self) -> int | None:
        return self.token_id(self.bos_token)

    @property
    def eos_id(self) -> int | None:
        return self.token_id(self.eos_token)

    @property
    def pad_id(self) -> int | None:
        return self.token_id(self.pad_token)

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself begins every text with its BOS."""
        return bool(self.config.get("add_bos_token", False)) and self.bos_id is not None

    @property
    def size(self) -> int:
        """Ids that may come out, added tokens included."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def token_id(self, token: str) -> int | None:
        return self.backend.token_to_id(token) if token else None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.coder.ids(texts)

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The ids of ``encode_batch`` one after another (int32), and where each text's end (int64, from 0)."""
        return self.coder.flat(texts)

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """How many ids each text has: ``encode_batch`` without making them."""
        return self.coder.counts(texts)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def add(self, tokens: NewTokens) -> None:
        """Add a run's tokens; to be called before ``fit``, whose ids come after. A run names a special token to write it
        in its rows, so such a token stays one in the user's text too."""
        from tokenizers import AddedToken

        self.added = tokens
        named = dict.fromkeys((*tokens.plain, *tokens.special))
        self.added_tokens = tuple(token for token in named if self.token_id(token) is None)
        self.prompt_tokens |= frozenset(tokens.special)
        self.backend.add_tokens([AddedToken(token, special=False, normalized=True) for token in tokens.plain])
        self.backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in tokens.special])

    def fit(self, template: Template) -> None:
        """Take over a template's stop words as special tokens, and its end of sequence (as LLaMA-Factory 0.9.5)."""
        words = list(template.stop_words)
        if template.replace_eos:  # ids of new tokens follow this order: the end of sequence, then the other words
            self.eos_token = words.pop(0)
            self._add_special([self.eos_token])
        self._complete()
        self._add_special(words)
        named = {
            slot.text for role in ROLES for slot in getattr(template, role) if isinstance(slot, Token) and slot.text
        }
        missing = sorted(token for token in named if self.token_id(token) is None)
        if missing:
            raise UsageError(
                f"the tokenizer does not know {', '.join(missing)}, which template {template.name} writes",
                where=str(self.folder),
                mend="Take the template that the model was made with.",
            )

    def _complete(self) -> None:
        if not self.eos_token:
            self.eos_token, self.eos_is_guessed = "<|endoftext|>", True
            if self.token_id(self.eos_token) is None:
                self._add_special([self.eos_token])
        if not self.pad_token:
            self.pad_token = self.eos_token

    def _add_special(self, words: Sequence[str]) -> None:
        from tokenizers import AddedToken

        self.new_tokens = (*self.new_tokens, *(word for word in words if self.token_id(word) is None))
        self.backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words])

    @property
    def guarded_tokens(self) -> frozenset[str]:
        """The special tokens that no text of the user's side may become: all but those of a run's own."""
        return self.special_tokens - self.prompt_tokens

    @property
    def special_tokens(self) -> frozenset[str]:
        """The texts that become special tokens wherever they stand; the template's stop words are among them."""
        return frozenset(t.content for t in self.backend.get_added_tokens_decoder().values() if t.special)


def open_tokenizer(
    folder: str | Path,
    template: str | None,
    *,
    rules: RenderRules = RenderRules(),
    backend: str = PLAIN,
    added: NewTokens = NO_TOKENS,
) -> tuple[Tokenizer, Renderer]:
    """The tokenizer of a model folder fitted to a template, and what spells conversations with it.

    ``template`` None means the tokenizer's own chat template (under ``strict`` as LLaMA-Factory guesses it); ``backend`` is one of ``fast_tokenizers.BACKENDS``;
    ``added`` are tokens of the run's own.
    Raises ``UsageError`` where there is no such template, backend or tool format, and where the tokenizer lacks a
    token that the template names.
    """
    check_backend(backend)
    tokenizer = Tokenizer(folder)
    tokenizer.add(added)
    if template is not None or rules.strict:
        built_in = _probed(tokenizer) if template is None else load_template(template, strict=rules.strict)
        if rules.tool_format is not None:
            tool_format_named(rules.tool_format)
        tokenizer.fit(built_in)
        tokenizer.coder = open_coder(backend, tokenizer.backend)
        return tokenizer, SlotRenderer(built_in, rules, special_pattern(tokenizer.guarded_tokens))
    tokenizer._complete()
    tokenizer.coder = open_coder(backend, tokenizer.backend)
    if not tokenizer.chat_template:
        raise UsageError(
            "the tokenizer has no chat template of its own",
            where=str(folder),
            mend='Set a template, e.g. "template: default".',
        )
    own = OwnTemplate(
        tokenizer.chat_template,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        rules=rules,
        specials=special_pattern(tokenizer.guarded_tokens),
    )
    return tokenizer, own


def _probed(tokenizer: Tokenizer) -> Template:
    """What LLaMA-Factory takes for the template where none is named."""
    if not tokenizer.chat_template:
        log.warning(
            "no template is named and the tokenizer has none: as LLaMA-Factory does, texts are joined bare (empty)"
        )
        return load_template("empty", strict=True)
    own = OwnTemplate(
        tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token,
        rules=RenderRules(enable_thinking=None),
    )  # fmt: skip
    prefix = tokenizer.decode(tokenizer.backend.encode("").ids)
    try:
        return probed_template(lambda messages, opened: own.render(messages, add_generation_prompt=opened), prefix)
    except RowFault as fault:
        raise UsageError(
            f"LLaMA-Factory's way of guessing a template fails on this one: {fault.reason}",
            where=str(tokenizer.folder),
            mend="Name a template, or leave compat: strict.",
        ) from None


def model_limit(folder: str | Path) -> int | None:
    """The longest sequence the model's config (or else its tokenizer's) allows, in tokens; None where neither says."""
    config = _read_json(Path(folder) / "config.json")
    limit = config.get("max_position_embeddings") or _read_json(Path(folder) / "tokenizer_config.json").get(
        "model_max_length"
    )
    return int(limit) if isinstance(limit, int | float) and 0 < limit < 10**9 else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not JSON: {error}", where=str(path)) from None
    return value if isinstance(value, dict) else {}
