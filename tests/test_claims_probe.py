"""The claims probe: what a page and its files say, held against the rules, with its evidence."""

import base64
import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from triage.claims import MAX_CLAIMS, Claims, DatasetFolder, parse_claims, read_claims
from triage.containers.errors import ContainerError
from triage.probes.claims import (
    COMBINATION,
    LIKENESS_OF_A_PERSON,
    LONE_TERM,
    MENTION,
    ClaimsProbe,
)
from triage.sample import (
    Consent,
    Finding,
    Outcome,
    Person,
    Policy,
    Preview,
    Rule,
    Sample,
    TermCondition,
    TermGroup,
    WeightFile,
)

DATA = Path(os.environ.get("WEIGHHOUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="The folder of real files is absent; set WEIGHHOUSE_TEST_DATA."
)

TODAY = date(2026, 11, 22)
CHILD = TermGroup("a child", ("child", "kid", "1..17 year* old"))
SEXUAL = TermGroup("sexual", ("nude", "naked", "nsfw"))
PERSON = TermGroup("a listed person", ("{person}",))
NEAR = Rule(
    "children",
    "Children",
    0.5,
    0.75,
    signals=("claims",),
    conditions=(TermCondition((CHILD, SEXUAL), within=3),),
)
ANYWHERE = Rule(
    "children",
    "Children",
    0.5,
    0.75,
    signals=("claims",),
    conditions=(TermCondition((CHILD, SEXUAL)),),
)
GORE = Rule("gore", "Gore", 0.5, 0.9, signals=("claims",), terms=("gore", "entrails"))
LIKENESS = Rule("likeness", "Real people", 0.5, 0.85, signals=("claims.likeness",))
EMMA = Person("Emma Example", aliases=("Emex",))


def sample(*rules: Rule, people: tuple[Person, ...] = (), **page: Any) -> Sample:
    return Sample("v1", Policy("test", 1, rules), people=people, **page)


def weights(
    folder: Path, metadata: Mapping[str, object], name: str = "lora.safetensors"
) -> WeightFile:
    """Write a file with this metadata; values that are not text become JSON."""
    path = folder / "stored"
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    save_file({"weight": np.zeros(2, np.float32)}, path, metadata=texts)
    return WeightFile("f1", name, path, path.stat().st_size, "0" * 64)


def examine(given: Sample) -> list[Finding]:
    # In this process, for speed; the child process has tests of its own below.
    return list(ClaimsProbe(read=parse_claims, today=lambda: TODAY).examine(given))


def shown(found: Finding) -> dict[str, Any]:
    return dict(found.evidence)


def about(findings: list[Finding], key: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject.key == key]
    return found


def test_a_lone_term_on_the_page_is_scored_and_quoted() -> None:
    (found,) = examine(sample(GORE, title="Horror pack", description="Lots of G0RE and fog"))
    assert (found.outcome, found.score, found.rule) == (Outcome.SCORED, LONE_TERM, "gore")
    assert shown(found)["matches"] == [
        {
            "field": "description",
            "excerpt": "Lots of G0RE and fog",
            "term": "gore",
            "count": 1,
            "denied": False,
        }
    ]
    assert (found.review, found.hold) == (0.5, 0.9)
    assert "description" in found.reason
    assert "G0RE" in found.reason


@pytest.mark.parametrize(
    "page",
    [
        {"title": "gore"},
        {"description": "gore"},
        {"tags": ("gore",)},
        {"trigger_words": ("gore",)},
        {"previews": (Preview("p1", "a.png", Path("a.png"), "0" * 64, prompt="gore"),)},
    ],
    ids=lambda page: next(iter(page)),
)
def test_every_text_of_the_page_is_read(page: dict[str, Any]) -> None:
    (found,) = examine(sample(GORE, **page))
    assert found.score == LONE_TERM


def test_where_nothing_matched_the_score_is_zero_and_says_in_how_many_texts() -> None:
    (found,) = examine(sample(GORE, title="Castles", tags=("stone", "sky")))
    assert found.score == 0.0
    assert found.code == "claims.nothing"
    assert found.reason == "Nothing matched in 4 texts."


def test_terms_of_a_condition_near_one_another_weigh_more_than_one_alone() -> None:
    (found,) = examine(sample(NEAR, description="an 8 year old, nude"))
    assert found.score == COMBINATION
    assert found.code == "claims.combination"
    (met,) = shown(found)["combinations"]
    assert [group["term"] for group in met["groups"]] == ["1..17 year* old", "nude"]


def test_terms_of_a_condition_far_apart_do_not_count() -> None:
    (found,) = examine(sample(NEAR, description=f"child {'word ' * 30} nude"))
    assert found.score == 0.0


def test_terms_of_a_near_condition_in_different_texts_do_not_count() -> None:
    (found,) = examine(sample(NEAR, title="child", description="nude"))
    assert found.score == 0.0


def test_a_condition_without_distance_is_met_across_page_and_file(tmp_path: Path) -> None:
    file = weights(tmp_path, {"ss_tag_frequency": {"10_x": {"nude": 40}}})
    findings = examine(sample(ANYWHERE, title="A child", files=(file,)))
    assert about(findings, "v1").score == COMBINATION
    assert about(findings, "f1").score == 0.0


def test_training_tags_are_matched_with_their_counts(tmp_path: Path) -> None:
    tags = {"10_horror": {"Gore": 30, "fog": 99}, "5_more": {"gore": 12}}
    findings = examine(sample(GORE, files=(weights(tmp_path, {"ss_tag_frequency": tags}),)))
    found = about(findings, "f1")
    assert found.score == LONE_TERM
    matches = shown(found)["matches"]
    assert [(match["count"], match["excerpt"]) for match in matches] == [
        (30, "Gore"),
        (12, "gore"),
    ]
    assert "10_horror" in matches[0]["field"]


def test_a_file_without_metadata_is_noted_and_not_called_innocent(tmp_path: Path) -> None:
    findings = examine(sample(GORE, files=(weights(tmp_path, {}),)))
    found = about(findings, "f1")
    assert found.score == 0.0
    assert "neither for nor against" in " ".join(shown(found)["notes"])


def test_metadata_that_looks_innocent_lowers_nothing(tmp_path: Path) -> None:
    innocent = weights(tmp_path, {"ss_tag_frequency": {"10_castle": {"castle": 400}}})
    with_file = examine(sample(GORE, title="gore", files=(innocent,)))
    assert about(with_file, "v1").score == LONE_TERM


def test_a_denial_is_shown_and_stays_below_a_lone_term() -> None:
    (found,) = examine(sample(GORE, description="No gore in here."))
    assert found.score == MENTION
    assert found.code == "claims.denied"


@pytest.mark.parametrize("rule", [NEAR, ANYWHERE], ids=["near", "anywhere"])
@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("no nude, no child", 0.0),
        ("no child nude", COMBINATION),
        ("zero kid, never nude; but later a child nude", COMBINATION),
    ],
)
def test_a_condition_falls_only_where_all_of_it_is_denied(
    rule: Rule, text: str, score: float
) -> None:
    (found,) = examine(sample(rule, description=text))
    assert found.score == score


def test_denials_do_not_crowd_out_what_is_said_plainly(tmp_path: Path) -> None:
    folders = {f"10_{n}": {"no gore": 1} for n in range(100)} | {"10_z": {"gore": 1}}
    findings = examine(sample(GORE, files=(weights(tmp_path, {"ss_tag_frequency": folders}),)))
    assert about(findings, "f1").score == LONE_TERM


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_output_name": "emma_example_v2"},
        {"ss_output_name": "emmaexample"},
        {"ss_dataset_dirs": {"10_emma example woman": {"n_repeats": 10, "img_count": 25}}},
        {"ss_tag_frequency": {"10_emex": {"smile": 3}}},
        {"ss_datasets": [{"tag_frequency": {"x": {"emma example": 25}}}]},
        {"ss_datasets": [{"subsets": [{"image_dir": "/data/10_emex", "class_tokens": "woman"}]}]},
        {"ss_datasets": [{"subsets": [{"image_dir": "a", "class_tokens": "emma example"}]}]},
        {"modelspec.trigger_phrase": "3mm4 3x4mpl3"},
        {"ss_training_comment": "Emma Example, a famous actress"},
    ],
    ids=lambda metadata: next(iter(metadata)),
)
def test_a_file_named_after_a_listed_person_is_a_likeness(
    tmp_path: Path, metadata: dict[str, object]
) -> None:
    findings = examine(sample(LIKENESS, people=(EMMA,), files=(weights(tmp_path, metadata),)))
    found = about(findings, "f1")
    assert found.score == LIKENESS_OF_A_PERSON
    assert found.code == "claims.likeness"
    assert "Emma Example" in found.reason


@pytest.mark.parametrize(
    "page",
    [
        {"title": "Emma Example LoRA"},
        {"trigger_words": ("emma_example",)},
        {"tags": ("celebrity", "emma example")},
        {"description": "a photo of emma example, woman, smiling"},
        {"description": "the actress known as Emma Example"},
    ],
    ids=["title", "trigger word", "tag", "class behind", "class before"],
)
def test_a_page_named_after_a_listed_person_is_a_likeness(page: dict[str, Any]) -> None:
    (found,) = examine(sample(LIKENESS, people=(EMMA,), **page))
    assert found.score == LIKENESS_OF_A_PERSON


def test_a_regularisation_folder_names_no_subject(tmp_path: Path) -> None:
    metadata = {"ss_reg_dataset_dirs": {"1_emma example": {"n_repeats": 1, "img_count": 200}}}
    findings = examine(sample(LIKENESS, people=(EMMA,), files=(weights(tmp_path, metadata),)))
    assert about(findings, "f1").score == MENTION


@pytest.mark.parametrize(
    ("consent", "score"),
    [
        (Consent("cara", ("likeness",)), 0.0),
        (Consent("cara", ("likeness",), until=TODAY), 0.0),
        (Consent("cara", ("likeness",), until=date(2026, 11, 21)), LIKENESS_OF_A_PERSON),
        (Consent("cara", ("likeness",), withdrawn=True), LIKENESS_OF_A_PERSON),
        (Consent("cara", ("advertising",)), LIKENESS_OF_A_PERSON),
    ],
    ids=["open-ended", "last day", "expired", "withdrawn", "for another rule"],
)
def test_only_a_consent_that_holds_lifts_the_rule(consent: Consent, score: float) -> None:
    emma = Person("Emma Example", consents=(consent,))
    (found,) = examine(sample(LIKENESS, people=(emma,), title="Emma Example"))
    assert found.score == score
    (person,) = shown(found)["people"]
    assert person["consent_holds"] is (score == 0.0)


def test_a_person_near_a_sexual_word_is_a_condition_like_any_other() -> None:
    rule = Rule(
        "deepfakes",
        "Sexual deepfakes",
        0.5,
        0.75,
        signals=("claims",),
        conditions=(TermCondition((PERSON, SEXUAL), within=3),),
    )
    (found,) = examine(sample(rule, people=(EMMA,), description="emma example naked"))
    assert found.score == COMBINATION
    willing = Person("Emma Example", consents=(Consent("cara", ("deepfakes",)),))
    (found,) = examine(sample(rule, people=(willing,), description="emma example naked"))
    assert found.score == 0.0


def test_an_empty_people_list_abstains_and_says_so() -> None:
    (found,) = examine(sample(LIKENESS, title="Emma Example"))
    assert found.outcome is Outcome.ABSTAINED
    assert found.code == "claims.no_people"


def test_a_rule_without_terms_abstains_and_says_so() -> None:
    (found,) = examine(sample(Rule("empty", "Empty", 0.5, 0.9, signals=("claims",))))
    assert found.outcome is Outcome.ABSTAINED


def test_a_policy_without_such_rules_abstains_once() -> None:
    (found,) = examine(sample(Rule("r", "R", 0.5, 0.9, signals=("previews",))))
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "claims.no_rules")


def test_a_rule_with_a_badly_written_term_fails_and_the_others_are_judged() -> None:
    broken = Rule("broken", "Broken", 0.5, 0.9, signals=("claims",), terms=("a*",))
    findings = {finding.rule: finding for finding in examine(sample(broken, GORE, title="gore"))}
    assert findings["broken"].outcome is Outcome.FAILED
    assert "a*" in findings["broken"].reason
    assert findings["gore"].score == LONE_TERM


def test_a_file_that_cannot_be_read_fails_and_the_page_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"no weights at all")
    file = WeightFile("f1", "x.safetensors", path, 17, "0" * 64)
    findings = examine(sample(GORE, title="gore", files=(file,)))
    assert about(findings, "f1").outcome is Outcome.FAILED
    assert about(findings, "f1").score is None
    assert about(findings, "v1").score == LONE_TERM


def test_hostile_metadata_leaves_evidence_that_can_be_stored(tmp_path: Path) -> None:
    folder = "10_\x00gore\ud800"
    metadata = {
        "ss_tag_frequency": json.dumps({folder: {"gore\u202e\x00": -5, "x" * 900_000: 1}}),
        "ss_datasets": "[" * 100_000,
        "ss_network_args": '{"deep": ["\\u0067ore"]}',
        "modelspec.thumbnail": "data:image/png;base64,!!!",
    }
    findings = examine(sample(GORE, files=(weights(tmp_path, metadata),)))
    found = about(findings, "f1")
    assert found.score == LONE_TERM
    stored = json.dumps(found.evidence, ensure_ascii=False)
    stored.encode()
    assert "\\u0000" not in stored
    assert len(stored) < 20_000
    assert len(shown(found)["notes"]) == 2
    fields = [match["field"] for match in shown(found)["matches"]]
    assert "metadata (ss_network_args)" in fields


def test_repeated_keys_in_the_metadata_hide_nothing(tmp_path: Path) -> None:
    twice = '{"10_x": {"gore": 7}, "10_x": {"castle": 1}}'
    findings = examine(sample(GORE, files=(weights(tmp_path, {"ss_tag_frequency": twice}),)))
    assert about(findings, "f1").score == LONE_TERM


def test_more_texts_than_are_read_are_a_failed_look(tmp_path: Path) -> None:
    # One value may hold 1 MB, so the texts come in three.
    texts = {f"list{n}": [f"{n}{i:x}g" for i in range(MAX_CLAIMS // 3 + 1)] for n in range(3)}
    claims = parse_claims(weights(tmp_path, texts).path)
    assert not claims.complete
    file = WeightFile("f1", "x", Path("x"), 0, "0" * 64)
    cut = Claims(claims.texts[:10], notes=claims.notes, complete=claims.complete)
    findings = list(ClaimsProbe(read=lambda _: cut).examine(sample(GORE, files=(file,))))
    failed = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    assert [(finding.code, finding.subject.key) for finding in failed] == [
        ("claims.too_many", "f1")
    ]


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    for padding in range(256):
        file = weights(tmp_path, {"note": "x" * padding, "ss_output_name": "gore"})
        if file.path.read_bytes()[0] == 0x80:
            break
    assert file.path.read_bytes()[0] == 0x80
    assert about(examine(sample(GORE, files=(file,))), "f1").score == LONE_TERM


def test_files_are_read_in_the_sandbox_unless_told_otherwise(tmp_path: Path) -> None:
    file = weights(tmp_path, {"ss_output_name": "gore", "ss_datasets": "{broken"})
    findings = list(ClaimsProbe().examine(sample(GORE, files=(file,))))
    assert about(findings, "f1").score == LONE_TERM
    missing = WeightFile("f2", "gone", tmp_path / "gone", 0, "0" * 64)
    findings = list(ClaimsProbe().examine(sample(GORE, files=(missing,))))
    assert about(findings, "f2").outcome is Outcome.FAILED


def test_the_folders_and_facts_of_the_training_are_shown(tmp_path: Path) -> None:
    file = weights(
        tmp_path,
        {
            "ss_dataset_dirs": {"10_castle": {"n_repeats": 10, "img_count": 25}},
            "ss_base_model_version": "sd_v1",
            "sshs_model_hash": "ab12" * 16,
            "modelspec.merged_from": "a, b",
        },
    )
    claims = parse_claims(file.path)
    assert claims.folders == (DatasetFolder("10_castle", 10, 25),)
    found = about(examine(sample(GORE, files=(file,))), "f1")
    assert shown(found)["facts"] == {
        "modelspec.merged_from": "a, b",
        "ss_base_model_version": "sd_v1",
        "sshs_model_hash": "ab12" * 16,
    }
    assert shown(found)["folders"] == [
        {"name": "10_castle", "repeats": 10, "images": 25, "regularisation": False}
    ]


def test_the_thumbnail_is_handed_out_as_bytes(tmp_path: Path) -> None:
    picture = b"\x89PNG not really"
    encoded = base64.b64encode(picture).decode()
    file = weights(tmp_path, {"modelspec.thumbnail": f"data:image/png;base64,{encoded}"})
    assert read_claims(file.path).thumbnail == picture


@needs_data
@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("embeddings/bad-hands-5.pt", {"bad-hands-5", "blossom-extract"}),
        ("embeddings/learned_embeds_fastai.bin", {"<birb-style>"}),
        ("embeddings/EasyNegative.pt", set()),
        ("loras/lora_disney.safetensors", {"<s1>", "<s2>"}),
        ("loras/catundchat.bin", set()),
    ],
)
def test_real_files_say_what_they_say(name: str, texts: set[str]) -> None:
    assert texts <= {claim.text for claim in parse_claims(DATA / name).texts}


@needs_data
def test_the_sandbox_gives_the_same_answer_as_the_parser() -> None:
    path = DATA / "embeddings" / "negative_hand-neg.pt"
    assert read_claims(path) == parse_claims(path)


@needs_data
def test_no_hostile_pickle_is_read_as_claims() -> None:
    for path in sorted((DATA / "pickles").glob("malicious*")):
        with pytest.raises(ContainerError):
            parse_claims(path)
