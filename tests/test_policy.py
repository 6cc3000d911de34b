"""Policies: checked with sentences, stored as versions that never change."""

import json
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from moderation.models import Policy, Prompt
from moderation.policy import POLICY_DIR, policy_digest, policy_read
from moderation.policy_export import policy_content
from moderation.taxonomy import taxonomy
from triage.terms import Matcher

DEMO = POLICY_DIR / "demo.yaml"


def _run(*arguments: str) -> str:
    out = StringIO()
    call_command("policy", *arguments, stdout=out)
    return out.getvalue()


def _changed(folder: Path, old: str, new: str) -> str:
    text = DEMO.read_text()
    assert old in text
    path = folder / "policy.yaml"
    path.write_text(text.replace(old, new, 1))
    return str(path)


@pytest.mark.parametrize("path", sorted(POLICY_DIR.glob("*.yaml")), ids=lambda path: path.name)
def test_every_policy_that_ships_is_sound(path: Path) -> None:
    assert "Nothing is wrong" in _run("check", str(path))


@pytest.mark.django_db
def test_importing_puts_a_policy_in_force_and_twice_changes_nothing() -> None:
    assert "In force" in _run("import", str(DEMO))
    assert "In force" in _run("import", str(DEMO))
    policy = Policy.objects.get()
    assert policy.is_active
    assert Prompt.objects.filter(rule__slug="red-star", kind="prohibited").count() == 5


@pytest.mark.django_db
def test_a_dry_run_changes_nothing() -> None:
    _run("import", str(DEMO), "--dry-run")
    assert not Policy.objects.exists()


@pytest.mark.django_db
def test_a_stored_version_is_never_edited(tmp_path: Path) -> None:
    _run("import", str(DEMO))
    with pytest.raises(CommandError, match="higher version"):
        _run("import", _changed(tmp_path, "title: Demo policy", "title: Another"))


@pytest.mark.django_db
def test_a_newer_version_replaces_the_one_in_force(tmp_path: Path) -> None:
    _run("import", str(DEMO))
    _run("import", _changed(tmp_path, "version: 1", "version: 2"))
    assert list(Policy.objects.filter(is_active=True).values_list("version", flat=True)) == [2]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hold: 0.85", "hold: 0.1", "hold"),
        ("review: 0.5", "review: high", "review"),
        ("slug: purple-heart", "slug: red-star", "twice"),
        ("signals: [previews, text_space]", "signals: []", "signals"),
        ("title: Demo policy", "titel: Demo policy", "titel"),
        ("actions: [limit, remove]", "actions: [vanish]", "actions"),
        ("name: demo", "name: [", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=words):
        _run("check", _changed(tmp_path, old, new))


# What has to stand under each rule of the policy that ships for real encoders.
SUBJECTS = {
    "minors-sexual",
    "real-person",
    "intimate-depiction",
    "sexual-violence",
    "gore-cruelty",
    "hate-dehumanisation",
    "violent-extremism",
    "self-harm",
    "weapons-drugs-trade",
    "undisclosed-adult",
    "demeaning-stereotypes",
    "code-that-runs",
    "unauthorised-copy",
}


def test_the_policy_for_real_encoders_has_all_that_a_rule_needs() -> None:
    written = yaml.safe_load((POLICY_DIR / "default.yaml").read_text())
    assert {rule["slug"] for rule in written["rules"]} == SUBJECTS
    for rule in written["rules"]:
        assert len(rule["text"]) >= 150, rule["slug"]
        assert len(rule["permitted"]) >= 2
        assert len(rule["prohibited"]) >= 2
        for concept in rule["concepts"]:
            assert len(concept["prohibited"]) >= 8, concept["slug"]
            assert len(concept["contrast"]) >= 4, concept["slug"]
        assert rule["terms"]
        assert rule["actions"]
        assert rule["deadline"] in written["deadlines"]
        assert rule["category"] in taxonomy()["category"]
        assert rule["keyword"] in taxonomy()["category_specification"]
    read = policy_read(POLICY_DIR / "default.yaml")
    assert {rule.appeal_days for rule in read.rules} == {184}
    by_slug = {rule.slug: rule for rule in read.rules}
    minors = by_slug["minors-sexual"]
    assert minors.combine == "all"
    assert {concept.slug for concept in minors.concepts} == {"minor", "sexual"}
    assert [rule.slug for rule in read.rules if rule.child_safety] == ["minors-sexual"]
    assert "remove" not in by_slug["demeaning-stereotypes"].actions


@pytest.mark.parametrize("name", ["default.yaml", "demo.yaml"])
def test_every_term_that_ships_is_well_written(name: str) -> None:
    for rule in policy_read(POLICY_DIR / name).rules:
        Matcher(rule.terms)
        for condition in rule.conditions:
            for group in condition.groups:
                Matcher(group.terms)


def _line(text: str, needle: str) -> int:
    return text[: text.index(needle)].count("\n") + 1


LONG = " ".join(["word"] * 500)


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("hold: 0.85", "hold: 0.1", "hold: 0.1", "lies below the 'review' threshold"),
        ("review: 0.5", "review: high", "review: high", "a number, such as 0.5; this is “high”"),
        ("signals: [previews, text_space]", "signals: [preview]", "signals: [pre", "never see it"),
        ("    harm: 4", "    terms: [fine, a*]\n    harm: 4", "terms: [fine", "at least 3 letters"),
        ("harm: 4", "harm: 4.5", "harm: 4.5", "a whole number"),
        ("harm: 4", "harm: 9", "harm: 9", "out of bounds"),
        ("actions: [limit, remove]", "actions: [vanish]", "actions: [vanish]", "vanish"),
        ("actions: [limit, remove]", "actions: [remove, limit]", "actions: [rem", "mildest"),
        ("actions: [limit, remove]", "actions: [approve]", "actions: [app", "restricts nothing"),
        ("advice: Replace", "advise: Replace", "advise: Replace", "Did you mean “advice”"),
        ("slug: purple-heart", "slug: red-star", "- slug: red-star\n    title: Pur", "twice"),
        ("slug: red-star", "slug: Red Star", "slug: Red Star", "no short name"),
        ("title: Demo policy", "title: 5", "title: 5", "Here belongs text"),
        ("title: Demo policy", "title: yes", "title: yes", "in quotes"),
        ("title: Demo policy", "title:", "title:", "this is nothing"),
        ("name: demo", "name: demo\nname: demo", "name: demo\nversion", "stands on line"),
        ("- some shapes", "- &shape some shapes\n  - *shape", "*shape", "has no aliases"),
        ("- some shapes", "- !!python/object:os.system x", "!!python", "not YAML"),
        ("- some shapes", f"- {LONG[:499]}", "- word word", "has 100 words"),
        ("- some shapes", f"- {LONG}", "- word word", "500 characters are the most"),
        ("STATEMENT_CATEGORY_VIOLENCE", "STATEMENT_CATEGORY_MAYHEM", "MAYHEM", "no category"),
        (
            "STATEMENT_CATEGORY_VIOLENCE",
            "STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE",
            "SCOPE_OF_PLATFORM",
            "successor STATEMENT_CATEGORY_OTHER_VIOLATION_TC",
        ),
        (
            "STATEMENT_CATEGORY_VIOLENCE",
            "STATEMENT_CATEGORY_NON_CONSENSUAL_BEHAVIOUR",
            "NON_CONSENSUAL_BEH",
            "nearest is STATEMENT_CATEGORY_CYBER_VIOLENCE",
        ),
        (
            "KEYWORD_INCITEMENT_VIOLENCE_HATRED",
            "KEYWORD_NON_CONSENSUAL_ITEMS_DEEPFAKE",
            "ITEMS_DEEPFAKE",
            "successor KEYWORD_NON_CONSENSUAL_MATERIAL_DEEPFAKE",
        ),
        (
            "KEYWORD_INCITEMENT_VIOLENCE_HATRED",
            "KEYWORD_HATE_SPEECH",
            "KEYWORD_HATE",
            "belongs to the category STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH",
        ),
        ("    harm: 4", "    appeal_days: 30\n    harm: 4", "appeal_days", "184 days"),
        ("    harm: 4", "    alpha: 1.5\n    harm: 4", "alpha", "out of bounds"),
        ("    harm: 4", "    deadline: soon\n    harm: 4", "deadline: soon", "no deadline “soon”"),
        ("    harm: 4", "    child_safety: true\n    harm: 4", "child_safety", "always severe"),
        ("    harm: 4", "    strikes: {vanish: 1}\n    harm: 4", "strikes", "no restriction"),
        ("    harm: 4", "    strikes: {remove: -1}\n    harm: 4", "strikes", "out of bounds"),
        ("      - A blue or yellow star.\n", "", "permitted:", "2 are the least"),
        ("prohibited: [a purple heart, ", "prohibited: [a purple heart, a purple heart, ",
         "a purple heart, a purple heart", "stands there twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(
    old: str, new: str, at: str, words: str, tmp_path: Path
) -> None:
    path = Path(_changed(tmp_path, old, new))
    line = _line(path.read_text(), at)
    with pytest.raises(CommandError) as refused:
        _run("check", str(path))
    assert f"policy.yaml:{line}: " in str(refused.value)
    assert words in str(refused.value)


def test_a_concept_without_contrast_prompts_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(DEMO.read_text())
    del content["rules"][0]["concepts"][0]["contrast"]
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CommandError, match="red-star.*no contrast prompts"):
        _run("check", str(path))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "[" * 500, "a: " * 2000])
def test_what_is_no_policy_at_all_is_refused_with_a_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(CommandError, match=r"policy.yaml:\d+: "):
        _run("check", str(path))


def test_all_mistakes_are_named_at_once_and_in_order(tmp_path: Path) -> None:
    text = DEMO.read_text().replace("harm: 4", "harm: 44").replace("title: Red", "titel: Red")
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(CommandError) as refused:
        _run("check", str(path))
    lines = [int(each.split(":")[1]) for each in str(refused.value).splitlines()]
    assert len(lines) == 2 + text.count("harm: 44")
    assert lines == sorted(lines)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["default.yaml", "demo.yaml"])
def test_what_is_exported_imports_to_the_same_digest(name: str, tmp_path: Path) -> None:
    _run("import", str(POLICY_DIR / name))
    stored = Policy.objects.get()
    assert policy_digest(policy_content(stored)) == stored.digest
    out = tmp_path / "exported.yaml"
    assert stored.digest in _run("export", "--out", str(out))
    assert policy_digest(policy_read(out).model_dump(mode="json")) == stored.digest
    out.write_text(_run("export", f"{stored.name}@{stored.version}"))
    assert "In force" in _run("import", str(out))
    assert _run("diff", "active", str(POLICY_DIR / name)) == "They say the same.\n"


@pytest.mark.django_db
def test_vectors_are_exported_beside_the_policy(tmp_path: Path) -> None:
    content = yaml.safe_load(DEMO.read_text())
    rule = content["rules"][0]
    rule["signals"] = ["previews"]
    values = [[0.1 * place for place in range(1, 41)], [0.3] * 40]
    made_for = {"encoder": "e", "revision": "1", "dim": 40, "names": ["one", "two"]}
    vectors = {**made_for, "values": values, "thresholds": [0.19, 0.21], "weights": [1.0, 2.0]}
    rule["concepts"].append({"slug": "as-vectors", "vectors": vectors})
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    assert "2 vectors" in _run("import", str(path))
    out = tmp_path / "exported.yaml"
    _run("export", "--out", str(out))
    assert (tmp_path / "exported.red-star.as-vectors.npz").exists()
    assert _run("diff", "active", str(out)) == "They say the same.\n"


@pytest.mark.django_db
def test_a_difference_is_said_in_words_and_as_data(tmp_path: Path) -> None:
    content = yaml.safe_load(DEMO.read_text())
    content["version"] = 2
    rule = content["rules"][0]
    rule["review"] = 0.4
    rule["concepts"][0]["prohibited"].remove("a scarlet star")
    rule["concepts"][0]["prohibited"].append("a crimson star")
    del content["rules"][1]
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    said = _run("diff", str(DEMO), str(path))
    assert "The policy: version changed from 1 to 2." in said
    assert "Rule “red-star”: review changed from 0.5 to 0.4." in said
    assert "concept “red-star”: prohibited removed: “a scarlet star”." in said
    assert "concept “red-star”: prohibited added: “a crimson star”." in said
    assert "Rule “purple-heart”: this rule was removed." in said
    assert "5 changes." in said
    report = json.loads(_run("diff", str(DEMO), str(path), "--json"))
    assert len(report["changes"]) == 5
    assert report["before"] != report["after"]


def test_an_unknown_policy_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="No policy “nothing@3” is stored"):
        _run("export", "nothing@3")
