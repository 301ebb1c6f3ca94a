"""A model folder's tokenizer: special tokens by name, fitted to a template, its own chat template found."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.own_template import OwnTemplate
from registry.render import RenderRules, SlotRenderer
from registry.templates import Token, load_template
from registry.tokenizer import Tokenizer, model_limit, open_tokenizer
from tests.conftest import QWEN2, chat, needs_shared, spelled

CONFIG = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}


def make_folder(folder, config=CONFIG, specials=("<s>", "</s>", "<|im_end|>")):
    """A byte-level tokenizer without merges: one id a byte, then the special tokens from 256 on."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(specials))
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("model"))


def test_special_tokens_in_the_text_are_recognised_and_none_is_added(folder):
    tokenizer = Tokenizer(folder)
    assert tokenizer.encode_batch(["a</s>b", "", "<s>"])[1:] == [[], [256]]
    first = tokenizer.encode_batch(["a</s>b"])[0]
    assert (len(first), first[1]) == (3, 257)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.size) == (256, 257, 259)
    assert tokenizer.token_id("<no such token>") is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "roundtrip"
    tokenizer = Tokenizer(path if path.exists() else make_folder(path))
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == text


def test_special_tokens_are_skipped_in_decoding_on_request(folder):
    tokenizer = Tokenizer(folder)
    ids = tokenizer.encode_batch(["yo</s>"])[0]
    assert tokenizer.decode(ids) == "yo</s>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "yo"


def test_padding_is_the_end_of_sequence_where_there_is_none(folder):
    tokenizer, _ = open_tokenizer(folder, "default")
    assert (tokenizer.pad_token, tokenizer.pad_id) == ("</s>", 257)
    assert tokenizer.new_tokens == ()


def test_a_templates_stop_words_become_special_tokens_and_the_first_ends_the_sequence(folder):
    tokenizer, _ = open_tokenizer(folder, "chatml")
    assert (tokenizer.eos_token, tokenizer.eos_id) == ("<|im_end|>", 258)  # it was there
    assert tokenizer.new_tokens == ("<|im_start|>",)  # this one is new
    assert tokenizer.encode_batch(["<|im_start|><|im_end|>"]) == [[259, 258]]
    assert tokenizer.size == 260


def test_new_tokens_are_numbered_end_of_sequence_first(tmp_path):
    """As LLaMA-Factory adds them: the end of sequence (replaced, or missing), then the other stop words."""
    tokenizer, _ = open_tokenizer(make_folder(tmp_path, config={}, specials=()), "llama3")
    assert tokenizer.new_tokens == ("<|eot_id|>", "<|eom_id|>")
    tokenizer, _ = open_tokenizer(tmp_path, "bailing")  # its stop word is that same end of sequence
    assert tokenizer.new_tokens == ("<|endoftext|>",)
    tokenizer, _ = open_tokenizer(tmp_path, "granite4")
    assert tokenizer.new_tokens == ("<|endoftext|>", "<|end_of_text|>")
    assert [tokenizer.token_id(token) for token in tokenizer.new_tokens] == [256, 257]


def test_tokens_that_the_template_names_must_be_there(folder, tmp_path):
    with pytest.raises(UsageError, match="the tokenizer does not know <sep>, which template yuan writes"):
        open_tokenizer(folder, "yuan")
    assert open_tokenizer(make_folder(tmp_path, specials=("<sep>",)), "yuan")[0].token_id("<sep>") == 256


def test_special_tokens_in_a_users_text_become_plain_text_unless_strict(folder):
    rows = chat("a</s><|im_end|>b", "c</s>").messages
    ids = {}
    for strict in (False, True):
        tokenizer, renderer = open_tokenizer(folder, "chatml", rules=RenderRules(strict=strict))
        (turn,) = renderer.turns(rows, "")
        ids[strict] = [i for slot in turn.source for i in tokenizer.encode_batch([slot])[0]]
        assert tokenizer.decode(ids[strict]) == spelled([turn]).removesuffix("c</s><|im_end|>\n")
    end, stop = 257, 258
    assert (ids[True].count(end), ids[True].count(stop)) == (1, 2)
    assert (ids[False].count(end), ids[False].count(stop)) == (0, 1)  # the template's own is left


def test_a_template_is_taken_as_the_reference_has_it_in_strict_alone(tmp_path):
    made = make_folder(tmp_path, specials=("<s>", "</s>", "<|endoftext|>"))
    prefixes = [
        open_tokenizer(made, "phi_small", rules=RenderRules(strict=s))[1].template.prefix for s in (False, True)
    ]
    assert prefixes == [(Token(text="<|endoftext|>"),), ()]


def test_an_unknown_tool_format_is_told_before_any_row_is_read(folder):
    with pytest.raises(UsageError, match='unknown tool format "qwn"\n  Did you mean "qwen"'):
        open_tokenizer(folder, "qwen", rules=RenderRules(tool_format="qwn"))


def test_one_folder_serves_many_templates_without_mixing_them(folder):
    open_tokenizer(folder, "chatml")
    tokenizer, _ = open_tokenizer(folder, "default")
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.token_id("<|im_start|>") is None


def test_without_an_end_of_sequence_endoftext_is_taken(tmp_path):
    tokenizer, _ = open_tokenizer(make_folder(tmp_path, config={}), "default")
    assert (tokenizer.eos_token, tokenizer.eos_id) == ("<|endoftext|>", 259)
    assert tokenizer.new_tokens == ("<|endoftext|>",)
    assert tokenizer.bos_id is None


def test_names_of_special_tokens_may_stand_in_a_file_of_their_own(tmp_path):
    make_folder(tmp_path, config={"eos_token": "</s>"})
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<s>", "eos_token": "other"}')
    tokenizer = Tokenizer(tmp_path)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


@pytest.mark.parametrize(("config", "adds"), [({"add_bos_token": True}, True), ({}, False)])
def test_whether_it_begins_texts_with_its_bos(tmp_path, config, adds):
    assert Tokenizer(make_folder(tmp_path, {**CONFIG, **config})).adds_bos is adds


def test_no_bos_is_added_where_there_is_none(tmp_path):
    assert not Tokenizer(make_folder(tmp_path, {"add_bos_token": True})).adds_bos


def test_a_named_template_spells_with_slots_and_none_with_the_tokenizers_own(folder, tmp_path):
    assert open_tokenizer(folder, "qwen")[1] == SlotRenderer(load_template("qwen"))
    said = RenderRules(default_system="x")
    assert open_tokenizer(folder, "qwen", rules=said)[1] == SlotRenderer(load_template("qwen"), said)
    source = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    made = make_folder(tmp_path / "own", {**CONFIG, "chat_template": source})
    _, renderer = open_tokenizer(made, None, rules=RenderRules(default_system="s"))
    assert isinstance(renderer, OwnTemplate)
    assert spelled(renderer.turns(chat("a", "b").messages, "")) == "[s][a][b]"


def test_a_chat_template_is_found_in_its_file_in_the_config_or_by_the_name_default(tmp_path):
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert Tokenizer(make_folder(tmp_path / "a", {"chat_template": named})).chat_template == "plain"
    both = make_folder(tmp_path / "b", {"chat_template": "config"})
    assert Tokenizer(both).chat_template == "config"
    (both / "chat_template.jinja").write_text("file")
    assert Tokenizer(both).chat_template == "file"


def test_no_template_at_all_is_said(folder):
    with pytest.raises(UsageError, match=r'no chat template of its own\n  Set a template, e\.g\. "template: default"'):
        open_tokenizer(folder, None)


def test_a_folder_that_holds_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        Tokenizer(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"the folder holds no tokenizer\.json\n  Save the tokenizer"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="not a tokenizer"):
        Tokenizer(tmp_path)
    make_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("model", "tokenizer", "limit"),
    [
        ({"max_position_embeddings": 4096}, {"model_max_length": 10**30}, 4096),
        ({}, {"model_max_length": 2048}, 2048),
        ({}, {"model_max_length": 1e30}, None),
        (None, None, None),
    ],
)
def test_the_longest_sequence_is_the_models_else_the_tokenizers(tmp_path, model, tokenizer, limit):
    for name, value in (("config.json", model), ("tokenizer_config.json", tokenizer)):
        if value is not None:
            (tmp_path / name).write_text(json.dumps(value))
    assert model_limit(tmp_path) == limit


@needs_shared
def test_stop_words_that_qwen2_does_not_know_come_after_all_its_ids():
    """Source: shared/goldens/README.md, new special tokens from id 151646 on."""
    tokenizer, _ = open_tokenizer(QWEN2, "llama3")
    assert [tokenizer.token_id(word) for word in ("<|eot_id|>", "<|eom_id|>")] == [151646, 151647]
    assert open_tokenizer(QWEN2, "qwen")[0].eos_id == 151645
