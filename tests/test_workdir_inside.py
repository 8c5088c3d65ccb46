"""Protection against links that lead out of the workdir."""

import os

import pytest

from emojax.errors import CheckpointError
from emojax.reporting.evaluate import evaluation_directory
from emojax.training.timing import Tracer
from emojax.workdir import check_inside


@pytest.fixture
def workdir(tmp_path):
    """A workdir that is itself reached through a link."""
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    return tmp_path / "runs" / "run"


def test_check_inside_follows_links_within_the_workdir(workdir):
    (workdir / "results").mkdir()
    (workdir / "evaluation").symlink_to("results")
    for path in (workdir, workdir / "absent" / "below", evaluation_directory(workdir), workdir / "evaluation" / "x"):
        check_inside(workdir, path)


@pytest.mark.parametrize("target", ["../../outside", "../../absent", "/", ".."])
@pytest.mark.parametrize(("link", "other"), [("evaluation", None), ("evaluation", "b"), ("evaluation/b", "b")])
def test_results_are_not_written_through_external_links(workdir, link, other, target):
    (workdir / link).parent.mkdir(exist_ok=True)
    (workdir / link).symlink_to(target if link == "evaluation" or target == "/" else f"../{target}")
    with pytest.raises(CheckpointError, match=r"must be inside the workdir, got a link to"):
        evaluation_directory(workdir, other)
    assert os.listdir(workdir.parents[1] / "outside") == []


def test_profile_folder_is_checked_only_when_profiling(workdir):
    (workdir / "profile").symlink_to("/")
    Tracer(workdir, 0, 0)
    with pytest.raises(CheckpointError, match=r"profile: must be inside the workdir, got a link to /$"):
        Tracer(workdir, 0, 1)
