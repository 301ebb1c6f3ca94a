"""The head of a recipe file: all of its faults at once, each with its line."""

from __future__ import annotations

import pytest

from datakit.recipes.recipe import load_recipe
from registry.errors import Faults, UsageError
from tests.datakit.recipes.conftest import HEAD


def faults_of(path) -> tuple[str, ...]:
    with pytest.raises(Faults) as found:
        load_recipe(path)
    assert found.value.where == str(path)
    return found.value.faults


def test_all_faults_are_told_in_the_order_of_their_lines(write_recipe):
    head = (
        "name: mine\nversion: 1.2\nlangage: en\nseeds: chats\noutput: pair\nn: 0\nstages: [sft, dop]\n"
        "inputs: {seed: 1}\nsampling: {temprature: 1, api_key: x, model: y}"
    )
    known = (
        "name, version, language, summary, seeds, output, makes, n, per_call, stages, inputs, sampling, ways, topics"
    )
    outputs = "text, thought, texts, pairs, instructions, dialogues, score, verdict"
    assert faults_of(write_recipe("Ask.", head=head)) == (
        'line 3: "version" must be a whole number from 1, not 1.2',
        f'line 4: unknown key "langage". Did you mean "language"? Known: {known}',
        'line 5: unknown seeds "chats". Did you mean "chat"? Known: chat, text, pool, none',
        f'line 6: unknown output "pair". Did you mean "pairs"? Known: {outputs}',
        'line 7: "n" must be a whole number from 1, not 0',
        'line 8: unknown stage "dop". Did you mean "dpo"? Known: pt, sft, rm, dpo, kto',
        'line 9: no input can be called "seed": the run gives that value itself',
        'line 10: "api_key" in sampling looks like a secret; keys come from the environment only',
        'line 10: "model" is set by the run, it cannot stand in sampling',
        'line 10: unknown setting "temprature" in sampling. Did you mean "temperature"?',
    )


def test_what_must_be_there_is_missed_unless_it_was_only_misspelt(write_recipe):
    assert faults_of(write_recipe("Ask.", head="summary: x"))[:3] == (
        '"name" is missing',
        '"output" is missing',
        '"version" is missing',
    )
    (only,) = faults_of(write_recipe("Ask.", head="name: mine\nversion: 1\noutputs: pairs"))
    assert only.startswith('line 4: unknown key "outputs". Did you mean "output"')


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("language: no", '"language" must be text (in quotes?), not False'),
        ("summary: [a]", "\"summary\" must be text (in quotes?), not ['a']"),
        ("makes: old", 'unknown makes "old". Known: new, same'),
        ("n: true", '"n" must be a whole number from 1, not True'),
        ("per_call: five", "\"per_call\" must be a whole number from 1, not 'five'"),
        ("stages: sft", "\"stages\" must be a list of stages, such as [sft], not 'sft'"),
        ("inputs: [tone]", '"inputs" must be names with their defaults, such as {tone: ""}, not [\'tone\']'),
        ('inputs: {my-tone: ""}', 'the input "my-tone" must be letters, digits and _, as bodies name it'),
        ("sampling: 0.7", '"sampling" must be settings with their values, such as {temperature: 0.9}, not 0.7'),
        ("ways: [a]", "\"ways\" must be names with what to do, such as {depth: ask deeper}, not ['a']"),
        ("topics: {a: b}", "\"topics\" must be a list of texts, not {'a': 'b'}"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(write_recipe, line, fault):
    assert faults_of(write_recipe("Ask.", head=f"{HEAD}\n{line}")) == (f"line 5: {fault}",)


def test_no_seed_can_become_a_row_where_there_is_no_one_seed(write_recipe):
    (fault,) = faults_of(write_recipe("Ask.", head=f"{HEAD}\nseeds: none\nmakes: same"))
    assert fault == 'line 6: "makes: same" keeps each seed as a row, and with "seeds: none" there is no such row'


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("Ask.\n", "the file does not begin with a line of ---", ", line 1"),
        ("---\nname: a\nAsk.\n", "no second line of --- ends the keys", ""),
        ("---\nname: [a\nversion: 1\n---\n", "not YAML: expected ',' or ']', but got ':'", ", line 3"),
        ("---\nname: a\nname: b\n---\n", 'not YAML: the key "name" stands twice', ", line 3"),
        ("---\n- a\n---\n", "the head of a recipe must be keys and values", ""),
        ("---\n---\nAsk.\n", "the head of a recipe must be keys and values", ""),
        (
            "---\nname: a\nn: !!python/object:os.system x\n---\n",
            "not YAML: could not determine a constructor",
            ", line 3",
        ),
        ("---\nname: 2020-13-45\n---\n", "not YAML: a value that cannot be read: month must be in 1..12", ""),
        ("---\nname: " + "[" * 3000 + "\n---\n", "not YAML", ""),
    ],
)
def test_a_head_that_is_no_head_is_told_with_its_line(tmp_path, text, what, line):
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as fault:
        load_recipe(path)
    assert fault.value.what.startswith(what)
    assert fault.value.where is not None
    assert fault.value.where.startswith(str(path) + line)


def test_line_ends_of_windows_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"\xef\xbb\xbf---\r\nname: a\r\nversion: 1\r\noutput: text\r\n---\r\nOne.\r\nTwo.\r\n")
    assert load_recipe(path).prompt.render({}) == (("user", "One.\nTwo."),)
