"""Whoever looks at a log while it is written sees what reading it whole shows, and reads each line once."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from longjing.runs import JsonLines
from longjing.runs.following import RolloutIndex, Rows

ACTIONS = st.lists(st.sampled_from(["append", "part", "rewind", "delete"]), max_size=20)


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "problem": f"p{step % 3}", **more}


@given(ACTIONS)
def test_following_sees_what_reading_does(tmp_path_factory: Any, actions: list[str]) -> None:
    log = JsonLines(tmp_path_factory.mktemp("log") / "log.jsonl")
    rows, index, step = Rows(log.path), RolloutIndex(log.path), 0
    for number, action in enumerate(actions):
        if action == "append":
            log.rewind(step)  # as a run does that goes on: no further than a line that a kill cut off
            log.append(row(step, text="等等" * number, at=number))
            step += 1
        elif action == "part":
            log.rewind(step)
            with log.path.open("ab") as file:
                file.write(b'{"step": 99, "pro')
        elif action == "rewind":
            step = step // 2
            log.rewind(step - 1)
        else:
            step = 0
            log.path.unlink(missing_ok=True)
        before = list(rows.rows)
        changed = rows.refresh()
        index.refresh()
        assert rows.rows == log.rows() and (changed or rows.rows == before)
        entries = [entry for listed in index.steps.values() for entry in listed]
        assert [index.row(entry) for entry in entries] == log.rows()
    assert not rows.refresh() and not index.refresh()


def test_a_rewound_log_that_grew_again_between_two_looks_is_read_again(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    for step in range(6):
        log.append(row(step, seconds=1.5))
    rows = Rows(log.path)
    rows.refresh()
    log.rewind(2)
    for step in range(3, 9):
        log.append(row(step, seconds=2.5))  # as long as before
    assert rows.refresh() and rows.rows == log.rows()


def test_what_is_no_json_is_passed_over_and_a_stale_entry_is_none(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'\0\0\0\n[1]\n{"problem": "a", "step": 4}\n{"step": 5, "problem": "b"}\n')
    rows, index = Rows(path), RolloutIndex(path)
    rows.refresh()
    index.refresh()
    assert [each["step"] for each in rows.rows] == [4, 5] == list(index.steps)
    (entry,) = index.steps[5]
    path.write_bytes(b"short\n")
    assert index.row(entry) is None
    path.unlink()
    assert index.row(entry) is None


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    for step in range(50):
        log.append(row(step))
    index, taken = RolloutIndex(log.path), []
    index.refresh()
    take = index._take
    monkeypatch.setattr(index, "_take", lambda start, line: (taken.append(start), take(start, line)))
    index.refresh()
    assert taken == []
    log.append(row(50))
    index.refresh()
    assert len(taken) == 1 and list(index.steps) == list(range(51))
