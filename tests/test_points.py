"""Detections: validated columns, and files that say what they hold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsense.errors import DataError
from pointsense.points import Detections

SOME = Detections.of(
    [(1.5, 2.25), (300.125, 7.0)], scores=[0.9, 0.25], classes=["RBC", ""], votes=[9, 4], spread=[0.5, 1.25]
)


def assert_same(first, second):
    for name in ("points", "scores", "classes", "votes", "spread"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_selecting_keeps_columns_together():
    assert_same(SOME.above(0.25), SOME)
    kept = SOME.above(0.3)
    assert (len(kept), kept.classes[0], kept.votes[0], kept.points[0, 1]) == (1, "RBC", 9, 2.25)
    assert SOME.select(np.array([1, 0])).scores.tolist() == [0.25, 0.9]


def test_empty_keeps_shapes():
    none = Detections.empty()
    assert none.points.shape == (0, 2)
    assert none.classes.dtype.kind == "U"
    assert len(none.above(0)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((2, 3))}, r"shape \(K, 2\) with rows \(y, x\), not \(2, 3\)"),
        ({"scores": [1.0]}, r"scores must have the shape \(2,\)"),
        ({"scores": [np.nan, 1.0]}, "scores holds NaN"),
        ({"points": [(0, np.inf), (1, 1)]}, "points holds NaN or infinite"),
    ],
)
def test_wrong_columns_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Detections.of(**({"points": [(0, 0), (1, 1)]} | change))


def test_csv_columns_and_rounding(tmp_path):
    found = Detections.of([(1 / 3, -0.0001)], scores=[0.123456789])
    found.write_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "y,x,score,class,votes,spread\n0.333,0,0.123457,,1,0\n"
    SOME.write_csv(tmp_path / "b.csv", um_per_px=0.25)
    lines = (tmp_path / "b.csv").read_text().splitlines()
    assert lines[0] == "y,x,score,class,votes,spread,y_um,x_um"
    assert lines[2] == "300.125,7,0.25,,4,1.25,75.031,1.75"


def test_csv_round_trip(tmp_path):
    SOME.write_csv(tmp_path / "sub" / "a.csv", um_per_px=0.5)
    assert_same(Detections.read_csv(tmp_path / "sub" / "a.csv"), SOME)


def test_empty_csv_has_its_header(tmp_path):
    Detections.empty().write_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "y,x,score,class,votes,spread\n"
    assert len(Detections.read_csv(tmp_path / "a.csv")) == 0


@given(
    st.lists(
        st.tuples(
            st.floats(-1e5, 1e5),
            st.floats(-1e5, 1e5),
            st.floats(0, 1),
            st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5),
        ),
        max_size=6,
    )
)
def test_files_round_trip_any_detections(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round_trip")
    found = Detections.of(
        [row[:2] for row in rows], [row[2] for row in rows], np.array([row[3] for row in rows], dtype=str)
    )
    for form in ("csv", "geojson"):
        getattr(found, f"write_{form}")(folder / "a")
        again = getattr(Detections, f"read_{form}")(folder / "a")
        np.testing.assert_allclose(again.points, found.points, rtol=0, atol=5.1e-4)
        np.testing.assert_allclose(again.scores, found.scores, rtol=1e-5, atol=1e-300)
        assert again.classes.tolist() == found.classes.tolist()


@pytest.mark.parametrize("header", ["y,x", "axis-0,axis-1", " Y , X "])
def test_hand_made_csv(tmp_path, header):
    found = Detections.read_csv(write(tmp_path / "a.csv", f"\ufeff{header}\n3,4.5\n\n5,6\n"))
    assert_same(found, Detections.of([(3, 4.5), (5, 6)]))


def test_columns_are_found_by_name(tmp_path):
    found = Detections.read_csv(write(tmp_path / "a.csv", "x,note,score,y\n4,hm,0.5,3\n"))
    assert_same(found, Detections.of([(3, 4)], scores=[0.5]))


def test_the_line_of_excel_that_names_the_separator_is_passed_over(tmp_path):
    assert_same(Detections.read_csv(write(tmp_path / "a.csv", "sep=,\ny,x\n3,4\n")), Detections.of([(3, 4)]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sep=;\ny;x\n1;2\n", "found 'sep=;'|separated by semicolons"),
        ("12,30.5\n13,31\n", r"no header line \(it starts with '12,30.5'\).*never guessed.*'y,x'"),
        ("", "is empty; expected at least the header line 'y,x'"),
        ("row,column\n1,2\n", "lacks the columns y, x: expected 'y,x' .* found 'row,column'"),
        ("y;x\n1;2\n", "separated by semicolons; save it with commas"),
        (
            "y,x\n1,2\n40,5,7,25\n",
            r"line 3 has 4 fields \('40,5,7,25'\), the header has 2: write decimal points",
        ),
        ('y,x\n"40,5","7,25"\n', "line 2: y is '40,5', expected a finite number; write decimal points"),
        ("y,x,y\n1,2,3\n", "has the column y more than once"),
        ("y,x\n1,2\n3,abc\n", "line 3: x is 'abc', expected a finite number; correct the line or delete it"),
        ("y,x\nnan,2\n", "line 2: y is 'nan', expected a finite number; correct the line or delete it"),
        ("y,x\n1,inf\n", "line 2: x is 'inf'"),
        ("y,x\n1\n", "line 2: x is ''"),
        ("y,x,votes\n1,2,1.5\n", "line 2: votes is '1.5', expected a whole number"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        Detections.read_csv(write(tmp_path / "a.csv", text))


def test_unreadable_csv(tmp_path):
    with pytest.raises(
        DataError, match=r"none\.csv does not exist; expected a CSV file with the header 'y,x'"
    ):
        Detections.read_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot read"):
        Detections.read_csv(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"y,x\n\xff\xfe,2\n")
    with pytest.raises(DataError, match=r"is not CSV text in UTF-8 .*save it again, in Excel as 'CSV UTF-8'"):
        Detections.read_csv(tmp_path / "a.csv")


def test_geojson_is_what_qupath_imports(tmp_path):
    SOME.write_geojson(tmp_path / "a.geojson")
    value = json.loads((tmp_path / "a.geojson").read_text())
    assert value["type"] == "FeatureCollection"
    first, second = value["features"]
    assert first["type"] == "Feature"
    # (y, x) = (1.5, 2.25) from the centre of the first pixel, as (x, y) from its top-left corner
    assert first["geometry"] == {"type": "Point", "coordinates": [2.75, 2.0]}
    assert first["properties"] == {
        "objectType": "detection",
        "measurements": {"score": 0.9, "votes": 9, "spread": 0.5},
        "classification": {"name": "RBC", "color": [230, 159, 0]},
    }
    assert "classification" not in second["properties"]
    assert first["id"] != second["id"]


def test_a_feature_alone_with_a_byte_order_mark_and_numbers_that_are_lacking(tmp_path):
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [3.5, 1.5]},
        "properties": {"measurements": {"score": 0.25, "votes": None}},
    }
    (tmp_path / "a.geojson").write_text(json.dumps(feature), encoding="utf-8-sig")
    assert_same(Detections.read_geojson(tmp_path / "a.geojson"), Detections.of([[1.0, 3.0]], [0.25]))


def test_geojson_round_trip_and_ids_from_content(tmp_path):
    SOME.write_geojson(tmp_path / "a.geojson")
    SOME.write_geojson(tmp_path / "b.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert_same(Detections.read_geojson(tmp_path / "a.geojson"), SOME)
    twins = SOME.select(np.array([0, 0]))
    twins.write_geojson(tmp_path / "c.geojson")
    ids = [feature["id"] for feature in json.loads((tmp_path / "c.geojson").read_text())["features"]]
    assert len(set(ids)) == 2


def test_empty_geojson(tmp_path):
    Detections.empty().write_geojson(tmp_path / "a.geojson")
    assert len(Detections.read_geojson(tmp_path / "a.geojson")) == 0


def test_points_drawn_in_qupath(tmp_path):
    feature = {
        "type": "Feature",
        "geometry": {"type": "MultiPoint", "coordinates": [[10.5, 20.5], [11.5, 20.5]]},
        "properties": {
            "classification": {"name": "mitosis", "color": [200, 0, 0]},
            "measurements": [{"name": "score", "value": 0.5}],
        },
    }
    found = Detections.read_geojson(write(tmp_path / "a.geojson", json.dumps([feature])))
    assert_same(found, Detections.of([(20, 10), (20, 11)], scores=[0.5, 0.5], classes="mitosis"))


def outline(kind, coordinates, object_type="cell"):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"geometry": geometry, "properties": {"objectType": object_type, "classification": {"name": "a"}}}


def test_outlines_of_cells_count_by_their_centres(tmp_path):
    square = [[2, 4], [6, 4], [6, 8], [2, 8], [2, 4]]
    corner = [[0, 0], [3, 0], [0, 3], [0, 0]]  # its vertices' mean is not its centre once it is closed
    hole = [[3, 5], [4, 5], [4, 6], [3, 5]]
    far = [[10, 4], [10, 8], [14, 8], [14, 4], [10, 4]]  # turns the other way
    flat = [[50_000.1, 1.1], [50_000.3, 1.3], [50_000.2, 1.2]]
    features = [
        outline("Polygon", [square, hole]),
        outline("Polygon", [corner]),
        outline("MultiPolygon", [[square], [far]]),
        outline("Polygon", [flat]),
    ]
    found = Detections.read_geojson(write(tmp_path / "a.geojson", json.dumps(features)))
    x = np.array([4, 1, 8, 50_000.2]) - 0.5
    y = np.array([6, 1, 6, 1.2]) - 0.5
    np.testing.assert_allclose(found.points, np.column_stack([y, x]))
    assert set(found.classes) == {"a"}


REGION, POINT = outline("Polygon", [], "annotation"), outline("Point", [1, 2], "annotation")
OLD = [{"geometry": {"type": "Polygon"}, "id": f"Path{kind}Object"} for kind in ("Annotation", "Cell")]


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([outline("Polygon", []), REGION], r"\(annotation\), beside cell; export"),
        ([POINT, REGION], r"\(annotation\), beside points \(annotation\); export"),
        ([outline("Polygon", [], "tmaCore")], r"\(tmaCore\), beside nothing else; export"),
        (OLD, r"\(annotation\), beside cell; export"),
    ],
)
def test_regions_are_no_objects(tmp_path, features, words):
    with pytest.raises(DataError, match=rf"outlines that may be regions {words} the objects only"):
        Detections.read_geojson(write(tmp_path / "a.geojson", json.dumps(features)))


def test_bad_geojson(tmp_path):
    line = {"features": [outline("LineString", [])]}
    with pytest.raises(DataError, match="holds a LineString, expected points or outlines"):
        Detections.read_geojson(write(tmp_path / "a.geojson", json.dumps(line)))
    broken = [json.dumps([outline("Polygon", rings)]) for rings in ([], [[]], [[1, 2], [3, 4]])]
    for text in ("{", "{}", "[1]", '[{"geometry": {"type": "Point", "coordinates": ["a", 1]}}]', *broken):
        with pytest.raises(DataError, match=r"is not GeoJSON with points or outlines .*export it again"):
            Detections.read_geojson(write(tmp_path / "a.geojson", text))
    with pytest.raises(DataError, match="cannot read"):
        Detections.read_geojson(tmp_path / "none.geojson")


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"names": ["Tumor", "Positive"], "color": [200, 0, 0]}, "Tumor: Positive"),
        ("Tumor", "Tumor"),
        ({"name": None, "color": [0, 0, 0]}, ""),
        (None, ""),
    ],
)
def test_class_names_in_the_forms_that_qupath_writes_and_takes(tmp_path, classification, name):
    feature = {
        "geometry": {"type": "Point", "coordinates": [10.5, 20.5]},
        "properties": {"classification": classification},
    }
    found = Detections.read_geojson(write(tmp_path / "a.geojson", json.dumps([feature])))
    assert found.classes.tolist() == [name]


def test_a_class_has_one_colour_in_all_files(tmp_path):
    known = ["WBC", "RBC"]
    for name, classes in (("a", ["RBC"]), ("b", ["WBC", "RBC"])):
        path = tmp_path / f"{name}.geojson"
        Detections.of(np.zeros((len(classes), 2)), classes=classes).write_geojson(path, known)
    a, b = (
        {f["properties"]["classification"]["name"]: f["properties"]["classification"]["color"] for f in fs}
        for fs in (json.loads((tmp_path / f"{n}.geojson").read_text())["features"] for n in "ab")
    )
    assert a["RBC"] == b["RBC"] != b["WBC"]


def test_a_line_that_ends_early_is_not_a_sure_detection(tmp_path):
    with pytest.raises(DataError, match="line 3: score is '', expected a finite number"):
        Detections.read_csv(write(tmp_path / "a.csv", "y,x,score\n1,2,0.5\n3,4\n"))
    assert Detections.read_csv(write(tmp_path / "b.csv", "y,x,class\n3,4\n")).classes.tolist() == [""]


def test_above_a_threshold_of_each_class():
    found = Detections.of(np.zeros((4, 2)), scores=[0.2, 0.6, 0.2, 0.6], classes=["a", "a", "b", "c"])
    assert found.above({"a": 0.5, "": 0.3}).classes.tolist() == ["a", "c"]
    assert found.above({"a": 0.5}).classes.tolist() == ["a", "b", "c"]
    assert found.above(0.5).classes.tolist() == ["a", "c"]
