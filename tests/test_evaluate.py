"""``manage.py evaluate``: labelled pictures in, figures out, and nothing left out in silence."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from django.core.management import CommandError, call_command
from PIL import Image

from moderation.policy import POLICY_DIR, policy_import, policy_read
from tests.test_rescreen import put_in_place
from triage.demo_encoder.scenes import compose, draw

STARS, HEARTS = "red-star", "purple-heart"


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Return a folder with red stars and green circles."""
    random = np.random.default_rng(7)
    folder = tmp_path / "collection"
    for label, kind in (("positive", ("red", "star")), ("negative", ("green", "circle"))):
        (folder / STARS / label).mkdir(parents=True)
        for number in range(12):
            picture = draw(compose([kind], random, background="white"), 128)
            picture.save(folder / STARS / label / f"{number}.png")
    return folder


def evaluate(data: Path, **options: Any) -> str:
    out = io.StringIO()
    call_command("evaluate", data=data, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def figures(data: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(evaluate(data, json=True, **options))
    return found


def test_a_folder_gives_a_line_of_figures_for_each_concept(collection: Path) -> None:
    (star,) = figures(collection)["concepts"]
    assert (star["concept"], star["positives"], star["negatives"]) == (STARS, 12, 12)
    assert star["area_under_roc"] > 0.9
    assert star["average_precision"] > 0.9
    assert star["recall_at_load"]["0.1"] <= 3 / 12
    assert sum(point["pictures"] for point in star["curve"]) == 24
    for name in ("review", "hold"):
        confusion = star[name]
        assert confusion["true_positives"] + confusion["false_negatives"] == 12
        assert confusion["false_positives"] + confusion["true_negatives"] == 12
    assert star["hold"]["true_positives"] <= star["review"]["true_positives"]
    assert star["review"]["true_positives"] > 8
    assert star["review"]["false_positives"] < 4


def test_the_table_says_what_the_json_says_and_ends_with_a_tally(collection: Path) -> None:
    (star,) = figures(collection)["concepts"]
    text = evaluate(collection)
    assert f"{star['average_precision']:.3f}" in text
    assert text.strip().endswith("0 files not used.")
    assert "demo encoder" in text


def test_what_cannot_be_used_is_listed_with_the_reason_and_counted(collection: Path) -> None:
    broken = collection / STARS / "positive" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (collection / STARS / "negative" / "notes.txt").write_text("not a picture")
    Image.new("RGB", (4000, 20)).save(collection / STARS / "negative" / "strip.png")
    (collection / "readme.txt").write_text("hello")
    (collection / STARS / "loose.png").write_bytes(b"")
    found = figures(collection)
    assert {Path(p["path"]).name: p["code"] for p in found["problems"]} == {
        "0.png": "picture.broken",
        "notes.txt": "picture.format",
        "strip.png": "picture.strip",
        "readme.txt": "evaluation.unlabelled",
        "loose.png": "evaluation.unlabelled",
    }
    assert found["pictures"] == 23
    text = evaluate(collection)
    assert "5 files not used" in text
    assert "notes.txt" in text


def test_a_concept_that_the_policy_does_not_know_is_an_error_with_a_suggestion(
    collection: Path,
) -> None:
    (collection / STARS).rename(collection / "red-stars")
    with pytest.raises(CommandError, match="Did you mean “red-star”"):
        evaluate(collection)


def test_a_folder_with_another_name_than_positive_or_negative_is_an_error(
    collection: Path,
) -> None:
    (collection / STARS / "positive").rename(collection / STARS / "positives")
    with pytest.raises(CommandError, match="neither “positive” nor “negative”"):
        evaluate(collection)


def test_a_csv_may_label_one_picture_for_several_concepts(collection: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "concept", "label"])
        for label in ("positive", "negative"):
            for number in range(5):
                path = f"collection/{STARS}/{label}/{number}.png"
                writer.writerow([path, STARS, label])
                writer.writerow([path, HEARTS, "0"])
        writer.writerow(["gone.png", STARS, "1"])
    found = figures(table)
    star, heart = found["concepts"]
    assert (star["positives"], star["negatives"]) == (5, 5)
    assert (heart["positives"], heart["negatives"]) == (0, 10)
    assert heart["area_under_roc"] is heart["average_precision"] is None
    assert found["pictures"] == 10
    assert [problem["code"] for problem in found["problems"]] == ["picture.missing"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,concept\na.png,red-star\n", "no column “label”"),
        ("path,concept,label\na.png,red-star,maybe\n", "“maybe” in line 2"),
        ("path,concept,label\na.png,blue-moon,1\n", "no concept “blue-moon” .line 2"),
        ("path,concept,label\n", "no labelled pictures"),
        ("", "no column “path”"),
    ],
)
def test_a_csv_that_does_not_fit_is_an_error_that_names_the_place(
    tmp_path: Path, content: str, said: str
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(content)
    with pytest.raises(CommandError, match=said):
        evaluate(table)


@pytest.mark.django_db(transaction=True)
def test_the_policy_in_force_is_measured_with_the_heads_in_place(collection: Path) -> None:
    with pytest.raises(CommandError, match="No policy is in force"):
        evaluate(collection, in_force=True)
    content = policy_read(POLICY_DIR / "demo.yaml")
    star_rule = content.rules[0].model_copy(update={"alpha": 0.05})
    content = content.model_copy(update={"rules": [star_rule, *content.rules[1:]]})
    policy_import(content=content, activate=True, actor=None)
    (plain,) = figures(collection, in_force=True)["concepts"]
    assert (plain["scored_by"], plain["review"]["threshold"]) == ("zero-shot", 0.5)
    head = put_in_place(odds=0.0, review=0.25)
    (star,) = figures(collection, in_force=True)["concepts"]
    assert (star["scored_by"], star["review"]["threshold"]) == (f"head {head.code}", 0.25)
    assert star["review"]["false_positives"] == 12, "the head says one half of everything"
    assert head.code in evaluate(collection, in_force=True)


def test_a_concept_that_several_rules_have_is_named_with_its_rule(
    collection: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load((POLICY_DIR / "demo.yaml").read_text())
    content["rules"].append({**content["rules"][0], "slug": "other", "review": 0.3})
    policy = tmp_path / "two.yaml"
    policy.write_text(json.dumps(content))  # which is YAML, without aliases
    with pytest.raises(CommandError, match="Several rules .* red-star/red-star or other/red-star"):
        evaluate(collection, policy=policy)
    table = tmp_path / "labels.csv"
    path = f"collection/{STARS}/positive/0.png"
    lines = ["path,concept,label", f"{path},other/{STARS},1", f"{path},red-star/{STARS},0"]
    table.write_text("\n".join(lines))
    first, other = figures(table, policy=policy)["concepts"]
    assert (first["concept"], first["positives"]) == (f"red-star/{STARS}", 0)
    assert (other["concept"], other["review"]["threshold"]) == (f"other/{STARS}", 0.3)


def test_labels_that_contradict_are_an_error_that_names_both(
    collection: Path, tmp_path: Path
) -> None:
    star = f"collection/{STARS}/positive/0.png"
    table = tmp_path / "labels.csv"
    lines = ["path,concept,label", f"{star},{STARS},1", f"{star},{HEARTS},0", f"{star},{STARS},1"]
    table.write_text("\n".join(lines))
    # Said twice alike it counts once.
    assert figures(table)["concepts"][0]["positives"] == 1
    table.write_text("\n".join([*lines, f"{star},{STARS},0"]))
    with pytest.raises(CommandError, match="Lines 2 and 5 of .* once said to show “red-star”"):
        evaluate(table)
    shutil.copy(tmp_path / star, collection / STARS / "negative" / "again.png")
    with pytest.raises(CommandError, match="again.png and .*0.png are the same picture"):
        evaluate(collection)


def test_a_csv_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(CommandError, match="cannot be read as CSV"):
        evaluate(table)


def test_a_folder_that_is_not_there_and_one_with_nothing_in_it_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no folder"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="no labelled pictures"):
        evaluate(tmp_path)


def test_if_no_picture_can_be_read_the_command_fails(tmp_path: Path) -> None:
    folder = tmp_path / STARS / "positive"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"nothing")
    with pytest.raises(CommandError, match="None of the pictures"):
        evaluate(tmp_path)


def test_an_encoder_or_policy_that_is_not_there_is_a_clear_error(
    collection: Path, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="encoder"):
        evaluate(collection, encoder="onnx:nowhere")
    with pytest.raises(CommandError, match=r"none\.yaml"):
        evaluate(collection, policy=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("library", "options"),
    [("sklearn.metrics", {}), ("matplotlib.figure", {"plot": Path("x.png")})],
)
def test_without_the_extra_the_command_names_it(
    library: str, options: dict[str, Any], collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CommandError, match="needs the extra “learning”"):
        evaluate(collection, **options)


def test_the_plot_is_a_png(collection: Path, tmp_path: Path) -> None:
    target = tmp_path / "curves.png"
    evaluate(collection, plot=target)
    with Image.open(target) as image:
        assert image.format == "PNG"
        assert image.width > 800
    with pytest.raises(CommandError, match="cannot be written"):
        evaluate(collection, plot=tmp_path / "no" / "folder.png")
