"""Templates: what is rendered, what is refused, and that a value stays in its place."""

import string
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications import NotificationDraft, NotificationType
from services.notifications.configured import BadSetting
from services.notifications.fields import DraftFields
from services.notifications.patterns import Pattern
from services.notifications.preferences import Preferences
from services.notifications.templates import (
    Rendered,
    TemplateRefused,
    Templates,
    TemplateUnknown,
    check_variables,
    load_templates,
)
from services.notifications.types import load_types
from services.queue.models import BatchState, TaskState
from tests.conftest import ROOT
from tests.test_examples import blocks
from tornado_rt.bounds import OutOfBounds
from tornado_rt.json_body import structure
from tornado_rt.work.values import cut

ORDERS = """
[order.sent.en]
title = "Order {number} to {who}: on its way"
content = "{who},\\nyour order {number} has left: {{really}}."
link = "/orders/{number}?from={who}#{number}"
actions = [
    {id = "track", label = "Track {number}", link = "https://post.example/{number}"},
    {id = "thanks", label = "Thanks", answer = true},
]

[order.sent.de]
title = "Bestellung {number} an {who} ist unterwegs"

[order.sent."pt-BR"]
title = "Pedido {number}"

[plain.en]
title = "{word}"
"""
SENT = {"number": 7, "who": "Ada"}


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The built-in templates and those above."""
    return load_templates(written(tmp_path_factory.mktemp("orders"), ORDERS))


def written(folder: Path, text: str) -> str:
    path = folder / "templates.toml"
    path.write_text(text)
    return str(path)


def test_variables_come_into_their_places(orders: Templates) -> None:
    rendered = orders.render("order.sent", SENT)
    assert (rendered.title, rendered.locale) == ("Order 7 to Ada: on its way", "en")
    assert rendered.content == "Ada,\nyour order 7 has left: {really}."
    assert rendered.link == "/orders/7?from=Ada#7"
    assert [one.to_dict() for one in rendered.actions] == [
        {"id": "track", "label": "Track 7", "link": "https://post.example/7"},
        {"id": "thanks", "label": "Thanks", "answer": True},
    ]


@pytest.mark.parametrize(
    ("locales", "title"),
    [
        ([], "Order 7 to Ada: on its way"),
        (["de-AT"], "Bestellung 7 an Ada ist unterwegs"),
        ([None, "de"], "Bestellung 7 an Ada ist unterwegs"),
        (["fr", "PT-br"], "Pedido 7"),
        (["pt"], "Order 7 to Ada: on its way"),
        (["fr"], "Order 7 to Ada: on its way"),
    ],
)
def test_first_language_that_there_is_is_rendered(
    orders: Templates, locales: list[str | None], title: str
) -> None:
    assert orders.render("order.sent", SENT, locales).title == title


def test_default_language_comes_after_those_that_are_asked_for(tmp_path: Path) -> None:
    german = load_templates(written(tmp_path, ORDERS.replace("[plain.en]", "[plain.de]")), "de-CH")
    assert german.render("order.sent", SENT, ["fr"]).locale == "de"
    assert german.render("task.completed", {"label": "A"}, ["fr"]).title == "A: abgeschlossen"
    # Nothing built in is in French.
    assert load_templates("", "fr").render("task.dead", {"label": "A"}).title == "A: dead"


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("{who}", "{who}"),
        ("{word}", "{word}"),
        ("{{number}}", "{{number}}"),
        ("{0.__class__}", "{0.__class__}"),
        ("%(who)s $who ${who}", "%(who)s $who ${who}"),
        ("a\r\nb\tc", "a  b c"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2066\ud800", "?"),
        ("<b>&amp;", "<b>&amp;"),
        (-3, "-3"),
        (0.1, "0.1"),
        (3.0, "3"),
        (2**63, None),
        ("", None),
        (True, None),
        (None, None),
        ([], None),
        (float("nan"), None),
    ],
)
def test_value_is_text_and_nothing_else(orders: Templates, value: Any, title: str | None) -> None:
    """An empty title is none; a truth, a list and a number without an end have no text."""
    if title is None:
        with pytest.raises(TemplateRefused, match=r"title must have|variables.word must be"):
            orders.render("plain", {"word": value})
        return
    assert orders.render("plain", {"word": value, "not_asked_for": []}).title == title


def test_missing_variables_are_named_whatever_the_language(orders: Templates) -> None:
    """Portuguese needs only the number; a sender does not know who reads Portuguese."""
    with pytest.raises(TemplateRefused) as refused:
        orders.render("order.sent", {"number": []}, ["pt-BR"])
    assert refused.value.faults == [
        "variables.who is required",
        "variables.number must be a string or a number",
    ]
    with pytest.raises(TemplateRefused, match=r"variables\.number is required"):
        orders.check("order.sent", {"who": "Ada"})
    orders.check("order.sent", SENT)


def test_unknown_template_names_near_ones(orders: Templates) -> None:
    with pytest.raises(TemplateUnknown, match=r"no template order.send; did you mean order.sent"):
        orders.render("order.send", SENT)
    with pytest.raises(TemplateUnknown, match=r"there is no template \ufffdx{58}…$"):
        orders.check("\0" + "x" * 10**5, {})


def test_longest_values_are_shortened_until_a_title_fits(orders: Templates) -> None:
    rendered = orders.render("order.sent", {"number": "7" * 40, "who": "x" * 300})
    assert len(rendered.title) == 200
    assert rendered.title.startswith(f"Order {'7' * 40} to xxx")
    assert rendered.title.endswith("x…: on its way")
    long = orders.render("order.sent", {"number": "7" * 300, "who": "x" * 300})
    assert len(long.title) in (199, 200)
    assert len(long.actions[0].label) == 100
    assert long.title.count("7") == long.title.count("x")
    text = Pattern.of("{who},\nyour order has left.").fill_text({"who": "x\n" * 9000}, 5000)
    assert len(text) == 5000
    assert text.endswith("…,\nyour order has left.")


@pytest.mark.parametrize(
    ("value", "link"),
    [
        ("a/b?c#d e", "a%2Fb%3Fc%23d%20e"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("\\evil", "%5Cevil"),
        ("ä\n", "%C3%A4%0A"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
    ],
)
def test_value_in_a_link_is_encoded(orders: Templates, value: str, link: str) -> None:
    [track, _] = orders.render("order.sent", {"number": value, "who": "x"}).actions
    assert track.link == f"https://post.example/{link}"


@pytest.mark.parametrize("value", [".", "..", "x" * 2000])
def test_value_that_leads_elsewhere_is_refused(orders: Templates, value: str) -> None:
    """A part of a long link would lead elsewhere too."""
    with pytest.raises(TemplateRefused, match=r"template order\.sent: link must"):
        orders.render("order.sent", {"number": value, "who": "x"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a.en]\ntitle = 'x {'", r"a.en: title has a \{ that is no place such as \{name\}"),
        ("[a.en]\ntitle = 'x }'", r"title has a \} that is no place"),
        ("[a.en]\ntitle = '{a.b}'", r"title has a \{ that"),
        ("[a.en]\ntitle = '{a!r}'", r"title has a \{ that"),
        ("[a.en]\ntitle = '{a:9}'", r"title has a \{ that"),
        ("[a.en]\ntitle = '{}'", r"title has a \{ that"),
        ("[a.en]\ntitle = '{A}'", r"title has a \{ that"),
        ("[a.en]\ntitle = '{{a}'", r"title has a \} that"),
        ("[a.en]\ntitle = ''", "title must have 1 to 200 characters"),
        (f"[a.en]\ntitle = '{'x' * 201}'", "title must have at most 200 characters"),
        (f"[a.en]\ntitle = '{'x' * 199}{{a}}{{b}}'", "title must have at most 200 characters"),
        ('[a.en]\ntitle = "a\\nb"', "title must not hold control characters"),
        (f"[a.en]\ntitle = 'x'\ncontent = '{'x' * 5001}'", "content must have at most 5000"),
        ("[a.en]\ntitle = 7", "title must be a string"),
        ("[a.en]\ncontent = 'x'", "title is required"),
        ("[a.en]\ntitle = 'x'\nicon = '/a'", "unknown fields: icon"),
        ("[a.en]", "title is required"),
        ("[a.en]\ntitle = 'x'\nlink = 'javascript:{a}'", "link must be a path or an http"),
        ("[a.en]\ntitle = 'x'\nlink = '//{a}'", "link must be a path or an http"),
        ("[a.en]\ntitle = 'x'\nlink = '{a}'", "link must be a path or an http"),
        ("[a.en]\ntitle = 'x'\nlink = 'https://{a}/'", "link must begin with its path, or its"),
        ("[a.en]\ntitle = 'x'\nlink = 'https://a.{b}'", "link must begin with its path, or its"),
        ("[a.en]\ntitle = 'x'\nlink = 'https://a.example:{b}/'", "link must be a path"),
        ("[a.en]\ntitle = 'x'\nlink = 'https://{a}@b.example/'", "link must begin with"),
        (
            "[a.en]\ntitle = 'x'\nactions = [{id = 'A', label = 'x', answer = true}]",
            "id must have 1 to 32",
        ),
        ("[a.en]\ntitle = 'x'\nactions = [{id = 'a', label = 'x'}]", "action a must have either"),
        (
            "[a.en]\ntitle = 'x'\nactions = [{id = 'a', label = '{', answer = true}]",
            r"action a: label has a \{ that",
        ),
        (
            "[[a.en.actions]]\nid = 'a'\nlabel = 'x'\nanswer = true\n"
            "[[a.en.actions]]\nid = 'a'\nlabel = 'y'\nanswer = true\n[a.en]\ntitle = 'x'",
            "two actions have the name|is not TOML",
        ),
        ("[a.b]\ntitle = 'x'", "b is no language tag"),
        ("[order.new]\ntitle = 'x'", "order has no text in en, the default"),
        ("[a.de]\ntitle = 'x'", "a has no text in en, the default"),
        ("[A.en]\ntitle = 'x'", "A.en: is no template: write"),
        ("title = 'x'", "title: is no template: write"),
        ("[en]\ntitle = 'x'", "is no template: write"),
        ("[a.en]\ntitle = 'x'\n[a.EN]\ntitle = 'y'", "a.en is there twice"),
        (
            "[task.completed.fr]\ntitle = '{name}'",
            "task.completed has no variable name, only label",
        ),
        ("[", "is not TOML"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_at_start(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=rf"^notification_templates: .*{words}"):
        load_templates(written(tmp_path, text))


def test_folder_of_files_is_read_together(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"has no file \*.toml"):
        load_templates(str(tmp_path))
    (tmp_path / "a.toml").write_text("[a.en]\ntitle = 'one'")
    (tmp_path / "b.toml").write_text("[a.fr]\ntitle = 'un'\n[task.dead.en]\ntitle = '{label} died'")
    templates = load_templates(str(tmp_path))
    assert templates.render("a", {}, ["fr"]).title == "un"
    assert templates.render("task.dead", {"label": "A"}).title == "A died"
    # Only the English text is replaced.
    assert templates.render("task.dead", {"label": "A"}, ["zh-CN"]).title == "A：已放弃"
    (tmp_path / "c.toml").write_text("[a.en]\ntitle = 'two'")
    with pytest.raises(BadSetting, match=r"c.toml: a.en is there twice"):
        load_templates(str(tmp_path))
    with pytest.raises(BadSetting, match="no such file"):
        load_templates(str(tmp_path / "d.toml"))


BUILT_IN = load_templates()
LANGUAGES = ("en", "de", "zh")


def test_built_in_templates_say_the_same_in_each_language() -> None:
    for name in BUILT_IN.names:
        texts = BUILT_IN._texts[name]
        assert set(texts) == set(LANGUAGES)
        assert len({frozenset(one.variables) for one in texts.values()}) == 1
        assert len({one.content is None for one in texts.values()}) == 1
        assert len({tuple(one.title.literals) for one in texts.values()}) == 3 or "ended" in name


def test_english_ends_are_told_as_they_were() -> None:
    """Receivers look for these words."""
    for status in (*TaskState, "ended"):
        values = {"label": "AAPL", "status": status}
        name = BUILT_IN.name_of_end("task", status)
        assert BUILT_IN.render(name, values).title == f"AAPL: {status}"
        name = BUILT_IN.name_of_end("analysis", status)
        assert BUILT_IN.render(name, values).title == f"AAPL: analysis {status}"
    for status in (*BatchState, "ended"):
        values = {"completed": 1, "total": 2, "status": status}
        name = BUILT_IN.name_of_end("batch", status)
        rendered = BUILT_IN.render(name, values)
        assert (rendered.title, rendered.content) == (f"Batch: {status}", "1 of 2 completed")
        name = BUILT_IN.name_of_end("analysis.batch", status)
        assert BUILT_IN.render(name, values).title == f"Batch: analysis {status}"


LITERAL = st.text(st.sampled_from(string.ascii_letters + " .:/é文"), max_size=20)
VALUE = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from("{}ab %\\\n\0/.\u202e\ud800"), max_size=300),
    # Names of other variables, and of their own.
    st.lists(st.sampled_from(["{a}", "{b}", "{c}", "{{a}}", "{who}", "x"]), max_size=3).map(
        "".join
    ),
)


@given(st.lists(LITERAL, min_size=2, max_size=5), st.lists(VALUE, min_size=3, max_size=3))
def test_no_value_changes_the_text_outside_its_place(
    literals: list[str], values: list[str]
) -> None:
    """Between the literals stand the values, or as much of each as fits; nothing else."""
    names = ["a", "b", "a", "c"][: len(literals) - 1]
    pattern = Pattern.of(pattern_text(literals, names))
    assert (list(pattern.literals), list(pattern.names)) == (literals, names)
    known = dict(zip("abc", values, strict=True))
    for fill, most in ((Pattern.fill_line, 200), (Pattern.fill_text, 400)):
        filled = fill(pattern, known, most)
        alone = {name: fill(Pattern(["", ""], [name]), known, most) for name in known}
        expected = [join(literals, [cut(alone[name], n) for name in names]) for n in range(1, most)]
        fitting = [one for one in expected if len(one) <= most]
        assert filled == fitting[-1]


def pattern_text(literals: list[str], names: list[str]) -> str:
    return join(literals, [f"{{{name}}}" for name in names])


def join(literals: list[str], values: list[str]) -> str:
    return "".join(f"{one}{value}" for one, value in zip(literals, [*values, ""], strict=True))


@given(VALUE, VALUE)
def test_what_is_rendered_is_a_draft_or_refused(number: str, who: str) -> None:
    templates = ORDER_TEMPLATES
    try:
        rendered: Rendered = templates.render("order.sent", {"number": number, "who": who})
    except TemplateRefused:
        assert number.strip() in (".", "..") or len(number) > 100 or len(who) > 100
        return
    NotificationDraft(
        user_id="a",
        type=NotificationType.ALERT,
        title=rendered.title,
        content=rendered.content,
        link=rendered.link,
    )
    DraftFields(type="a", actions=rendered.actions, locale=rendered.locale)
    assert rendered.title.startswith("Order ")
    assert rendered.title.endswith(": on its way")
    assert "\n" not in rendered.title
    assert rendered.link is not None
    assert rendered.link.startswith("/orders/")
    assert rendered.link.count("?from=") == rendered.link.count("#") == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({f"v{n}": 1 for n in range(101)}, "variables must have at most 100 fields"),
        ({"a": "x" * 40000}, "variables has"),
        ({"a": float("nan")}, "variables holds a number that JSON does not have"),
    ],
)
def test_variables_are_bounded(variables: dict[str, Any], words: str) -> None:
    class Field:
        name = "variables"

    with pytest.raises(OutOfBounds, match=words):
        check_variables(None, Field, variables)
    check_variables(None, Field, SENT)


def _order_templates() -> Templates:
    with tempfile.TemporaryDirectory() as folder:
        return load_templates(written(Path(folder), ORDERS))


ORDER_TEMPLATES = _order_templates()


def test_page_shows_templates_types_and_preferences_as_they_are(tmp_path: Path) -> None:
    """The examples of docs/notifications.md are read; its list is complete."""
    page = (ROOT / "docs/notifications.md").read_text()
    types, templates = blocks(page, "toml")
    (tmp_path / "types.toml").write_text(types)
    [*_, sent] = load_types(str(tmp_path / "types.toml")).in_locale("de-AT")
    assert sent.title == "Bestellungen unterwegs"
    rendered = load_templates(written(tmp_path, templates)).render("order.sent", SENT, ["de"])
    assert rendered.title == "Bestellung 7 ist unterwegs"
    [shown] = blocks(page, "json")
    assert structure(orjson.loads(shown), Preferences).to_dict() == orjson.loads(shown)
    for name in BUILT_IN.names:
        assert f".{name.rpartition('.')[2]}`" in page
