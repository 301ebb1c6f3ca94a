"""What every forked command needs, done once in the server that they are forked off."""

from __future__ import annotations

import peft  # noqa: F401
import transformers.models.qwen2.modeling_qwen2  # noqa: F401

import trainkit.chat
import trainkit.run  # noqa: F401
from trainkit.keys import key_table

key_table()
