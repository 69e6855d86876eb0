"""Comments and docstrings are plain technical English: a subject, a verb, an object."""

import pytest

from tools.language import ROOT, RULES, Rule, blocks, faults, sources


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.example)
def test_rule_finds_its_example_and_not_the_better_form(rule: Rule) -> None:
    assert rule.example in faults(rule.example)
    assert faults(rule.instead) == []


def test_comments_and_docstrings_are_plain_english() -> None:
    found, count = [], 0
    for path in sources():
        for line, text in blocks(path):
            count += 1
            found += [f"{path.relative_to(ROOT)}:{line}: as {one!r}" for one in faults(text)]
    assert count > 10_000
    assert found == []
