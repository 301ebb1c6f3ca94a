"""Recipes: found by name or path, rendered for a call, and known by a digest of what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datakit.recipes.recipe import languages_of, load_prompt, load_recipe, recipe_names
from registry.errors import UsageError

SEED = {
    "system": "",
    "turns": [{"role": "user", "content": "Which port?"}, {"role": "assistant", "content": "The yellow one."}],
    "question": "Which port?",
    "answer": "The yellow one.",
    "is_single": True,
}


def test_a_recipe_is_found_by_its_name_and_language():
    recipe = load_recipe("preference", "zh")
    assert (recipe.name, recipe.prompt.language, recipe.prompt.output) == ("preference", "zh", "text")
    assert [(name, step.language, step.output) for name, step in recipe.steps.items()] == [("compare", "zh", "verdict")]
    assert languages_of("preference") == ["en", "zh"]


def test_an_unknown_name_gives_the_nearest_one_and_all_there_are():
    with pytest.raises(UsageError) as fault:
        load_recipe("paraprase")
    assert fault.value.what == 'unknown recipe "paraprase"'
    assert 'Did you mean "paraphrase"?' in str(fault.value)
    assert all(name in str(fault.value) for name in recipe_names())


def test_a_language_that_a_recipe_is_not_written_in_is_refused_with_those_it_is():
    with pytest.raises(UsageError) as fault:
        load_recipe("expand", "fr")
    assert str(fault.value).splitlines() == [
        'the recipe "expand" is not written in "fr"',
        "  --language en or zh, or a file of yours that ends in .md",
    ]


def test_a_file_of_the_users_is_a_recipe_like_any_other(write_recipe):
    path = write_recipe(
        "<!-- system -->\nWrite in a {{ tone }} tone.\n<!-- user -->\n{{ seed.question }}\n\n{{ n }} of them.\n",
        head='name: mine\nversion: 3\nlanguage: de\noutput: pairs\nn: 4\ninputs: {tone: "dry"}',
    )
    recipe = load_recipe(path)
    assert (recipe.name, recipe.prompt.version, recipe.prompt.language, recipe.prompt.n) == ("mine", 3, "de", 4)
    assert recipe.prompt.render({"seed": SEED, "n": 2}) == (
        ("system", "Write in a dry tone."),
        ("user", "Which port?\n\n2 of them."),
    )
    assert recipe.prompt.render({"seed": SEED, "tone": "warm"})[0] == ("system", "Write in a warm tone.")


def test_what_a_file_does_not_say_has_its_default(write_recipe):
    prompt = load_prompt(write_recipe("Ask."))
    assert (prompt.language, prompt.summary, prompt.seeds, prompt.makes) == ("en", "", "chat", "new")
    assert (prompt.n, prompt.per_call, prompt.stages) == (1, 5, ("sft",))
    assert (prompt.inputs, prompt.sampling, prompt.data) == ({}, {}, {})


def test_a_file_without_marks_is_all_user_message(write_recipe):
    assert load_prompt(write_recipe("\n\nAsk <!-- a remark --> this.\n\n")).render({}) == (
        ("user", "Ask <!-- a remark --> this."),
    )


def test_a_system_message_that_comes_out_empty_is_left_out(write_recipe):
    prompt = load_prompt(write_recipe("<!-- system -->\n{{ seed.system }}\n<!-- user -->\n{{ seed.question }}"))
    assert prompt.render({"seed": SEED}) == (("user", "Which port?"),)
    assert prompt.render({"seed": {**SEED, "system": "Be brief."}})[0] == ("system", "Be brief.")


def test_braces_in_a_seed_are_text(write_recipe):
    question = "{{ n }} {% for x in y %} {# no #} & <b> \"'"
    prompt = load_prompt(write_recipe("{{ seed.question }}"))
    assert prompt.render({"seed": {**SEED, "question": question}}) == (("user", question),)


def test_json_in_a_prompt_keeps_its_letters(write_recipe):
    assert load_prompt(write_recipe("{{ seed.turns | tojson }}")).render(
        {"seed": {"turns": [{"role": "user", "content": "<b>é你"}]}}
    ) == (("user", '[{"role": "user", "content": "<b>é你"}]'),)


def test_an_input_that_must_be_given_is_asked_for(write_recipe):
    path = write_recipe("Into {{ to }}.", head="name: mine\nversion: 1\noutput: text\ninputs: {to: null, tone: plain}")
    prompt = load_prompt(path)
    assert prompt.filled({"to": "French"}) == {"to": "French", "tone": "plain"}
    with pytest.raises(UsageError, match='the input "to" must be given'):
        prompt.render({})
    with pytest.raises(UsageError) as fault:
        prompt.filled({"tome": "dry"})
    assert fault.value.faults == (
        'there is no input "tome". Did you mean "tone" or "to"? Known: to, tone',
        'the input "to" must be given: --set to=…',
    )


def test_ways_and_topics_reach_the_body_with_the_one_that_is_due(write_recipe):
    head = "name: mine\nversion: 1\noutput: texts\nways: {depth: Ask deeper., width: Ask wider.}\ntopics: [a, b]"
    prompt = load_prompt(write_recipe("{{ ways[way] }} {{ topics | join('/') }} {{ topic }}", head=head))
    assert prompt.render({"way": "width", "topic": "b"}) == (("user", "Ask wider. a/b b"),)


@pytest.mark.parametrize(("name", "where"), [("none.md", "none.md"), ("folder.md", "folder.md")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, write_recipe, name, where):
    write_recipe("Ask.", name="nine.md")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(UsageError) as fault:
        load_recipe(str(tmp_path / name))
    assert str(tmp_path / where) in str(fault.value)
    assert name != "none.md" or "Near it: nine.md" in str(fault.value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"---\nname: caf\xe9\n---\n")
    with pytest.raises(UsageError, match=r"not UTF-8: .* at byte 13"):
        load_recipe(path)


def loaded(folder: Path, name: str, version: int, body: str, file: str = "a.md"):
    path = folder / file
    path.write_text(f"---\nname: {name}\nversion: {version}\noutput: pairs\n---\n{body}\n", encoding="utf-8")
    return load_prompt(path)


bodies = st.text(st.characters(codec="utf-8", exclude_characters="{}<>\r\0"), min_size=1).filter(str.strip)
versions = st.integers(1, 10**6)


@given(body=bodies, other=bodies, version=versions, step=st.integers(1, 9))
def test_another_wording_or_version_is_another_digest_and_another_name_or_place_is_not(
    tmp_path_factory, body, other, version, step
):
    folder = tmp_path_factory.mktemp("recipes")
    digest = loaded(folder, "mine", version, body).digest
    assert len(digest) == 32
    assert loaded(folder, "yours", version, body, "b.md").digest == digest
    assert loaded(folder, "mine", version + step, body).digest != digest
    assume(body.strip() != other.strip())
    assert loaded(folder, "mine", version, other).digest != digest


@given(body=bodies, other=bodies)
def test_what_the_system_says_is_part_of_the_digest(tmp_path_factory, body, other):
    assume(body.strip() != other.strip())
    folder = tmp_path_factory.mktemp("recipes")
    marked = [f"<!-- system -->\n{system}\n<!-- user -->\nAsk." for system in (body, other)]
    assert loaded(folder, "a", 1, marked[0]).digest != loaded(folder, "a", 1, marked[1]).digest
    as_user = loaded(folder, "a", 1, marked[0].replace("<!-- system -->", "<!-- user -->"))
    assert as_user.digest != loaded(folder, "a", 1, marked[0]).digest
    # Moving text from one message into the other is another prompt as well.
    moved = loaded(folder, "a", 1, f"<!-- system -->\nAsk.\n<!-- user -->\n{body}")
    assume(body.strip() != "Ask.")
    assert moved.digest != loaded(folder, "a", 1, marked[0]).digest
