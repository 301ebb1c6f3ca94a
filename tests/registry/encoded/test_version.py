"""Ids are kept for later runs, so a change of the code that changes ids must change the version they are kept under."""

import hashlib

import pytest

from registry.encode import Encoder, EncodeRules
from registry.encoded.spec import ENCODER_VERSION
from registry.records import ChatRecord, Message
from registry.render import RenderRules, SlotRenderer
from registry.templates import load_template
from tests.conftest import BYTES, chat

TOOLS = '[{"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}]'
CALL = (
    Message("user", "See?"),
    Message("function", '{"name": "look", "arguments": {"at": "sea"}}'),
    Message("observation", "grey"),
    Message("assistant", "<think>\nGrey.\n</think>\n\nIt is grey."),
)
RECORDS = [chat("a", "b", "c <|im_end|> d", "e", system="s"), ChatRecord(CALL, "", TOOLS)]


@pytest.mark.parametrize("strict", [False, True])
def test_ids_that_changed_without_a_new_version_would_be_found_in_old_caches(strict):
    """Where this fails on purpose: raise ENCODER_VERSION, and take over the new hash."""
    assert ENCODER_VERSION == 1
    found = hashlib.sha256()
    for name in ("qwen", "qwen3", "llama2", "glm4", "chatml"):
        rules = RenderRules(strict=strict, tool_prompt_date="1 Jan 2026")
        renderer = SlotRenderer(load_template(name, strict=strict), rules)
        for example in Encoder(BYTES, renderer, EncodeRules(strict=strict)).chats(RECORDS):
            found.update(example.ids.tobytes() + example.labels.tobytes())
    assert found.hexdigest()[:16] == HASHES[strict]


HASHES = {False: "9c9e4af4ea83d1f0", True: "c0def8c8f8b832e4"}
