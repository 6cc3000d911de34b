"""The commands for strangers: scan files and compare weights, without a database."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests import factories

HOSTILE = ("malicious", "bad_", "broken_", "unsafe_", "not_a_pickle")


def _scan(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    out, status = io.StringIO(), 0
    try:
        call_command("scan", *map(str, arguments), "--json", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        status = int(end.code or 0)
    return status, json.loads(out.getvalue())


def _compare(*arguments: object) -> dict[str, Any]:
    out = io.StringIO()
    call_command("compare", *map(str, arguments), "--json", stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def _lora(path: Path, seed: int) -> Path:
    """Write a small LoRA of rank 4."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for block in range(3):
        key = f"lora_unet_down_blocks_{block}_attentions_0_attn2_to_k"
        tensors[f"{key}.lora_down.weight"] = random.normal(size=(4, 768))
        tensors[f"{key}.lora_up.weight"] = random.normal(size=(320, 4))
    path.write_bytes(factories.safetensors_bytes(tensors))
    return path


def test_every_hostile_file_is_for_a_person_or_blocked_and_real_weights_are_clean(
    shared_data: Path,
) -> None:
    status, results = _scan(*(shared_data / name for name in ("pickles", "loras", "embeddings")))
    assert status == 1
    assert len(results) > 50
    for result in results:
        path = Path(result["path"])
        hostile = path.name.startswith(HOSTILE) or "sploit" in path.name or "bypass" in path.name
        if hostile:
            assert result["verdict"] in {"review", "block"}, path.name
            assert result["findings"], path.name
        elif path.parent.name != "pickles":
            assert result["verdict"] == "clean", (path.name, result["findings"])


def test_a_sound_file_is_clean_and_says_what_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(factories.safetensors_bytes())
    status, [result] = _scan(path)
    assert status == 0
    assert (result["verdict"], result["format"], result["findings"]) == ("clean", "safetensors", [])
    assert {"container", "claims"} <= {finding["probe"] for finding in result["nothing_found"]}


def test_a_preview_above_the_threshold_blocks_the_file(tmp_path: Path) -> None:
    from tests.test_flow import drawing

    path = tmp_path / "weights.safetensors"
    path.write_bytes(factories.safetensors_bytes())
    previews = tmp_path / "previews"
    previews.mkdir()
    (previews / "one.png").write_bytes(drawing(("red", "star"), ("red", "star")).read())
    status, [result] = _scan(path, "--previews", previews)
    assert status == 1
    assert result["verdict"] == "block"
    assert "red-star" in {finding["rule"] for finding in result["findings"]}


def test_a_preview_that_is_no_picture_is_status_two_and_the_file_is_still_scanned(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(factories.safetensors_bytes())
    previews = tmp_path / "previews"
    previews.mkdir()
    (previews / "one.png").write_bytes(b"no picture")
    status, [result] = _scan(path, "--previews", previews)
    assert status == 2
    assert result["verdict"] == "clean"


def test_a_path_that_cannot_be_read_is_status_two_and_the_others_are_still_scanned(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(factories.safetensors_bytes())
    status, results = _scan(tmp_path / "absent", path)
    assert status == 2
    assert [result["verdict"] for result in results] == ["clean"]


def test_two_files_are_compared_by_what_they_change(tmp_path: Path) -> None:
    one, other = _lora(tmp_path / "a.safetensors", 1), _lora(tmp_path / "b.safetensors", 2)
    same = _compare(one, one)
    assert same["relation"] == "same"
    assert same["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert _compare(one, other)["relation"] == "unrelated"


def test_real_loras_are_recognised_under_other_key_names(shared_data: Path) -> None:
    folder = shared_data / "loras"
    new, old = folder / "timohavdk_new.safetensors", folder / "timohavdk_2100-lora.safetensors"
    answer = _compare(new, old)
    assert answer["relation"] == "same"
    assert answer["cosine"] >= 0.9999
    explained = _compare(new, "--parts", old, folder / "catundchat.safetensors")
    assert explained["coefficients"] == pytest.approx([1.0, 0.0], abs=0.001)
    assert explained["unexplained"] < 0.001


def test_a_file_that_cannot_be_compared_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("no weights")
    with pytest.raises(CommandError):
        _compare(path, path)
    with pytest.raises(CommandError, match="either"):
        call_command("compare", str(path))
