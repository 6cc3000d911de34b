"""The child process: it answers, or it is killed, and its parent goes on in any case."""

import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import sandboxed
from triage.demo_uploads import UPLOADS, weights_of
from triage.pictures import FORMATS
from triage.sandbox import MAX_ANSWER_BYTES, Limits, SandboxError, run

QUICK = Limits(seconds=1)


def code(*call: object, limits: Limits | None = None) -> str:
    function, *arguments = call
    with pytest.raises(SandboxError) as caught:
        run(function, *arguments, limits=limits)  # type: ignore[arg-type]
    assert caught.value.sentence.endswith(".") or caught.value.code == "sandbox.broke"
    return caught.value.code


def test_a_function_answers_with_what_it_returns() -> None:
    assert run(sandboxed.add, 2, 3) == 5
    value = {"text": "ü", "list": [1, 2.5, None, True], "nested": {"a": []}}
    assert run(sandboxed.echo, value) == value


def test_many_threads_can_run_children_at_the_same_time() -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = list(pool.map(lambda number: run(sandboxed.add, number, 1), range(12)))
    assert answers == list(range(1, 13))


@pytest.mark.parametrize("function", [sandboxed.spin, sandboxed.sleep_deaf])
def test_a_child_that_does_not_end_is_killed(function: object) -> None:
    assert code(function, limits=QUICK) == "sandbox.time"


def test_a_child_that_takes_too_much_memory_is_stopped_and_says_so() -> None:
    assert code(sandboxed.eat_memory) == "sandbox.memory"
    assert code(sandboxed.eat_memory_slowly, limits=Limits(memory_mb=128)) == "sandbox.memory"


def test_what_a_child_raises_is_said_and_not_raised() -> None:
    with pytest.raises(SandboxError, match="LookupError: the drawer is empty"):
        run(sandboxed.fail)
    assert code(sandboxed.recurse) == "sandbox.broke"
    assert code(sandboxed.answer_not_json) == "sandbox.broke"


@pytest.mark.parametrize("status", [0, 1, 77])
def test_a_child_that_leaves_without_an_answer_is_an_error(status: int) -> None:
    with pytest.raises(SandboxError, match=f"status {status}"):
        run(sandboxed.leave, status)


def test_a_child_that_crashes_is_an_error_that_names_the_signal() -> None:
    with pytest.raises(SandboxError, match=f"signal {signal.SIGSEGV.value}") as caught:
        run(sandboxed.crash)
    assert caught.value.code == "sandbox.died"


def test_what_a_library_prints_is_no_part_of_the_answer() -> None:
    assert run(sandboxed.print_noise) == "answer"


def test_an_answer_without_end_is_cut_off() -> None:
    assert code(sandboxed.answer_at_length, MAX_ANSWER_BYTES + 1) == "sandbox.answer"


def test_a_child_writes_no_files_unless_it_is_allowed_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert code(sandboxed.write_file, str(path), 10) == "sandbox.broke"
    assert not path.exists() or path.stat().st_size == 0
    one = Limits(file_mb=1)
    assert run(sandboxed.write_file, str(path), 1 << 20, limits=one) == 1 << 20
    assert code(sandboxed.write_file, str(path), (1 << 20) + 1, limits=one) == "sandbox.broke"


def test_a_child_opens_only_so_many_files() -> None:
    assert run(sandboxed.open_many, 20) == 20
    assert code(sandboxed.open_many, 100) == "sandbox.broke"


def test_a_child_sees_no_secret_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_KEY", "do not tell")
    assert "SECRET_KEY" not in run(sandboxed.environment)
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        # Its own answer and nothing of ours.
        assert len(run(sandboxed.file_descriptors)) <= 2


def test_a_child_reaches_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not _networks_can_be_left():
            pytest.skip("This system lets no ordinary process give up its network.")
        assert code(sandboxed.connect, port) == "sandbox.broke"


def _networks_can_be_left() -> bool:
    """Ask the system's own tool, as an ordinary user and as root."""
    tool = shutil.which("unshare")
    return tool is not None and any(
        subprocess.run([tool, *options, "true"], check=False, capture_output=True).returncode == 0
        for options in (["--net"], ["--user", "--net"])
    )


def test_what_a_child_starts_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    number = run(sandboxed.leave_a_child_behind, str(path), limits=Limits(file_mb=1))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _runs(number):
        time.sleep(0.02)
    assert not _runs(number)
    assert not path.exists()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _runs(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_function_that_cannot_be_imported_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError):
        run(lambda: 1)
    with pytest.raises(TypeError):
        run(sandboxed.echo, object())
    with pytest.raises(ValueError, match="path"):
        run(sandboxed.echo, "x" * 20_000)


def test_the_parent_leaves_no_child_and_no_pipe_behind() -> None:
    run(sandboxed.echo, 1)
    before, children = _open_files(), len(psutil.Process().children())
    for _ in range(3):
        run(sandboxed.echo, 1)
        code(sandboxed.fail)
        code(sandboxed.sleep, 5, limits=Limits(seconds=0.2))
    assert _open_files() <= before
    assert len(psutil.Process().children()) == children


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return a LoRA and a picture in each format that is taken, on disk."""
    paths = {"lora": tmp_path / "lora.safetensors", "copy": tmp_path / "copy"}
    paths["lora"].write_bytes(weights_of(UPLOADS[0])[1])
    for form in FORMATS:
        paths[form] = tmp_path / form
        Image.new("RGB", (64, 64), "red").save(paths[form], form)
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("triage.containers.check", "check_file", ("lora",)),
        ("triage.claims", "claims_data", ("lora",)),
        ("triage.text_parts", "text_parts_data", ("lora", 0)),
        ("triage.lineage", "describe", ("lora",)),
        *(("triage.picture_checks", "copy_pixels", (form, "copy", 32)) for form in FORMATS),
    ],
)
def test_what_a_reader_needs_is_there_before_it_is_called(
    module: str, function: str, arguments: tuple[object, ...], files: dict[str, str]
) -> None:
    """What a child imports is paid for by every file."""
    given = [files.get(str(argument), argument) for argument in arguments]
    assert run(sandboxed.imported_by, module, function, *given, limits=Limits(file_mb=1)) == []
