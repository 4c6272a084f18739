"""The benchmarks run, tell what is missing, and the page of results is what their JSON files say."""

import copy
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("real_data")


@pytest.fixture
def table(real_data):
    return __import__("table")


def scores(f1, **others):
    overall = {"f1": f1, "precision": 0.9, "recall": 0.8, "error_mean": 1.234, "count_mae": 2.5}
    interval = {"low": f1 - 0.1, "high": f1 + 0.1, "units": "images", "unit_count": 2}
    return {"overall": overall, "f1_interval": interval, **others}


def result(name="vgg_cells", variant="code", f1=0.97):
    return {
        "set": name,
        "variant": variant,
        "radius_px": 5.0,
        "val_images": 2,
        "val_points": 30,
        "seed": 0,
        "date": "2020-01-02",
        "versions": {"pointsense": "0.1.0"},
        "hardware": {"device": "cpu", "cpu": "a processor", "threads": 2},
        "training": {"seconds": 90.0, "steps": 100},
        "seconds_per_image": 0.25,
        "code": {"ratio": 0.42},
        "decoder": "full",
        "decoders": {"full": scores(f1), "codes": scores(f1 - 0.01), "maxima": scores(f1 - 0.02)},
        "other_radii": {},
        "images": {"a.png": [10, 0, 0], "b.png": [10, 5, 5]},
    }


@pytest.mark.parametrize("variant", ["code", "heatmap"])
def test_smoke_trains_scores_and_goes_on_where_it_was(real_data, monkeypatch, tmp_path, capsys, variant):
    monkeypatch.setattr("pointsense.learning.selection.BLURS", (0.5, 1.0))  # for speed
    out, runs = tmp_path / "results", tmp_path / "runs"
    arguments = ["--smoke", "--variant", variant, "--out", str(out), "--runs", str(runs)]
    assert real_data.main(arguments) == 0
    path = out / ("synthetic.json" if variant == "code" else "synthetic-heatmap.json")
    written = json.loads(path.read_text())
    assert written["protocol"] == "one-to-one"
    assert written["threshold_choice"] == "selection part of train"
    assert written["settings"]["steps"] == written["training"]["steps"]
    assert set(written["images"]) == {"synthetic_005.png", "synthetic_006.png"}
    assert set(written["decoders"]) == ({"full", "codes", "maxima"} if variant == "code" else {"maxima"})
    assert (written["code"] is None) == (variant == "heatmap")
    for decoder in written["decoders"].values():
        assert 0 <= decoder["overall"]["f1"] <= 1
        assert decoder["f1_interval"]["units"] == "images"
    assert written["seconds_per_image"] > 0
    assert str(tmp_path) not in path.read_text()

    def train(*_, **__):
        raise AssertionError("what has a JSON was started again")

    with monkeypatch.context() as patched:
        patched.setattr("pointsense.learning.fit.train", train)
        assert real_data.main(arguments) == 0
    assert "skipped" in capsys.readouterr().out
    path.unlink()
    assert real_data.main(arguments) == 0
    again = json.loads(path.read_text())
    assert again["training"] == written["training"]  # its seconds, too: the finished model was taken
    assert again["decoders"] == written["decoders"]
    with monkeypatch.context() as patched:
        patched.setattr("pointsense.learning.fit.train", train)
        assert real_data.main([*arguments, "--rescore"]) == 0
    assert json.loads(path.read_text())["decoders"] == written["decoders"]
    path.unlink()
    assert real_data.main([*arguments, "--minutes", "7"]) == 2
    assert "holds a training with other settings; give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--data", "."], "unknown set 'nowhere'; the sets are vgg_cells, bccd-WBC"),
        (["vgg_cells"], "give --data FOLDER or set POINTSENSE_DATA"),
        (["--smoke", "--set", "steps=1"], "name it with --variant"),
        (["--smoke", "--variant", "wide"], "unknown variant 'wide': use code, heatmap, or give it a --set"),
        (["--smoke", "--variant", "wide", "--set", "steps"], "--set expects key=value"),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence(real_data, monkeypatch, capsys, arguments, message):
    monkeypatch.delenv("POINTSENSE_DATA", raising=False)
    assert real_data.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_sets_are_chosen_by_name_or_by_folder(real_data):
    assert list(real_data.select_tasks(["bccd"])) == ["bccd-WBC", "bccd-RBC"]
    assert list(real_data.select_tasks(["icpr2012-A04", "vgg_cells"])) == ["vgg_cells", "icpr2012-A04"]
    assert real_data.select_tasks([]) == real_data.TASKS


def test_results_have_names_of_their_own(real_data):
    assert real_data.result_name("vgg_cells") == "vgg_cells"
    assert real_data.result_name("vgg_cells", "heatmap", 2) == "vgg_cells-heatmap-seed2"


@pytest.mark.data
def test_every_real_set_has_the_images_that_its_task_needs(real_data):
    import os

    if not (given := os.environ.get("POINTSENSE_DATA")):
        pytest.skip("POINTSENSE_DATA is not set")
    for task in real_data.TASKS.values():
        dataset = task.load(Path(given))
        assert dataset.train
        assert dataset.val
        assert set(dataset.class_names) <= {task.class_name} or not task.class_name
        for value in task.settings.values():
            if isinstance(value, str) and value.startswith("{data}"):
                assert Path(value.replace("{data}", given)).is_file()


def written(folder, *results):
    folder.mkdir(parents=True)
    for one in results:
        stem = one["set"] + "-heatmap" * (one["variant"] == "heatmap")
        (folder / f"{stem}.json").write_text(json.dumps(one))
    return folder


def test_the_table_shows_results_beside_what_is_missing(table, tmp_path):
    page = table.render(table.read_results(written(tmp_path / "results", result())))
    first = page.split("###")[1]
    line = "| vgg_cells | pointsense | 2 images, 30 points | 5 | 0.970 [0.870, 1.070] | 0.900 | 0.800 | 1.23 | 2.50 |"
    assert line in first
    assert "| vgg_cells | heat map | missing |" in first
    assert "| icpr2012-fold0 | pointsense | missing |" in first
    assert first.count("missing") == 2 * len(table.TASKS) - 1
    assert "| vgg_cells | pointsense | 5 | 0.970 [0.870, 1.070] | 0.960 [0.860, 1.060] | 0.950 " in page
    assert "| 100 | 1.5 | 0.25 | 2 threads, a processor | 0 | 2020-01-02 | 0.1.0 |" in page


def test_the_table_compares_two_variants_on_the_same_images(table, tmp_path):
    heatmap = result(variant="heatmap", f1=0.5)
    heatmap["images"] = {"a.png": [10, 0, 0], "b.png": [5, 10, 10]}
    folder = written(tmp_path / "results", result(), heatmap)
    # 40/50 against 30/50; both images drawn are b: 20/30 against 10/30; both a: no difference.
    assert "| difference |  | 5 | +0.200 [+0.000, +0.333] |" in table.render(table.read_results(folder))
    heatmap["images"] = {"a.png": [10, 0, 0]}
    folder = written(tmp_path / "others", result(), heatmap)
    assert "difference" not in table.render(table.read_results(folder))


def test_a_further_radius_seed_and_variant_get_lines_of_their_own(table, tmp_path):
    one = result("icpr2012-fold0")
    one["other_radii"] = {"32.6": scores(0.6)}
    folder = written(tmp_path / "results", one)
    seeded = copy.deepcopy(one) | {"seed": 3, "variant": "wide"}
    (folder / "icpr2012-fold0-wide-seed3.json").write_text(json.dumps(seeded))
    page = table.render(table.read_results(folder))
    assert "| icpr2012-fold0 | pointsense | 2 images, 30 points | 32.6 | 0.600 " in page
    assert "| icpr2012-fold0 | wide, seed 3 | 2 images, 30 points | 5 |" in page


def test_results_of_other_sets_are_left_out(table, tmp_path):
    folder = written(tmp_path / "results", result("synthetic"))
    assert "synthetic" not in table.render(table.read_results(folder))


def test_check_tells_a_page_that_is_out_of_date(table, tmp_path, capsys):
    written(tmp_path / "results")
    page = tmp_path / "results.md"
    page.write_text(f"Before.\n\n{table.BEGIN}\nstale text\n{table.END}\n\nAfter.\n")
    arguments = ["--docs", str(tmp_path)]
    assert table.main([*arguments, "--check"]) == 1
    assert "run python benchmarks/table.py" in capsys.readouterr().err
    assert table.main(arguments) == 0
    assert table.main([*arguments, "--check"]) == 0
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale text" not in text


def test_a_page_without_marks_is_refused(table, tmp_path, capsys):
    written(tmp_path / "results")
    (tmp_path / "results.md").write_text("Nothing here.\n")
    assert table.main(["--docs", str(tmp_path)]) == 1
    assert "lacks the marks" in capsys.readouterr().err
    assert (tmp_path / "results.md").read_text() == "Nothing here.\n"


def test_the_page_of_results_is_up_to_date(table, capsys):
    assert table.main(["--check"]) == 0, capsys.readouterr().err


def test_tiling_smoke_run_finds_the_same_points(real_data, capsys):
    tiling = __import__("tiling")
    assert tiling.main(["--smoke"]) == 0
    assert "of them alike" in capsys.readouterr().out
    assert tiling.main([]) == 2


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
