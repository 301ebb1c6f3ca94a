"""datakit stats: lengths, cutoffs and the suggestion equal what the encoder really does at that cutoff."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.stats import measure_rows
from datakit.stats.lengths import Lengths, at_cutoff, in_blocks, totals
from datakit.stats.measure import Measured, measure_texts, measure_turns
from datakit.stats.read import Account
from datakit.stats.report import check_targets, finish_stats, summarize
from datakit.stats.suggest import ladder, percent, suggest_block, suggest_cutoff
from registry.encode import Encoder, EncodeRules
from registry.errors import DataError, RowFault, UsageError
from registry.records import ChatRecord, Message, PreferenceRecord, TextRecord
from registry.render import SlotRenderer
from registry.templates import load_template
from registry.texts import TextRules, encode_texts

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the shared example data is not here")


class ByteTokenizer:
    """One id a byte; the named special tokens come after them."""

    bos_id, eos_id, pad_id, eos_token = 256, 257, 258, "<eos>"

    def encode_batch(self, texts):
        return [list(text.encode()) for text in texts]

    def token_id(self, token):
        return {"<bos>": 256, "<eos>": 257}.get(token)


BYTES = ByteTokenizer()


def renderer(template):
    """How a template spells; ``ends once`` stands for those whose conversations carry one end of sequence in all."""
    if template == "ends once":
        return SlotRenderer(replace(load_template("empty"), efficient_eos=True))
    return SlotRenderer(load_template(template))


def chat(*texts, system=""):
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), system)


def measured(records, *, template="chatml", stage="sft", target=0.99, model_limit=None):
    account = Account()
    for _ in records:
        account.ledger.read("rows.jsonl")
    if stage == "pt":
        lengths = measure_texts(records, BYTES, BYTES.eos_token, account)
    else:
        located = [(f"row {i}", record) for i, record in enumerate(records, start=1)]
        lengths = measure_turns(located, BYTES, renderer(template), stage, account)
    account.ledger.check()
    return Measured(lengths, account, stage, target, template, "bytes", model_limit=model_limit)


TEXT = st.text(max_size=30)
CHATS = st.lists(
    st.integers(1, 3).flatmap(lambda n: st.lists(TEXT, min_size=2 * n, max_size=2 * n)), min_size=1, max_size=10
)
PAIRS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=10)


@settings(max_examples=60, deadline=None)
@given(CHATS, st.integers(1, 120), st.sampled_from(["chatml", "default", "empty", "llama2", "llama3", "ends once"]))
def test_what_a_cutoff_costs_is_what_the_encoder_really_leaves_out(rows, cutoff, template):
    records = [chat(*row) for row in rows]
    whole = [
        e for e in Encoder(BYTES, renderer(template), EncodeRules(10**6)).chats(records) if not isinstance(e, RowFault)
    ]
    lengths = measured(records, template=template).lengths
    assert (totals(lengths).num_tokens, totals(lengths).num_trained) == (
        sum(len(e.ids) for e in whole),
        sum(e.num_trained for e in whole),
    )
    assert list(lengths.rows()) == [len(e.ids) for e in whole]

    trainable = [
        r
        for r, e in zip(records, Encoder(BYTES, renderer(template), EncodeRules(10**6)).chats(records), strict=True)
        if not isinstance(e, RowFault)
    ]
    cut = Encoder(BYTES, renderer(template), EncodeRules(cutoff)).chats(trainable)
    kept = [e for e in cut if not isinstance(e, RowFault)]
    found = at_cutoff(lengths, cutoff)
    assert found.tokens_lost == sum(len(e.ids) for e in whole) - sum(len(e.ids) for e in kept)
    assert found.trained_tokens_lost == sum(e.num_trained for e in whole) - sum(e.num_trained for e in kept)
    assert found.rows_lost == len(cut) - len(kept)
    assert found.rows_truncated == sum(
        isinstance(c, RowFault) or len(c.ids) < len(w.ids) for c, w in zip(cut, whole, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(1, 120), st.sampled_from(["chatml", "llama3", "empty", "ends once"]))
def test_preferences_are_measured_as_the_encoder_cuts_them(rows, cutoff, template):
    records = [
        PreferenceRecord((Message("user", p),), Message("assistant", a), Message("assistant", b)) for p, a, b in rows
    ]

    def encoded(cutoff_len, some):
        return Encoder(BYTES, renderer(template), EncodeRules(cutoff_len)).preferences(some)

    trainable = [r for r, e in zip(records, encoded(10**6, records), strict=True) if not isinstance(e, RowFault)]
    whole = [side for e in encoded(10**6, trainable) for side in (e.chosen, e.rejected)]
    kept = [side for e in encoded(cutoff, trainable) if not isinstance(e, RowFault) for side in (e.chosen, e.rejected)]
    lengths = measured(records, template=template, stage="dpo").lengths
    assert len(lengths) == len(trainable)
    found = at_cutoff(lengths, cutoff)
    assert found.tokens_lost == sum(len(s.ids) for s in whole) - sum(len(s.ids) for s in kept)
    assert found.trained_tokens_lost == sum(s.num_trained for s in whole) - sum(s.num_trained for s in kept)


@given(st.lists(TEXT, min_size=1, max_size=20), st.integers(2, 50), st.booleans())
def test_blocks_of_text_and_what_is_dropped_are_those_of_pre_training(texts, cutoff, bos):
    rules = TextRules(cutoff_len=cutoff, bos_id=BYTES.bos_id if bos else None)
    made = list(encode_texts([texts], BYTES, rules))
    lengths = measured([TextRecord(t) for t in texts], stage="pt").lengths
    found = in_blocks(totals(lengths).num_tokens, cutoff, opens_with_bos=bos)
    assert found.blocks == sum(not isinstance(m, int) for m in made)
    assert found.tokens_lost == sum(m for m in made if isinstance(m, int))


def test_a_row_counts_its_prompt_and_its_answer_with_all_markers():
    lengths = measured([chat("hi", "yo")]).lengths
    prompt, answer = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "yo<|im_end|>\n"
    assert list(lengths.turns()) == [[(len(prompt), len(answer))]]


def test_padding_and_packing_by_hand():
    """Rows of 10 and 30 in one batch are padded to 32 each: 24 of 64 places are empty. Packed into 40: one full block."""
    lengths = Lengths("chat")
    lengths.add([(4, 6)])
    lengths.add([(10, 20)])
    found = at_cutoff(lengths, 40)
    assert found.padding_waste == 24 / 64
    assert (found.blocks, found.packing_efficiency) == (1, 1.0)
    assert found.steps_per_epoch == 1


def test_a_ninth_row_begins_a_batch_and_a_step_of_its_own():
    lengths = Lengths("chat")
    for _ in range(8):
        lengths.add([(4, 4)])
    lengths.add([(4, 28)])
    found = at_cutoff(lengths, 64)
    assert (found.padding_waste, found.steps_per_epoch) == (0.0, 2)


def test_percentiles_are_lengths_of_real_rows():
    lengths = Lengths("chat")
    for n in range(1, 101):
        lengths.add([(0, n)])
    account = Account()
    account.ledger.rows_in = account.ledger.rows_out = 100
    summary = summarize(Measured(lengths, account, "sft", 0.99, None, "bytes"))
    assert summary["percentiles"] == {"50": 50, "90": 90, "95": 95, "99": 99, "99.9": 100, "100": 100}
    assert summary["mean"] == 50.5


@pytest.mark.parametrize(
    ("lengths", "target", "limit", "expected"),
    [
        ([9, 10, 11], 0.99, None, 16),  # under 64, multiples of 8
        ([57], 1.0, None, 64),
        ([65], 1.0, None, 128),  # above it, multiples of 64
        ([*range(1, 100), 5000], 0.99, None, 128),  # the hundredth row may be cut
        ([*range(1, 100), 5000], 1.0, None, 5056),
        ([5000], 0.99, 2048, 2048),
        ([5000], 0.99, 1000, 960),  # the last multiple of 64 that the model allows
        ([5000], 0.99, 5, 5),
        ([3], 0.0, None, 8),
    ],
)
def test_the_suggestion_is_the_smallest_multiple_that_keeps_the_target_share(lengths, target, limit, expected):
    assert suggest_cutoff(lengths, target, limit).cutoff_len == expected


def test_the_reason_names_the_share_that_stays_whole():
    assert suggest_cutoff([10, 20, 30, 100], 0.75, None).reason == (
        "32 is the smallest multiple of 8 that keeps at least 75% of the rows whole: 3 of 4 rows (75%) stay whole."
    )


def test_the_reason_says_when_the_models_limit_binds():
    reason = suggest_cutoff([100, 5000], 1.0, 2048).reason
    assert "the model's own limit of 2,048 tokens binds" in reason
    assert "100% would take 5,056" in reason


@given(st.lists(st.integers(1, 5000), min_size=1), st.floats(0, 1))
def test_the_suggestion_keeps_the_target_and_the_step_below_does_not(lengths, target):
    ordered = sorted(lengths)
    cutoff = suggest_cutoff(ordered, target, None).cutoff_len
    step = 64 if cutoff > 64 else 8
    kept = [sum(n <= c for n in ordered) / len(ordered) for c in (cutoff, cutoff - step)]
    assert kept[0] >= target - 1e-9
    assert cutoff == 8 or kept[1] < max(target, 1 / len(ordered))


@pytest.mark.parametrize(
    ("tokens", "limit", "expected"),
    [
        (100_000, None, 2048),  # 48 blocks, 1,696 over: 1.7%, so a step down is needed
        (2048 * 50, None, 2048),
        (2048 * 50, 512, 512),
        (4096, None, 512),  # 8 blocks of 512 rather than 2 of 2048
        (100, None, 8),
    ],
)
def test_blocks_for_pre_training_leave_little_over(tokens, limit, expected):
    found = suggest_block(tokens, limit, opens_with_bos=False)
    if tokens == 100_000:
        assert found.cutoff_len < expected
        assert tokens % found.cutoff_len <= 1000
    else:
        assert found.cutoff_len == expected
    assert found.reason.startswith("text is cut into blocks, not truncated")


def test_the_ladder_runs_from_the_middle_row_to_the_longest_and_holds_the_suggestion():
    assert ladder(157, 682, 576, None) == [128, 256, 512, 576, 1024]
    assert ladder(157, 9000, 512, 512) == [128, 256, 512]


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100%"), (0.9999, ">99.9%"), (0.993, "99.3%"), (0.0001, "<0.1%"), (0, "0%")]
)
def test_shares_are_never_rounded_to_all_or_nothing(share, text):
    assert percent(share) == text


def test_a_row_without_an_answer_to_train_is_rejected_and_counted():
    found = measured([chat("hi", "yo"), chat("hi", "")], template="empty")
    assert summarize(found)["rejected"] == {"answer: no token of it is there to train": 1}
    assert found.account.examples == ['row 2, field "answer": no token of it is there to train']


# ------------------------------------------------------------------------------------------- with files and folders


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a byte-level tokenizer that knows no merges, and a model limit of 256."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "config.json").write_text('{"max_position_embeddings": 256}')
    return folder


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def measure(src, model, **options):
    defaults = {"dataset": None, "dataset_dir": Path("data"), "template": "chatml", "stage": "sft", "target": 0.99}
    return measure_rows(src, model=model, **{**defaults, **options})


QA = {"instruction": "Why?", "output": "Because."}


def test_bad_rows_are_rejected_by_reason_and_the_others_measured(tmp_path, model):
    source = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(QA),
        '{"instruction": "cut',
        json.dumps({"instruction": "n", "output": 7}),
        json.dumps({"colour": "red"}),
        json.dumps(QA),
    ]
    source.write_text("\n".join(lines) + "\n")
    summary = summarize(measure([str(source)], model))
    assert (summary["rows_in"], summary["rows"]) == (5, 2)
    assert sum(summary["rejected"].values()) == 3
    assert summary["rejected"]["output: text belongs here, not a number"] == 1
    assert f'{source}, row 4, field "output": the field is missing' in summary["rejected_examples"]


def test_a_registered_dataset_is_measured_by_its_columns(tmp_path, model):
    write_rows(tmp_path / "faq.jsonl", [{"q": "Why?", "a": "Because."}])
    info = {"faq": {"file_name": "faq.jsonl", "columns": {"prompt": "q", "response": "a"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    by_name = measure([], model, dataset="faq", dataset_dir=tmp_path)
    by_file = measure([write_rows(tmp_path / "same.jsonl", [QA])], model)
    assert list(by_name.lengths.turns()) == list(by_file.lengths.turns())


def test_preference_rows_are_refused_for_sft_and_the_right_stage_named(tmp_path, model):
    source = write_rows(tmp_path / "p.jsonl", [{"instruction": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(UsageError, match="these are preference rows .*stage sft learns from chat rows") as caught:
        measure([source], model)
    assert "--stage rm or dpo" in str(caught.value)


def test_unknown_columns_are_refused_with_the_nearest_mapping(tmp_path, model):
    source = write_rows(tmp_path / "p.jsonl", [{"question": "a", "answer": "b"}] * 200)
    with pytest.raises(UsageError, match="question, answer") as caught:
        measure([source], model)
    assert "--map instruction=question --map output=answer" in str(caught.value)


def test_plain_text_is_measured_for_pt_without_any_chat_template(tmp_path, model):
    source = tmp_path / "book.txt"
    source.write_text("one\ntwo\n")
    found = measure([str(source)], model, stage="pt", template=None)
    assert list(found.lengths.rows()) == [4, 4]  # three letters and the end of text
    assert summarize(found)["trained_tokens"] == 8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stage": "sfft"}, 'unknown stage "sfft"'),
        ({"template": "qwenn"}, 'unknown template "qwenn"'),
        ({"dataset": "x"}, "both SRC and --dataset"),
        ({"template": None}, "no chat template of its own"),
    ],
)
def test_wrong_options_are_named(tmp_path, model, change, told):
    source = write_rows(tmp_path / "rows.jsonl", [QA])
    with pytest.raises(UsageError, match=told):
        measure([source], model, **change)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"holds no tokenizer\.json"):
        measure([write_rows(tmp_path / "rows.jsonl", [QA])], tmp_path)


def test_an_empty_source_is_named(tmp_path, model):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UsageError, match="the file is empty"):
        measure([str(tmp_path / "rows.jsonl")], model)


def test_rows_none_of_which_can_be_trained_are_a_fault_of_the_data(tmp_path, model):
    source = write_rows(tmp_path / "rows.jsonl", [{"instruction": "a", "output": None}])
    with pytest.raises(DataError, match="none of the 1 rows can be trained on") as caught:
        measure([source], model)
    assert caught.value.exit_code == 1


def test_plot_and_page_are_written_and_the_page_needs_nothing_beside_it(tmp_path, model, capsys):
    found = measure([write_rows(tmp_path / "rows.jsonl", [QA, {"instruction": "<b>", "output": None}])], model)
    found = replace(found, tokenizer="<i>mine")
    finish_stats(found, plot=tmp_path / "l.png", html=tmp_path / "l.html", json=False, quiet=False)
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "l.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert "text belongs here, not null" in page
    assert "&lt;i&gt;mine" in page
    out = capsys.readouterr().out
    assert f"Suggested cutoff_len: {summarize(found)['suggested_cutoff_len']}" in out


@pytest.mark.parametrize(
    ("plot", "told"),
    [(".", "a file is needed"), ("l.jpg", r"written as \.png"), ("file/l.png", "nothing can be written in .*file")],
)
def test_a_plot_that_could_not_be_written_is_refused_first(plot, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UsageError, match=told):
        check_targets(Path(plot), None)


def run_cli(*args):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "datakit.cli", *map(str, args)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_the_command_prints_one_json_object_with_the_promised_fields(tmp_path, model):
    done = run_cli(
        "stats", write_rows(tmp_path / "rows.jsonl", [QA]), "--model", model, "--template", "chatml", "--json"
    )
    assert done.returncode == 0, done.stderr
    promised = {
        "rows",
        "tokens",
        "trained_tokens",
        "percentiles",
        "mean",
        "suggested_cutoff_len",
        "at_suggestion",
        "candidates",
        "template",
        "tokenizer",
        "backend",
    }
    summary = json.loads(done.stdout)
    assert promised <= summary.keys()
    assert {
        "rows_truncated",
        "tokens_lost",
        "trained_tokens_lost",
        "padding_waste",
        "packing_efficiency",
        "steps_per_epoch",
    } <= summary["at_suggestion"].keys()
    assert summary["model_limit"] == 256


def test_the_command_ends_with_2_and_no_traceback_for_a_wrong_folder(tmp_path):
    done = run_cli("stats", write_rows(tmp_path / "rows.jsonl", [QA]), "--model", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "no such folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_with_130_and_no_traceback(model):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "datakit.cli", "stats", "-", "--model", str(model), "--template", "chatml"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=environment, text=True, **pipes) as running:
        time.sleep(1.5)  # it waits for rows
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err


@needs_shared
def test_the_demo_rows_with_qwens_tokenizer_cut_as_suggested_lose_what_was_said():
    model = SHARED / "tokenizers" / "qwen2"
    found = measure([str(SHARED / "data" / "alpaca_en_demo.json")], model, template="qwen")
    summary = summarize(found)
    from registry.formats import LAYOUTS, READERS
    from registry.rows import read_rows
    from registry.tokenizer import open_tokenizer

    tokenizer, spell = open_tokenizer(model, "qwen")
    records = [
        READERS["alpaca"](row.data, LAYOUTS["alpaca"])
        for row in read_rows([str(SHARED / "data" / "alpaca_en_demo.json")])
    ]
    cut = Encoder(tokenizer, spell, EncodeRules(summary["suggested_cutoff_len"])).chats(records)
    assert summary["tokens"] - summary["at_suggestion"]["tokens_lost"] == sum(len(e.ids) for e in cut)
    assert summary["rows"] == len(records)
