"""The child process: it answers, or it is killed, and its parent goes on in any case."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import sandboxed
from triage import sandbox
from triage.demo_uploads import UPLOADS, weights_of
from triage.pictures import FORMATS
from triage.sandbox import MAX_ANSWER_BYTES, Limits, SandboxError, run
from triage.sandbox_linux import landlock_version

# Asked of the kernel by the test itself (linux/landlock.h: create_ruleset with the flag for its
# version), so that code which no longer finds Landlock fails here instead of being skipped.
LANDLOCK = (
    max(0, ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))
    if sys.platform == "linux"
    else 0
)
QUICK = Limits(seconds=1)
PATIENT = Limits(seconds=60)


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


def test_calls_run_side_by_side(tmp_path: Path) -> None:
    """The first to be called ends only when the last has been."""
    path = tmp_path / "file"
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(run, sandboxed.wait_for, str(path)) for _ in range(3)]
        run(sandboxed.write_file, str(path), 1, limits=Limits(file_mb=1))
        assert [each.result() for each in waiting] == ["seen"] * 3


def test_a_child_that_is_late_delays_and_harms_no_other() -> None:
    with ThreadPoolExecutor() as pool:
        longer = pool.submit(run, sandboxed.sleep, 3, limits=PATIENT)
        late = [pool.submit(code, sandboxed.spin, limits=QUICK) for _ in range(2)]
        answers = [run(sandboxed.add, number, 1, limits=PATIENT) for number in range(5)]
        assert answers == [1, 2, 3, 4, 5]
        assert [each.result() for each in late] == ["sandbox.time"] * 2
        assert longer.result() is None


@pytest.mark.parametrize("function", [sandboxed.spin, sandboxed.sleep_deaf])
def test_a_child_that_does_not_end_is_killed(function: object) -> None:
    assert code(function, limits=QUICK) == "sandbox.time"


def test_a_child_that_takes_too_much_memory_is_stopped_and_says_so() -> None:
    assert code(sandboxed.eat_memory) == "sandbox.memory"
    assert code(sandboxed.eat_memory_slowly, limits=Limits(memory_mb=128)) == "sandbox.memory"


def test_the_limit_of_memory_counts_all_that_a_child_has(tmp_path: Path) -> None:
    """Also where it has more already: then what it has stays, and it gets no more."""
    assert run(sandboxed.allocate, 300) == 300
    assert code(sandboxed.allocate, 300, limits=Limits(memory_mb=300)) == "sandbox.memory"
    assert code(sandboxed.allocate, 30, limits=Limits(memory_mb=1)) == "sandbox.memory"


def test_any_error_for_want_of_memory_says_so() -> None:
    assert code(sandboxed.map_memory, 600) == "sandbox.memory"
    assert code(sandboxed.fail_with_memory_full) == "sandbox.memory"


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


def in_another_process(program: str, **more: str) -> str:
    """Run a program that has a fork server of its own; return what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more},
        close_fds=False,
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout


def test_a_child_sees_no_secret_of_its_parent(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        told = in_another_process(
            "from tests import sandboxed; from triage.sandbox import run;"
            "print(run(sandboxed.environment), run(sandboxed.open_descriptors))",
            SECRET_KEY="do not tell",
        )
    assert "PATH" in told
    assert "SECRET_KEY" not in told
    assert str(tmp_path) not in told


def test_a_child_has_nothing_open_but_the_way_of_its_answer() -> None:
    with ThreadPoolExecutor() as pool:
        # With other calls at work, whose sockets are open in the fork server.
        others = [pool.submit(run, sandboxed.sleep, 1) for _ in range(3)]
        nowhere = dict.fromkeys(("0", "1", "2"), "/dev/null")
        assert run(sandboxed.open_descriptors) == {**nowhere, "3": "socket"}
        assert run(sandboxed.leads_its_group_and_session)
        assert not any(other.result() for other in others)


def test_what_the_kernel_offers_is_found() -> None:
    assert landlock_version() == LANDLOCK


def test_a_child_looks_into_no_other_process() -> None:
    if os.geteuid() == 0 and not LANDLOCK:
        pytest.skip("Nothing keeps root from it on this system.")
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run, sandboxed.sleep, 1)
        assert run(sandboxed.memory_of_others) == []
        other.result()


def test_a_child_starts_no_program_and_changes_no_file(tmp_path: Path) -> None:
    if not LANDLOCK:
        pytest.skip("This system has no Landlock.")
    path = tmp_path / "file"
    path.write_text("a stranger's")
    assert code(sandboxed.start_a_program) == "sandbox.broke"
    assert code(sandboxed.remove, str(path)) == "sandbox.broke"
    assert code(sandboxed.write_file, str(path), 0) == "sandbox.broke"
    assert path.read_text() == "a stranger's"


def test_relative_paths_are_those_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("four")
    run(sandboxed.echo, "The fork server is somewhere already.")
    monkeypatch.chdir(tmp_path)
    assert run(sandboxed.size, "file") == 4


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
    _ends(number)
    assert not path.exists()


def test_what_leaves_the_group_of_a_child_ends_with_it_too() -> None:
    _ends(run(sandboxed.leave_the_group))


def test_a_child_that_closes_or_fills_every_descriptor_harms_no_other_call() -> None:
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run, sandboxed.sleep, 1)
        assert code(sandboxed.close_everything) == "sandbox.died"
        assert code(sandboxed.write_everywhere, "no answer\n") == "sandbox.answer"
        assert run(sandboxed.echo, "heard") == "heard"
        assert other.result() is None


def _told(path: Path) -> tuple[int, int]:
    """Wait for a child to say who it and the fork server are."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child, server = path.read_text().split()
    return int(child), int(server)


def _ends(number: int) -> None:
    """Wait for a process to end."""
    deadline = time.monotonic() + 5
    while _runs(number):
        assert time.monotonic() < deadline
        time.sleep(0.02)


WRITING = Limits(seconds=60, file_mb=1)


def test_where_the_fork_server_dies_calls_fail_and_the_next_starts_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor() as pool:
        call = pool.submit(code, sandboxed.say_who, str(path), limits=WRITING)
        child, server = _told(path)
        os.kill(server, signal.SIGKILL)
        assert call.result() == "sandbox.start"
    _ends(child)
    another = run(os.getppid)
    assert another != server
    os.kill(another, signal.SIGKILL)
    _ends(another)
    # Found out before the call, which loses nothing by it.
    assert run(sandboxed.add, 1, 1) == 2


def test_a_fork_server_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    server = run(os.getppid)
    os.kill(server, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "_GRACE_SECONDS", 0.5)
        assert code(sandboxed.add, 1, 1, limits=QUICK) == "sandbox.start"
    assert run(sandboxed.add, 1, 1) == 2
    assert not _runs(server)


def test_a_child_that_would_end_the_fork_server_fails_alone() -> None:
    if LANDLOCK < 6:
        pytest.skip("This system lets a process send signals to others of its user.")
    server = run(os.getppid)
    assert code(sandboxed.kill_the_server) == "sandbox.broke"
    assert run(os.getppid) == server


def test_a_fork_server_stays_when_the_house_is_told_to_end() -> None:
    """Workers finish what they can first."""
    server = run(os.getppid)
    for polite in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(server, polite)
    assert run(os.getppid) == server


def test_the_death_of_the_parent_ends_the_fork_server_and_its_children(tmp_path: Path) -> None:
    path = tmp_path / "file"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from tests import sandboxed; from triage.sandbox import Limits, run;"
            "run(sandboxed.say_who, sys.argv[1], limits=Limits(seconds=60, file_mb=1))",
            str(path),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    child, server = _told(path)
    parent.kill()
    parent.wait()
    _ends(child)
    _ends(server)


def test_a_process_that_was_forked_starts_a_fork_server_of_its_own() -> None:
    """And leaves that of its parent as it is."""
    told = in_another_process(
        "import multiprocessing, os; from triage.sandbox import run;"
        "first = run(os.getppid);"
        "pool = multiprocessing.get_context('fork').Pool(1);"
        "inside = pool.apply(run, [os.getppid]);"
        "pool.close(); pool.join();"
        "print(first, inside, run(os.getppid))"
    )
    before, inside, after = map(int, told.split())
    assert before == after != inside
    _ends(inside)


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
