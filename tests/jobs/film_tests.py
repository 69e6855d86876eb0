"""The unit tests of the film's developer, without server or store."""

from pathlib import Path

import pytest
from film import Transcode, transcode

from tornado_rt.testing import run_task
from tornado_rt.work import TaskError


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mov"
    path.write_text("2\nFRAME 1\nFRAME 2\n")
    return path


def test_each_frame_is_written(film: Path) -> None:
    task = run_task(transcode, {"path": str(film), "preset": "720p"})
    assert task.result == {"path": str(film.with_suffix(".720p")), "frames": 2}
    assert film.with_suffix(".720p").read_text() == "frame 1\nframe 2\n"


def test_progress_is_told(film: Path) -> None:
    task = run_task(transcode, {"path": str(film)})
    told = [(report["progress"], report["message"]) for report in task.reports]
    assert (50.0, "1 of 2 frames") in told
    assert (95.0, "2 of 2 frames") in told
    assert told[-1] == (100.0, "Done")
    assert task.notifications == [
        {
            "title": "Your film is ready",
            "content": str(film.with_suffix(".1080p")),
            "severity": "success",
        }
    ]


def test_film_is_probed_once(film: Path) -> None:
    assert run_task(transcode, {"path": str(film)}).kept == {"probe": 2}
    film.write_text("unreadable\nFRAME 1\n")
    again = run_task(transcode, Transcode(str(film)), attempt=2, kept={"probe": 1})
    assert again.result["frames"] == 1


def test_what_is_no_film_fails_for_good(tmp_path: Path) -> None:
    task = run_task(transcode, {"path": str(tmp_path / "none")})
    with pytest.raises(TaskError, match="is not a film"):
        _ = task.result


def test_wrong_preset_is_refused_as_the_server_does() -> None:
    with pytest.raises(ValueError, match=r"params\.preset must be one of 720p, 1080p"):
        run_task(transcode, {"path": "a.mov", "preset": "4k"})
