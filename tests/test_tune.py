"""The search: the preset first, the same draws after a kill, poor trials given up."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from pointsense.datasets import Dataset, Sample, load_dataset
from pointsense.errors import DataError, UsageError
from pointsense.experiments import tune as module
from pointsense.experiments.tune import REACH, searched, tune
from pointsense.learning.course import Progress
from pointsense.model.config import override
from pointsense.model.presets import PRESETS, fitted_to, preset
from test_cli import cli  # noqa: F401  fixture

CONFIG = preset("pointsense")
DATA = Dataset(None, tuple(Sample(f"{k}.png", None, np.zeros((0, 2)), (), "") for k in range(3)), {})


class Trainings:
    """In place of `train`: a score that follows from the settings, and a kill at a given training."""

    def __init__(self, killed=-1, checks=None, after=0, failing=()):
        self.configs, self.folders, self.killed, self.checks = [], [], killed, checks
        self.after, self.failing = after, failing

    def __call__(self, dataset, out, config, *, radius, seed, resume, report, **options):
        assert resume
        self.configs.append(config)
        self.folders.append(out.name)
        number = len(self.configs) - 1
        report(Progress(1, 9, 0.0, None, 0.0, 0.0))
        if number in self.failing:
            raise DataError("the loss became nan")
        f1s = self.checks[number] if self.checks else [config.axes / 100]
        for k, f1 in enumerate(f1s):
            if number == self.killed and k == self.after:
                raise KeyboardInterrupt
            report(Progress(2, 9, 0.0, f1, 0.0, 0.0, checks=k + 1))
            report(Progress(3, 9, 0.0, f1, 0.0, 0.0, checks=k + 1))
        return {"selection": {"f1": f1s[-1]}}


def search(monkeypatch, out, trainings, trials=6, config=CONFIG, **options):
    monkeypatch.setattr(module, "train", trainings)
    return tune(DATA, out, config, radius={"": 5.0}, trials=trials, **options)


def test_the_preset_comes_first_and_the_rest_around_it(monkeypatch, tmp_path):
    trainings, told = Trainings(), []
    rows = search(monkeypatch, tmp_path / "a", trainings, 30, told=lambda *of_trial: told.append(of_trial))
    assert trainings.configs[0] == CONFIG
    assert rows == json.loads((tmp_path / "a" / "trials.json").read_text())
    assert [row["number"] for row in rows] == list(range(30))
    assert [row["folder"] for row in rows[:2]] == ["0000", "0001"]
    assert list(rows[1]["settings"]) == ["axes", "measurements", "beta"]
    for name in rows[1]["settings"]:
        value, reach = getattr(CONFIG, name), REACH[name]
        drawn = np.array([getattr(config, name) for config in trainings.configs])
        assert len(set(drawn)) > 5
        assert np.all((drawn >= value / reach) & (drawn <= value * reach))
    assert (told[0][2], told[1][2]) == ("", "F1 0.080 on the selection images")
    assert told[2][1] == rows[1]["settings"]


def test_a_kill_changes_nothing(monkeypatch, tmp_path):
    whole = search(monkeypatch, tmp_path / "whole", Trainings())
    killed = Trainings(killed=3)
    with pytest.raises(KeyboardInterrupt):
        search(monkeypatch, tmp_path / "killed", killed)
    assert len(json.loads((tmp_path / "killed" / "trials.json").read_text())) == 3
    trainings = Trainings()
    resumed = search(monkeypatch, tmp_path / "killed", trainings, resume=True)
    assert (killed.configs[3], killed.folders[3]) == (trainings.configs[0], trainings.folders[0])
    assert [row["settings"] for row in resumed] == [row["settings"] for row in whole]
    assert [row["folder"] for row in resumed] == [row["folder"] for row in whole]
    more = search(monkeypatch, tmp_path / "killed", Trainings(), 8, resume=True)
    assert more[:6] == resumed
    assert len(more) == 8


def test_what_is_below_the_median_is_given_up(monkeypatch, tmp_path):
    good, poor = [0.5, 0.6], [0.1, 0.9]
    trainings = Trainings(checks=[good] * 4 + [poor, good])
    rows = search(monkeypatch, tmp_path / "a", trainings)
    assert [row["state"] for row in rows] == ["finished"] * 4 + ["given up", "finished"]
    assert (rows[4]["checks"], rows[4]["selection_f1"]) == ([0.1], None)


def test_only_what_acts_is_searched():
    assert searched(CONFIG) == ["axes", "measurements", "beta"]
    assert searched(override(CONFIG, {"alpha": 0.1})) == ["axes", "measurements", "beta", "lam", "alpha"]
    assert searched(fitted_to(preset("ecnncs-2"), 20)) == list(REACH)
    assert "alpha" not in searched(fitted_to(preset("cnncs"), 20))


@pytest.mark.parametrize("name", PRESETS)
def test_draws_are_allowed_settings(monkeypatch, tmp_path, name):
    trainings = Trainings()
    search(monkeypatch, tmp_path / "a", trainings, 12, preset(name))
    assert len(trainings.configs) == 12  # `override` has let them pass


def test_another_search_is_not_gone_on_with(monkeypatch, tmp_path):
    search(monkeypatch, tmp_path / "a", Trainings(), 1)
    with pytest.raises(UsageError, match="not empty; use --resume"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2)
    with pytest.raises(UsageError, match="begun with other settings"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2, override(CONFIG, {"steps": 7}), resume=True)
    with pytest.raises(UsageError, match="begun with other seed"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2, seed=1, resume=True)
    with pytest.raises(UsageError, match="begun with other options"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2, resume=True, time_limit=3.0)
    monkeypatch.setattr(sys.modules[__name__], "DATA", replace(DATA, samples=DATA.samples[:2]))
    with pytest.raises(UsageError, match="begun with other images"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2, resume=True)


def test_a_search_goes_on_where_a_setting_came_later(monkeypatch, tmp_path):
    rows = search(monkeypatch, tmp_path / "a", Trainings(), 1)
    (journal,) = (tmp_path / "a").glob("*journal*")
    asked = journal.read_text()
    assert asked.count('"view_zoom":1.0,') == 1
    journal.write_text(asked.replace('"view_zoom":1.0,', ""))
    assert search(monkeypatch, tmp_path / "a", Trainings(), 2, resume=True)[:1] == rows


def test_there_must_be_a_search_to_go_on_with(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="holds no search"):
        search(monkeypatch, tmp_path / "none", Trainings(), 2, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        search(monkeypatch, tmp_path / "file", Trainings(), 2)
    with pytest.raises(UsageError, match="nothing to search"):
        search(monkeypatch, tmp_path / "a", Trainings(), 2, override(CONFIG, {"target": "heatmap"}))


def test_a_kill_after_a_check_forgets_nothing(monkeypatch, tmp_path):
    """The best score so far, of before the kill, is what a trial is given up by."""
    good, falling = [0.5, 0.6, 0.7], [0.9, 0.4, 0.4]
    killed = Trainings(checks=[good] * 4 + [falling], killed=4, after=1)
    with pytest.raises(KeyboardInterrupt):
        search(monkeypatch, tmp_path / "a", killed)
    # Its training goes on from a checkpoint behind the first check.
    rest = Trainings(checks=[falling, good])
    rows = search(monkeypatch, tmp_path / "a", rest, resume=True)
    assert [row["state"] for row in rows] == ["finished"] * 6
    assert rows[4]["checks"] == falling


def test_a_training_that_fails_is_told_and_left(monkeypatch, tmp_path):
    told = []
    rows = search(
        monkeypatch, tmp_path / "a", Trainings(failing=(1,)), 4, told=lambda *one: told.append(one[2])
    )
    assert [row["state"] for row in rows] == ["finished", "failed", "finished", "finished"]
    assert rows[1]["problem"] == "the loss became nan"
    assert told[3] == "failed: the loss became nan"
    assert rows[1]["settings"] != rows[2]["settings"]
    assert search(monkeypatch, tmp_path / "a", Trainings(), 4, resume=True) == rows


def test_half_a_line_of_the_journal_is_cut_off(monkeypatch, tmp_path):
    rows = search(monkeypatch, tmp_path / "a", Trainings(), 2)
    with (tmp_path / "a" / "journal.log").open("a") as journal:
        journal.write('{"op_code": 5, "worker')
    assert search(monkeypatch, tmp_path / "a", Trainings(), 3, resume=True)[:2] == rows


def test_tune_from_the_command_line(cli, cells, tmp_path):  # noqa: F811
    tiny = ["steps=4", "batch=2", "patch=64", "width=8", "checks=1"]
    settings = [part for pair in tiny for part in ("--set", pair)]
    out = tmp_path / "search"
    code, said, _ = cli("tune", cells, "-o", out, "--trials", 2, "--device", "cpu", *settings)
    assert code == 0
    assert "trial 0: axes 8, measurements 12, beta 0.02" in said
    assert "best of 2: trial" in said
    assert f"pointsense evaluate {cells} --model {out / '0000'}" in said
    assert (out / "0001" / "model.safetensors").is_file()
    metrics = [json.loads((out / folder / "metrics.json").read_text()) for folder in ("0000", "0001")]
    assert metrics[0]["selection"]["images"] == metrics[1]["selection"]["images"]
    val = {sample.name for sample in load_dataset(cells).val}
    assert not val & {*metrics[0]["selection"]["images"], *metrics[0]["train_images"]}
