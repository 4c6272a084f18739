"""The benchmarks run, tell what is missing, and the page of results is what their JSON files say."""

import argparse
import copy
import json
import re
from pathlib import Path

import pytest

from pointsense.errors import UsageError
from pointsense.inference.detector import Detector
from pointsense.model.config import override
from pointsense.model.presets import preset

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("real_data")


@pytest.fixture
def tasks(real_data):
    return __import__("tasks")


@pytest.fixture
def tables(real_data):
    return __import__("real_data_table")


@pytest.fixture
def results(real_data):
    return __import__("results")


@pytest.fixture
def table(real_data):
    return __import__("table")


def scores(f1, mae=2.5):
    overall = {"f1": f1, "precision": 0.9, "recall": 0.8, "error_mean": 1.234, "count_mae": mae}
    interval = {"low": f1 - 0.1, "high": f1 + 0.1, "units": "images", "unit_count": 2}
    return {"overall": overall, "f1_interval": interval}


def rendered(tables, results):
    return "\n\n".join(
        page(results) for page in (tables.scores_page, tables.papers_page, tables.choices_page)
    )


def result(name="vgg_cells", method="code", f1=0.97, seed=0):
    return {
        "set": name,
        "method": method,
        "val_images": 20,
        "val_points": 300,
        "radius_px": 5.0,
        "seed": seed,
        "date": "2020-01-02",
        "versions": {"pointsense": "0.1.0"},
        "hardware": {"device": "cpu", "cpu": "a processor", "threads": 2},
        "training": {"seconds": 90.0, "steps": 100, "f1": 0.88},
        "seconds_per_image": 0.25,
        "code": {"ratio": 0.42},
        "scores": scores(f1),
        "other_decoders": {"codes": scores(f1 - 0.01), "maxima": scores(f1 - 0.02)},
        "other_radii": {},
        "images": {"a.png": [10, 0, 0], "b.png": [10, 5, 5]},
        "image_groups": {},
    }


@pytest.mark.parametrize("method", ["stains0", "heatmap-stains0", "fcrn", "log"])
def test_smoke_trains_scores_and_goes_on_where_it_was(real_data, monkeypatch, tmp_path, capsys, method):
    monkeypatch.setattr("pointsense.learning.selection.BLURS", (0.5, 1.0))  # for speed
    out, runs = tmp_path / "results", tmp_path / "runs"
    arguments = ["--smoke", "--method", method, "--out", str(out), "--runs", str(runs)]
    assert real_data.main(arguments) == 0
    path = out / f"synthetic-{method}.json"
    written = json.loads(path.read_text())
    assert written["protocol"] == "one-to-one"
    assert written["threshold_choice"] == "selection part of train"
    assert written["training"]["steps"] == (0 if method == "log" else written["settings"]["steps"])
    assert set(written["images"]) == {"synthetic_005.png", "synthetic_006.png"}
    assert set(written["other_decoders"]) == ({"codes", "maxima"} if method == "stains0" else set())
    assert (written["code"] is None) == (method != "stains0")
    for report in (written["scores"], *written["other_decoders"].values()):
        assert 0 <= report["overall"]["f1"] <= 1
        assert report["f1_interval"]["units"] == "images"
    assert written["seconds_per_image"] > 0
    assert str(tmp_path) not in path.read_text()

    def train(*_, **__):
        raise AssertionError("what has a JSON was started again")

    with monkeypatch.context() as patched:
        patched.setattr("pointsense.learning.fit.train", train)
        patched.setattr("peers.load_peer", train)
        assert real_data.main(arguments) == 0
    assert "skipped" in capsys.readouterr().out
    if method in ("fcrn", "log"):
        with monkeypatch.context() as patched:
            patched.setattr("peers.load_peer", train)
            assert real_data.main([*arguments, "--rescore"]) == 0
            assert json.loads(path.read_text())["scores"] == written["scores"]
            path.unlink()
            assert real_data.main(arguments) == 0  # by what it saw then
        assert json.loads(path.read_text())["training"] == written["training"]
        assert real_data.main([*arguments, "--rescore", "--minutes", "7"]) == 2
        assert "with other settings or images" in capsys.readouterr().err
        return
    path.unlink()
    assert real_data.main(arguments) == 0
    again = json.loads(path.read_text())
    assert again["training"] == written["training"]  # its seconds, too: the finished model was taken
    assert again["scores"] == written["scores"]
    with monkeypatch.context() as patched:
        patched.setattr("pointsense.learning.fit.train", train)
        assert real_data.main([*arguments, "--rescore"]) == 0
    assert json.loads(path.read_text())["scores"] == written["scores"]
    assert real_data.main(["--smoke", "--method", f"{method}-look0", *arguments[3:]]) == 0
    otherwise = ["--smoke", "--method", f"{method}-views8", *arguments[3:]]
    assert real_data.main(otherwise) == 0
    eight = json.loads((out / f"synthetic-{method}-views8.json").read_text())
    assert (eight["method"], eight["settings"]["views"]) == (f"{method}-views8", 8)
    assert eight["training"]["seconds"] == written["training"]["seconds"]  # the same model
    if method == "stains0":
        assert real_data.main(["--smoke", "--method", "stains0-refit", *arguments[3:]]) == 0
        refit = json.loads((out / "synthetic-stains0-refit.json").read_text())
        assert refit["training"]["seconds"] != written["training"]["seconds"]
        assert (refit["reading"], refit["training"]["f1"]) == (written["reading"], written["training"]["f1"])
        learned = json.loads((runs / "synthetic-stains0-refit" / "metrics.json").read_text())
        assert len(learned["train_images"]) == written["train_images"]
        assert refit["scores"]["threshold"] == written["scores"]["threshold"]
        with monkeypatch.context() as patched:
            patched.setattr("pointsense.learning.fit.refit", train)
            assert real_data.main(["--smoke", "--method", "stains0-refit", *arguments[3:], "--rescore"]) == 0
        again = json.loads((out / "synthetic-stains0-refit.json").read_text())
        assert (again["scores"], again["training"]) == (refit["scores"], refit["training"])
        relearn = ["--smoke", "--method", "stains0-refit", *arguments[3:]]
        made = runs / "synthetic-stains0-refit.made.json"
        for file, stored in ((made, json.loads(made.read_text())), (path, json.loads(path.read_text()))):
            stored.get("training", stored)[
                "first_seconds" if file == made else "seconds"
            ] = -1.0  # another first one
            file.write_text(json.dumps(stored))
        capsys.readouterr()
        assert real_data.main([*relearn, "--rescore"]) == 2
        assert "was learned again from another training than" in capsys.readouterr().err
        assert real_data.main(relearn) == 0
        assert "skipped" not in capsys.readouterr().out
        again = json.loads((out / "synthetic-stains0-refit.json").read_text())
        assert again["training"]["first_seconds"] == written["training"]["seconds"]
        asked = runs / "synthetic-stains0.request.json"
        asked.rename(tmp_path / "kept")
        assert real_data.main([*arguments, "--rescore"]) == 2
        assert "holds a training with other settings" in capsys.readouterr().err
        (tmp_path / "kept").rename(asked)
    path.unlink()
    assert real_data.main([*arguments, "--minutes", "7"]) == 2
    assert "holds a training with other settings; give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--data", "."], "unknown set 'nowhere'; the sets are vgg_cells, bccd-WBC"),
        (["vgg_cells"], "give --data FOLDER or set POINTSENSE_DATA"),
        (["--smoke", "--set", "steps=1"], "name it with --method"),
        (["--smoke", "--method", "code,wide"], "unknown method 'wide': use code, heatmap, "),
        (["--smoke", "--method", "wide", "--set", "steps"], "--set expects key=value"),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence(real_data, monkeypatch, capsys, arguments, message):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    assert real_data.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_sets_are_chosen_by_name_or_by_folder(tasks):
    assert list(tasks.select_tasks(["bccd"])) == ["bccd-WBC", "bccd-RBC"]
    assert list(tasks.select_tasks(["icpr2012-A04", "vgg_cells"])) == ["vgg_cells", "icpr2012-A04"]
    assert tasks.select_tasks([]) == tasks.TASKS
    assert sorted(task for family in tasks.FAMILIES.values() for task in family) == sorted(tasks.TASKS)


def test_a_training_that_fails_to_begin_leaves_none_under_its_name(real_data, monkeypatch, tmp_path):
    cell, run = __import__("cell"), tmp_path / "run"
    for commit, finished, expected in (
        ("one", False, "one"),
        ("two", False, "one, two"),  # it goes on
        ("three", True, "one, two"),  # there is nothing to go on with
    ):
        monkeypatch.setattr(cell, "made_now", lambda commit=commit: {"commit": commit})
        if finished:
            (run / "metrics.json").write_text("{}")
        cell.begin(run, overwrite=False)
        assert json.loads(cell.made_of(run).read_text()) == {"commit": expected}
        run.mkdir(exist_ok=True)
        (run / "checkpoint.json").write_text("{}")
    cell.begin(run, overwrite=True)
    assert not run.exists()
    assert json.loads(cell.made_of(run).read_text()) == {"commit": "three"}


def test_results_have_names_of_their_own(real_data, results):
    assert results.result_name("vgg_cells") == "vgg_cells"
    assert results.result_name("vgg_cells", "heatmap", 2) == "vgg_cells-heatmap-seed2"


def test_the_grid_is_the_comparison_seed_by_seed(real_data, tasks):
    asked = real_data.parse(["--grid", "--method", "heatmap,spotiflow"])
    cells = real_data.cells(asked, tasks.select_tasks(["icpr2012-fold0", "icpr2012-fold1"]))
    assert cells == [
        ("icpr2012-fold0", "heatmap", 0),
        ("icpr2012-fold1", "heatmap", 0),
        ("icpr2012-fold0", "spotiflow", 0),
        *(("icpr2012-" + fold, "heatmap", seed) for seed in (1, 2) for fold in ("fold0", "fold1")),
    ]


@pytest.mark.data
def test_every_real_set_has_the_images_that_its_task_needs(tasks):
    import os

    if not (given := os.environ.get("POINTSENSE_DATA")):
        pytest.skip("POINTSENSE_DATA is not set")
    for task in tasks.TASKS.values():
        dataset = task.load(Path(given))
        assert dataset.train
        assert dataset.val
        assert set(dataset.class_names) <= {task.class_name} or not task.class_name
        for value in task.settings.values():
            if isinstance(value, str) and value.startswith("{data}"):
                assert Path(value.replace("{data}", given)).is_file()


def written(results, folder, *some):
    folder.mkdir(parents=True, exist_ok=True)
    for one in some:
        stem = results.result_name(one["set"], one["method"], one["seed"])
        (folder / f"{stem}.json").write_text(json.dumps(one))
    return folder


def test_the_table_averages_trainings_and_shows_what_is_missing(real_data, results, tables, tmp_path):
    folder = written(results, tmp_path / "results", result(), result(f1=0.95, seed=1))
    found = results.read_results(folder)
    page = rendered(tables, found)
    line = (
        "| vgg_cells | pointsense | 2 of 3 | 5 | 0.960 | 0.950 to 0.970 |  |  | 0.900 | 0.800 | 1.23 | 2.50 |"
    )
    assert line in page
    assert "| vgg_cells | density, FCRN-A | missing |" in page
    assert "| vgg_cells | 5 | 0.960 | 0.950 | 0.940 | 0.42 |" in page
    line = "| vgg_cells | pointsense | 1 | 0.950 [0.850, 1.050] | 2.50 | 100 | 1.5 | 0.25 | 2 threads, a processor; "
    assert line + "2020-01-02, 0.1.0 |" in tables.cells_table(found)
    missing = tables.missing(found)
    assert "vgg_cells-seed2" in missing
    assert "vgg_cells" not in missing
    assert "icpr2012-fold1-spotiflow" not in missing


def test_the_table_compares_with_ours_and_the_heat_map_on_the_same_images(
    real_data, results, tables, tmp_path
):
    heatmap = result(method="heatmap", f1=0.5)
    heatmap["images"] = {"a.png": [10, 0, 0], "b.png": [5, 10, 10]}
    folder = written(results, tmp_path / "results", result(), heatmap)
    # 40/50 against 30/50; both images drawn are b: 20/30 against 10/30; both a: no difference.
    page = rendered(tables, results.read_results(folder))
    assert "| vgg_cells | pointsense | 1 of 3 | 5 | 0.970 | one |  | +0.200 [+0.000, +0.333] |" in page
    assert (
        "| vgg_cells | heat map, same network | 1 of 3 | 5 | 0.500 | one | -0.200 [-0.333, +0.000] |  |"
        in page
    )
    images = {f"{k}.png": [5, 0, 0] for k in range(100)}
    ours, theirs = result() | {"images": images}, heatmap | {"images": images | {"0.png": [0, 5, 5]}}
    by_group = {"image_groups": {name: f"group {min(k, 4)}" for k, name in enumerate(images)}}
    for groups, high in (({}, 0.03), (by_group, 0.6)):
        folder = written(results, tmp_path / f"of{len(groups)}", ours | groups, theirs | groups)
        page = rendered(tables, results.read_results(folder))
        told = re.search(r"\| heat map, same network \|.*? -0\.010 \[(.*?), (.*?)\]", page)
        assert float(told[2]) == 0
        assert -float(told[1]) == pytest.approx(high, rel=0.5)
    heatmap["images"] = {"a.png": [10, 0, 0]}
    folder = written(results, tmp_path / "others", result(), heatmap)
    assert "[+" not in rendered(tables, results.read_results(folder))


def test_each_method_is_in_one_table(tables):
    kinds = (tables.is_own, tables.is_reading, tables.is_of_the_paper)
    for name, method in tables.METHODS.items():
        assert sum(kind(name, method) for kind in kinds) == 1 + (name in tables.BESIDE)


def test_the_papers_systems_are_compared_with_cnncs(real_data, results, tables, tmp_path):
    ours, theirs = (result("mitos14_half", method=name) for name in ("code", "cnncs-repaired"))
    theirs["images"] = {"a.png": [10, 0, 0], "b.png": [5, 10, 10]}
    page = rendered(tables, results.read_results(written(results, tmp_path / "results", ours, theirs)))
    own, papers = page.split("## The paper's systems")
    assert "| mitos14_half | pointsense | 1 of 3 | 5 | 0.970 | one |  |  |" in own
    assert "| mitos14_half | pointsense | 1 of 3 | 5 | 0.970 | one | +0.200 [" in papers
    assert "CNNCS" not in own


def test_another_reading_is_compared_with_the_heat_map_read_alike(real_data, results, tables, tmp_path):
    ours, theirs = (result("mitos14_half", method=f"{name}-look0") for name in ("stains0", "heatmap-stains0"))
    theirs["images"] = {"a.png": [10, 0, 0], "b.png": [5, 10, 10]}
    page = rendered(tables, results.read_results(written(results, tmp_path / "results", ours, theirs)))
    row = "| mitos14_half | pointsense, stains as they are, no second look | 1 of 1 | 5 | 0.970 | one | +0.200 ["
    assert row in page


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("stains0-look0", {"training": {"seconds": 91.0, "steps": 100, "f1": 0.88}}),
        ("stains0-look0", {"training": {"seconds": 90.0, "steps": 100, "f1": 0.88, "commit": "abc"}}),
        ("stains0-refit", {"scores": scores(0.97) | {"threshold": 0.5}}),
        ("stains0-refit", {"training": {"seconds": 90.0, "first_seconds": 91.0}}),
    ],
)
def test_what_was_read_from_a_training_made_anew_since_is_missing(
    real_data, results, tables, tmp_path, method, change
):
    base, derived = (result("mitos14_half", method=name) for name in ("stains0", method))
    for one in (base, derived):
        one["scores"] = one["scores"] | {"threshold": 0.4}
    derived["training"] |= {"first_seconds": 90.0} if method == "stains0-refit" else {}
    folder = written(results, tmp_path / "results", base, derived)
    cell = ("mitos14_half", method, 0)
    assert cell in results.read_results(folder)
    found = results.read_results(written(results, folder, derived | change))
    assert cell not in found
    assert ("mitos14_half", "stains0", 0) in found
    assert not results.is_there(folder, cell)
    assert f"mitos14_half-{method}" in tables.missing(found)


def test_at_a_glance_each_fold_counts_alike_and_missing_ones_are_told(real_data, results, tables, tmp_path):
    folds = [f"icpr2012-fold{k}" for k in range(4)]
    ours = [result(fold, f1=0.8) for fold in folds] + [result(folds[0], f1=0.6, seed=1)]
    alone = result(folds[0], method="spotiflow", f1=0.5)
    page = tables.glance_table(results.read_results(written(results, tmp_path / "results", *ours, alone)))
    line = next(line for line in page.splitlines() if line.startswith("| icpr2012: "))
    assert "| 80 (1200) | 20 px | 0.775 | - |" in line  # (.7 + 3 x .8) / 4
    assert line.endswith("| 0.500 (fold0) |")


def test_a_further_radius_and_method_get_lines_of_their_own(real_data, results, tables, tmp_path):
    one = result("icpr2012-fold0")
    one["other_radii"] = {"32.6": scores(0.6)}
    seeded = copy.deepcopy(one) | {"seed": 3, "method": "wide"}
    page = rendered(tables, results.read_results(written(results, tmp_path / "results", one, seeded)))
    assert "| icpr2012 | pointsense | 1 of 12 | 32.6 | 0.600 |" in page
    assert "| icpr2012 | wide | 1 of " in page


def test_single_choices_are_compared_with_the_default(real_data, results, tables, tmp_path):
    without = result(method="margin0", f1=0.5)
    without["images"] = {"a.png": [10, 0, 0], "b.png": [5, 10, 10]}
    without["training"] = without["training"] | {"f1": 0.85}
    alone = result(method="margin0", f1=0.5, seed=1)
    alone["training"] = alone["training"] | {"f1": 0.75, "date": "2020-01-01", "commit": "abc"}
    base = result(method="overlay0")
    folder = written(results, tmp_path / "results", base, without, alone)
    page = rendered(tables, found := results.read_results(folder))
    assert "| vgg_cells | no crop over another | 1 | 0.970 |  | 0.880 |  | 2.50 |" in page
    changed = "| vgg_cells | crops learned from up to their borders | 2 | 0.500 | -0.200 [-0.333, +0.000] |"
    assert f"{changed} 0.800 | -0.030 | 2.50 |" in page  # on the selection part by the seed that both have
    trainings = tables.cells_table(found)
    assert "a processor; 2020-01-01, abc |" in trainings  # of the training, not of its last scoring
    assert "| icpr2012-fold0 | crops of one size | missing |" in page


def test_results_of_other_sets_are_left_out(real_data, results, tables, tmp_path):
    folder = written(results, tmp_path / "results", result("synthetic"))
    assert "synthetic" not in rendered(tables, results.read_results(folder))


def marked(table, name, text=""):
    begin, end = table.marks(name)
    return f"{begin}\n{text}\n{end}\n"


@pytest.fixture
def pages(real_data, table, tmp_path):
    """A README and a folder of docs whose tables are still to be written."""
    written(results, tmp_path / "docs" / "results")
    (tmp_path / "README.md").write_text(marked(table, "glance"))
    (tmp_path / "docs" / "results.md").write_text(
        f"Before.\n\n{marked(table, 'glance', 'stale text')}\nAfter.\n"
    )
    for name in ("scores", "paper", "choices", "trainings"):
        (tmp_path / "docs" / "results" / f"{name}.md").write_text(marked(table, "tables"))
    return tmp_path / "docs"


def test_check_tells_a_page_that_is_out_of_date(table, pages, capsys):
    arguments = ["--docs", str(pages)]
    assert table.main([*arguments, "--check"]) == 1
    assert "run python benchmarks/table.py" in capsys.readouterr().err
    assert table.main(arguments) == 0
    assert table.main([*arguments, "--check"]) == 0
    text = (pages / "results.md").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale text" not in text


def test_readme_and_results_begin_with_every_detector_at_a_glance(real_data, table, pages):
    written(
        real_data, pages / "results", result(f1=0.9), result(f1=0.8, seed=1), result(method="log", f1=0.5)
    )
    assert table.main(["--docs", str(pages)]) == 0
    line = "| vgg_cells: cells, fluorescence (simulated) | 20 (300) | 5 px | 0.850 | - | - | - | 0.500 | - |"
    for page in (pages.parent / "README.md", pages / "results.md"):
        assert line in page.read_text()
        assert "crchisto" not in page.read_text()  # nothing of ours is there
    for name, lines in (("scores", 1), ("choices", 1), ("paper", 0), ("trainings", 2)):
        text = (pages / "results" / f"{name}.md").read_text()
        assert text.count("| vgg_cells | pointsense |") == lines


def test_a_page_without_marks_is_refused(table, pages, capsys):
    (pages / "results.md").write_text("Nothing here.\n")
    assert table.main(["--docs", str(pages)]) == 1
    assert "lacks the marks" in capsys.readouterr().err
    assert (pages / "results.md").read_text() == "Nothing here.\n"


def test_a_page_that_is_not_there_is_told(table, pages, capsys):
    (pages / "results" / "trainings.md").unlink()
    assert table.main(["--docs", str(pages)]) == 1
    assert "there is no" in capsys.readouterr().err


def test_the_page_of_results_is_up_to_date(table, capsys):
    assert table.main(["--check"]) == 0, capsys.readouterr().err


def test_tiling_smoke_run_finds_the_same_points(real_data, capsys):
    tiling = __import__("tiling")
    assert tiling.main(["--smoke"]) == 0
    assert "of them alike" in capsys.readouterr().out
    assert tiling.main([]) == 2


def test_precision_smoke_run_compares_both(real_data, capsys, monkeypatch):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    precision = __import__("precision")
    assert precision.main(["--smoke"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"synthetic: F1 0\.[1-9].* in half precision, .* of the points within 0\.5 px", told)
    assert precision.main([]) == 2


def test_transfer_smoke_run_scores_both_looks(real_data, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    transfer = __import__("transfer")
    assert transfer.main(["--smoke"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"synthetic: F1 0\.[1-9]\d\d by its own threshold; first look: .*; second look: ", told)
    assert transfer.main(["icpr2012"]) == 2
    with pytest.raises(SystemExit, match="2"):
        transfer.main(["icpr2012", "--methods", "code,wide"])
    assert "unknown method 'wide'; use some of code, heatmap, " in capsys.readouterr().err


def test_transfer_takes_the_models_of_other_sets(real_data, tmp_path):
    transfer, one, to = __import__("transfer"), "icpr2012-fold1", "mitos14_half"
    for name in (one, f"{one}-alone-seed12", f"{one}-stains0", f"{one}-stains0-refit", to):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").touch()
    methods = {
        "code": one,
        "views4": one,
        "alone": f"{one}-alone-seed12",
        "stains0-refit": f"{one}-stains0-refit",
    }
    asked = argparse.Namespace(sets=[], methods=",".join(methods), runs=tmp_path, seed=None, to=to)
    found = list(transfer.models(asked))
    assert found == [(one, method, tmp_path / folder) for method, folder in methods.items()]
    asked.seed = "12"
    assert list(transfer.models(asked)) == found[2:3]
    asked.seed = "two"
    with pytest.raises(UsageError, match="--seed is two, expected whole numbers with commas"):
        list(transfer.models(asked))


def test_a_model_sees_in_the_views_of_a_method(real_data, tmp_path, monkeypatch):
    trained = override(preset("mitoses"), {"views": 8, "look_views": 0})
    monkeypatch.setattr(
        Detector, "load", lambda folder, device: argparse.Namespace(config=trained, look="one")
    )
    seen = {
        method: real_data.seen_as("mitos14_half", method, tmp_path, tmp_path)
        for method in ("code", "heatmap-views4", "stains0-views1", "stains0-look0")
    }
    views = [(one.config.views, one.config.look_views) for one in seen.values()]
    assert views == [(2, 4), (4, 4), (1, 1), (4, 4)]
    assert [one.look for one in seen.values()] == ["one", "one", "one", None]


def test_speed_smoke_run_tells_ratios(real_data, capsys, monkeypatch):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    speed = __import__("speed")
    assert speed.main(["--smoke"]) == 0
    assert "synthetic: pointsense " in (told := capsys.readouterr().out)
    assert " s an image, 1.0 times ours" in told
    assert speed.main([]) == 2


def test_bundle_refuses_what_it_cannot_make(real_data, capsys, monkeypatch):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    bundle = __import__("bundle")
    assert bundle.main(["nuclei"]) == 2
    assert bundle.main(["nerves", "--data", "."]) == 2
    assert "unknown model 'nerves'; the models are nuclei, blood" in capsys.readouterr().err
    assert bundle.main(["nuclei", "--data", ".", "--rescore", "--out", "nowhere"]) == 2
    assert "--rescore needs nowhere/bundled-nuclei.json" in capsys.readouterr().err


def test_bundle_makes_a_model_and_chooses_its_threshold_again(real_data, cells, tmp_path, monkeypatch):
    bundle = __import__("bundle")
    tiny = bundle.Bundle(
        cells.name, {"": 6.0}, 12, "Spots.", "Drawn", "None", "All.", settings=real_data.SMOKE.settings
    )
    monkeypatch.setitem(bundle.BUNDLES, "tiny", tiny)
    monkeypatch.setattr(bundle, "FOLDER", tmp_path / "shipped")
    monkeypatch.setattr(bundle, "SIDE", 64)
    arguments = [
        "tiny",
        "--data",
        str(cells.parent),
        "--out",
        str(tmp_path),
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert bundle.main(arguments) == 0
    assert bundle.main([*arguments, "--rescore"]) == 0  # by the weights as shipped, in half precision
    first = json.loads((tmp_path / "bundled-tiny.json").read_text())
    folder = tmp_path / "shipped" / "tiny"
    chosen = json.loads((folder / "config.json").read_text())
    spoilt = (folder / "config.json").read_text().replace('"threshold": ', '"threshold": 7')
    (folder / "config.json").write_text(spoilt)
    assert bundle.main([*arguments, "--rescore"]) == 0
    assert json.loads((folder / "config.json").read_text()) == chosen
    again = json.loads((tmp_path / "bundled-tiny.json").read_text())
    assert [again[key] for key in bundle.TRAINING] == [first[key] for key in bundle.TRAINING]
    assert again["classes"] == first["classes"]
    assert "| 6 | " in (folder / "README.md").read_text()


def test_recovery_smoke_run_measures_every_part(capsys):
    recovery = __import__("recovery")
    results = recovery.run(recovery.SECTIONS, smoke=True)
    told = capsys.readouterr().out
    for title in (
        "Lasso",
        "Sizes",
        "Non-zeros",
        "Gradients",
        "Quality",
        "Random problems",
        "What the layer is held to",
    ):
        assert f"\n{title}\n" in told
    assert "scikit-learn Lasso" in told
    origin = {"date": "2020-01-02", "versions": {"torch": "2", "numpy": "2", "commit": "c"}}
    tables = __import__("recovery_table").render(
        origin | {"hardware": {"threads": 1, "cpu": "a processor"}} | results
    )
    assert "| pointsense auto, compiled | 20 of 20 |" in tables


def test_peers_that_are_not_installed_are_left_out_and_named(monkeypatch, capsys):
    recovery, peers = __import__("recovery"), __import__("recovery_peers")
    gone = peers.Peer("a solver", peers.LASSO_PEERS[0].solve, "no-such-package")
    for module in (recovery, __import__("recovery_measures")):
        monkeypatch.setattr(module, "LASSO_PEERS", (*peers.LASSO_PEERS[:1], gone))
    assert recovery.main(["--smoke", "--only", "speed"]) == 0
    assert "not installed: a solver" in capsys.readouterr().out
