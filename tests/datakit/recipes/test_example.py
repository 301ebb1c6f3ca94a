"""The values that prompts are shown with."""

from datakit.recipes.example import example_values
from datakit.recipes.recipe import load_prompt, load_recipe


def test_there_is_an_example_of_each_kind_of_seed_in_the_language_of_the_prompt():
    assert example_values(load_recipe("expand", "zh").prompt)["seed"]["question"] == "链条多久上一次油？"
    assert "Norvik" in example_values(load_recipe("qa-from-text").prompt)["seed"]["text"]
    assert len(example_values(load_recipe("self-instruct").prompt)["pool"]) == 3
    assert "seed" not in example_values(load_recipe("persona").prompt)


def test_inputs_that_must_be_given_stand_by_their_names(write_recipe):
    head = "name: mine\nversion: 1\nlanguage: fr\noutput: text\ninputs: {to: null, tone: dry, times: 2}"
    prompt = load_prompt(write_recipe("{{ to }} {{ tone }} {{ times }} {{ seed.question }}", head=head))
    assert prompt.render(example_values(prompt)) == (("user", "<to> dry 2 How often should I oil the chain?"),)
    assert example_values(prompt, {"to": "Welsh"})["to"] == "Welsh"
