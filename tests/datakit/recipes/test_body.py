"""Bodies of recipes: faults by file, line and variable; when loaded where they can be seen; nothing leaves the sandbox."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.recipes.recipe import load_recipe
from registry.errors import Faults, UsageError

SEED = {"system": "", "turns": [{"role": "user", "content": "q"}], "question": "q", "answer": "", "is_single": False}


def fault_of(path, **values) -> UsageError:
    """The error that loading the file, or rendering it, ends with."""
    with pytest.raises(UsageError) as found:
        load_recipe(path).prompt.render({"seed": SEED, **values})
    return found.value


def test_unknown_names_in_all_messages_are_told_at_once_when_the_file_is_loaded(write_recipe):
    body = """<!-- system -->
{{ ton }} {{ seed.qestion }}
{% for t in seed.turns %}{{ t.rol }}{{ loop.index }}{% endfor %}
<!-- user -->
{% if n > 7 %}
{{ m | uper }}
{% endif %}
{% if n is odde %}{% endif %}
"""
    path = write_recipe(body, head='name: mine\nversion: 1\noutput: pairs\ninputs: {tone: ""}')
    with pytest.raises(Faults) as found:
        load_recipe(path)
    values = "Known: already, n, seed, tone"
    assert found.value.where == str(path)
    assert found.value.faults == (
        'line 8: "seed" has no field "qestion". Did you mean "question"? Known: answer, is_single, question, system, turns',
        f'line 8: unknown variable "ton". Did you mean "tone"? {values}',
        'line 9: "t" has no field "rol". Did you mean "role"? Known: content, role',
        'line 12: unknown filter "uper". Did you mean "upper"?',
        f'line 12: unknown variable "m". {values}',
        'line 14: unknown test "odde". Did you mean "odd"?',
    )


@pytest.mark.parametrize(
    ("head", "known"),
    [
        ("output: pairs\nseeds: text", "already, n, seed"),
        ("output: pairs\nseeds: none", "already, n"),
        ("output: pairs\nseeds: pool", "already, n, pool"),
        ("output: texts\nmakes: same", "already, n, seed, texts"),
        ("output: verdict", "already, answer_a, answer_b, n, seed"),
        ("output: texts\nways: {a: b}", "already, n, seed, way, ways"),
        ("output: texts\ntopics: [a]", "already, n, seed, topic, topics"),
    ],
)
def test_which_values_there_are_follows_from_the_head(write_recipe, head, known):
    path = write_recipe("{{ other }}", head=f"name: mine\nversion: 1\n{head}")
    assert str(fault_of(path)).endswith(f"Known: {known}")


def test_the_fields_of_a_seed_follow_from_what_seeds_are(write_recipe):
    path = write_recipe("{{ seed['question'] }}", head="name: mine\nversion: 1\noutput: pairs\nseeds: text")
    assert fault_of(path).faults == ('line 7: "seed" has no field "question". Known: text',)
    path = write_recipe(
        "{% for s in pool %}{{ s.text }}{% endfor %}", head="name: mine\nversion: 1\noutput: pairs\nseeds: pool"
    )
    assert fault_of(path).faults[0].startswith('line 7: "s" has no field "text".')


@pytest.mark.parametrize(
    "body",
    [
        "{% set seed = {'mine': 1} %}{{ seed.mine }}",
        "{% for t in seed.turns %}{% endfor %}{% for t in [{'a': 1}] %}{{ t.a }}{% endfor %}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(n) }}{{ range(2) | list }}",
    ],
)
def test_names_that_a_body_makes_itself_are_its_own(write_recipe, body):
    load_recipe(write_recipe(body)).prompt.render({"seed": SEED})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{{ n }", "the template cannot be read: unexpected '}'"),
        ("{% if n %}", "the template cannot be read: Unexpected end of template"),
        ("{% fro x in already %}", "the template cannot be read: Encountered unknown tag 'fro'"),
        ("{{ seed.turns[7].content }}", "the template fails: list object has no element 7"),
        ("{{ n / 0 }}", "the template fails: division by zero"),
        ("{{ n + 'a' }}", "the template fails: unsupported operand"),
        ("{{ {}['a' * n] }}", 'unknown field "a"'),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "the template fails: Range too big"),
        ("{% include name %}", "1 fault\n  - line 7: a recipe is one file: include is not available"),
    ],
)
def test_a_fault_names_the_file_and_the_line_with_the_head_counted(write_recipe, line, what):
    path = write_recipe(f"One.\n{line}\nThree.", head="name: mine\nversion: 1\noutput: text\ninputs: {name: x}")
    fault = fault_of(path)
    assert fault.what.startswith(what.replace("line 7", "line 8"))
    assert str(fault.where).startswith(str(path))
    assert "line 8" in str(fault) or "end of template" in what


def test_a_value_that_was_not_passed_is_named(write_recipe):
    path = write_recipe("One.\n\n{{ way }}", head="name: mine\nversion: 1\noutput: texts\nways: {a: b}")
    assert str(fault_of(path)) == f'{path}, line 9: "way" has no value in this call'


@pytest.mark.parametrize(
    "attempt",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ n | attr('__class__') }}",
        "{{ seed['__cl' ~ 'ass__'] }}",
        "{{ [n] | map(attribute='__class__') | list }}",
        "{{ seed.turns | map(attribute='text') | list }}",
        "{{ '{0.__class__}'.format(n) }}",
        "{{ seed.turns.append(1) }}",
        "{{ seed.update({'question': 'x'}) }}",
        "{{ range.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self._TemplateReference__context }}",
        "{% extends 'base.md' %}",
        "{% import '/etc/passwd' as p %}",
        "{% from '/etc/passwd' import p %}",
        "{{ ['a', 'b'] | random }}",
        "{{ lipsum() }}",
    ],
)
def test_the_sandbox_lets_nothing_out_and_changes_nothing(write_recipe, attempt):
    before = repr(SEED)
    assert str(write_recipe(attempt)) in str(fault_of(write_recipe(attempt)))
    assert repr(SEED) == before


def test_what_the_sandbox_refuses_is_told_when_loaded_even_where_few_seeds_reach_it(write_recipe):
    path = write_recipe("{% if n > 7 %}\n{{ n.__class__ }} {{ seed['_x'] }}\n{% endif %}")
    with pytest.raises(Faults) as found:
        load_recipe(path)
    assert found.value.faults == (
        'line 7: "__class__" is refused by the sandbox',
        'line 7: "_x" is refused by the sandbox',
    )


def test_marks_cut_a_body_into_messages_and_faults_of_them_are_told_by_line(write_recipe):
    path = write_recipe("<!-- System -->\na\n<!--user-->\nb\n<!-- assistant -->\nc\n <!-- user --> \nd")
    said = load_recipe(path).prompt.render({})
    assert said == (("system", "a"), ("user", "b"), ("assistant", "c"), ("user", "d"))
    path = write_recipe("hi\n<!-- usr -->\nx\n<!-- user -->\n\n<!-- system -->\nhello\n")
    assert fault_of(path).faults == (
        "line 6: text before the first mark belongs to no message",
        'line 7: unknown mark "usr". Did you mean "user"? Known: system, user, assistant',
        "line 11: the system message must come first, and once",
        'line 12: the last message must be the user\'s, and not empty: "<!-- user -->"',
    )
    assert "not empty" in str(fault_of(write_recipe("\n\n")))


PIECES = st.sampled_from([
    "{{", "}}", "{%", "%}", "{#", "#}", "{{ n }}", "{{ seed", ".turns", "[0]", ".__class__", "|", "length", "join", "(", ")",
    "if ", "for ", "x in ", "endfor", "endif", "set ", "macro m()", "raw", "endraw", "call", "block a", "include 'x'",
    "n", "x", "'", '"', "\n", " ", "-", "~", "0", "loop", "caller()", "super()", "is ", "defined", "<!-- user -->\n", "你", "\x00",
])  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=12))
def test_whatever_a_body_holds_it_renders_or_is_refused_as_wrong_usage(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "any.md"
    path.write_text("---\nname: a\nversion: 1\noutput: text\n---\n" + "".join(pieces), encoding="utf-8")
    try:
        said = load_recipe(path).prompt.render({"seed": SEED})
    except UsageError as fault:
        told = str(fault)
    else:
        told = f"{path} {said[-1][0]}"
    assert str(path) in told
