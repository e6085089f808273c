"""Figures: every plot from plain numbers, in one style; saved with origin, redrawn, checked."""

import json
import sys
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from oskdft.commands import cli
from oskdft.evaluation import metrics
from oskdft.lessons.figures import method, models, plots, results, scores, store
from oskdft.lessons.figures.scores import det_data
from oskdft.lessons.figures.style import new

rng = np.random.default_rng(0)
LABELS = np.repeat([1, 0], [100, 400])
SCORES = np.r_[rng.normal(2, 1, 100), rng.normal(0, 1, 400)]
WAVE = np.sin(np.arange(16000) * 0.2)
RESULTS = {
    "os-kdft": {"mean": 0.10, "low": 0.08, "high": 0.12, "seeds": [0.09, 0.11]},
    "scratch": {"mean": 0.20, "low": 0.17, "high": 0.22, "seeds": [0.19, 0.21]},
}
EXAMPLES = {
    "det": {"systems": {"a": scores.det_data(SCORES, LABELS)}},
    "histogram": {"scores": SCORES, "labels": LABELS, "threshold": 1.0},
    "trade_off": {"scores": SCORES, "labels": LABELS},
    "calibration": {"scores": SCORES, "labels": LABELS, "scale": 2.0, "offset": -2.0},
    "curves": {"rows": [{"step": n, "kd": 9 - n} for n in range(5)] + [{"step": 5}], "y": ["kd"]},
    "published_logs": {"ours": {"epochs": [1, 2], "eer": [0.3, 0.2]}},
    "schedule": {"rates": {"student": [0.0, 1e-4], "teacher": [0.0, 0.0]}},
    "bars": {"values": {"a": 3.0, "b": 2.0}, "unit": "s", "reference": {"b": 1.0}},
    "stacked": {"parts": {"a": {"CNN": 1.0, "layers": 3.0}, "b": {"CNN": 1.0}}, "unit": "s"},
    "intervals": {"results": RESULTS},
    "ablation": {"results": RESULTS, "baseline": "os-kdft"},
    "pareto": {"points": {"a": {"x": 1, "y": 2}}, "xlabel": "x", "ylabel": "y"},
    "growth": {"series": {"a": {"x": [1, 10], "y": [1, 100]}}, "xlabel": "n", "ylabel": "time [s]"},
    "layers": {"probes": {"speaker": [0.1, 0.3, 0.2], "words": [0.1, 0.2, 0.3]}, "ylabel": "accuracy"},
    "matrix": {"values": np.eye(3), "xlabel": "x", "ylabel": "y", "label": "CKA"},
    "gradient_flow": {"norms": {"adapters": {"KD": 0.0, "FT": 1.0}, "CNN": {"KD": 2.0, "FT": 1.0}}},
    "embedding_map": {"points": rng.normal(size=(24, 2)), "labels": [f"s{n % 12}" for n in range(24)]},
    "waves": {"clips": models.waves_data({"tone": WAVE, "half": WAVE / 2})},
    "heads": {"distances": [[10.0, 50.0], [100.0, 300.0]], "alike": 333.0},
    "trust": {"values": {"UMAP": [0.9, 0.8], "PCA": [0.7, 0.75]}, "k": [5, 10]},
    "method": {},
    "margin": {"radians": 0.3},
    "history": {"steps": [{"year": 2000, "name": "GMM", "words": "densities"}]},
    "paths": {
        "rows": [
            {"layer": n, "difference": n / 9, "distillation": 0.9, "verification": 0.5} for n in (1, 2)
        ]
    },
}  # fmt: skip


def saved(folder, name="a", **changes):
    data = {"values": {"x": 2.0, "y": 1.0}, "unit": "s"}
    store.save(name, folder, "bars", data, "Two bars.", **changes)
    return folder / f"{name}.json"


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


ODD = ["$_$", r"a$\foo$", "_ann", "b$", r"c\$d"]  # formulas, and what a legend leaves out
ONE = {"x": [1, 10], "y": [1, 100]}
ODDLY_NAMED = {
    "det": {"systems": dict.fromkeys(ODD, scores.det_data(SCORES, LABELS))},
    "curves": {"rows": [{"step": 1, "kd": 2.0}], "y": ["kd"] * len(ODD), "labels": ODD},
    "bars": {"values": dict.fromkeys(ODD, 1.0), "unit": "s"},
    "stacked": {"parts": dict.fromkeys(ODD, dict.fromkeys(ODD, 1.0)), "unit": "s"},
    "intervals": {"results": dict.fromkeys(ODD, RESULTS["scratch"])},
    "ablation": {"results": dict.fromkeys(ODD, RESULTS["scratch"]), "baseline": ODD[1]},
    "pareto": {"points": dict.fromkeys(ODD, {"x": 1, "y": 2}), "xlabel": "x", "ylabel": "y"},
    "growth": {"series": dict.fromkeys(ODD, ONE), "xlabel": "n", "ylabel": "time [s]"},
    "layers": {"probes": dict.fromkeys(ODD, [0.1, 0.3]), "ylabel": "accuracy"},
    "embedding_map": {"points": np.eye(5)[:, :2], "labels": ODD, "title": ODD[1]},
    "waves": {"clips": dict.fromkeys(ODD, models.waves_data({"tone": WAVE})["tone"])},
    "trust": {"values": dict.fromkeys(ODD, [0.9, 0.8]), "k": [5, 10]},
    "history": {"steps": [{"year": 2000, "name": odd, "words": "new"} for odd in ODD]},
}  # fmt: skip


@pytest.mark.parametrize("name", ODDLY_NAMED)
def test_names_from_outside_are_shown_letter_by_letter(name: str):
    figure = store.draw(name, ODDLY_NAMED[name])
    with warnings.catch_warnings(action="error", category=UserWarning):  # a sign the font lacks
        pixels(figure)
    shown = [text.get_text().replace(r"\$", "$") for text in figure.findobj(Text)]
    assert not [odd for odd in ODD if not any(odd in text for text in shown)]


def test_every_plot_has_an_example():
    assert set(EXAMPLES) == set(plots.PLOTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_picture_is_readable_and_described(name: str):
    figure = store.draw(name, EXAMPLES[name])
    written = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert written and min(text.get_fontsize() for text in written) >= 11
    axes = [ax for ax in figure.axes if ax.axison]
    outer = [
        ax for ax in axes if ax.get_subplotspec() is None or ax.get_subplotspec().is_last_row()
    ]
    assert all(ax.get_xlabel() or ax.get_ylabel() for ax in outer)
    assert figure.alt.endswith(".") and len(figure.alt) > 20
    drawn = pixels(figure)[..., :3].min(-1)
    border = [drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]]
    assert all((edge == 255).all() for edge in border)  # nothing is cut off at the picture's edge


def test_no_state_leaks():
    settings = dict(mpl.rcParams)
    for name in EXAMPLES:
        store.draw(name, EXAMPLES[name])
    assert plt.get_fignums() == [] and dict(mpl.rcParams) == settings


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("det", {"systems": {}}, "systems"),
        ("layers", {"probes": {}}, "probes"),
        ("layers", {"best": "top"}, "max"),
        ("curves", {"y": ["loss"]}, "'loss'; there are step, kd"),
        ("ablation", {"baseline": "none"}, "os-kdft, scratch"),
        ("ablation", {"results": {"os-kdft": RESULTS["os-kdft"]}}, "baseline"),
        ("growth", {"series": {"a": {"x": [0, 1], "y": [1, 2]}}}, "a holds"),
        ("embedding_map", {"labels": ["one"]}, "Length of values"),
        ("gradient_flow", {"norms": {"a": {"KD": 1}, "b": {"FT": 1}}}, "b has losses"),
        ("waves", {"clips": {}}, "clips"),
        ("histogram", {"labels": LABELS * 0}, "target"),
        ("bars", {"whole": 2.5}, "a bar of 3 is above the whole, 2.5"),
        ("stacked", {"parts": {"a": {"CNN": -1.0}}}, "negative"),
        ("curves", {"bands": {"kd": ["low", "high"]}}, "'low'"),
        ("margin", {"radians": 2.0}, "0 to 1 rad"),
        ("history", {"steps": [{"year": 1, "name": "b"}, {"year": 0, "name": "a"}]}, "order"),
        ("method", {"teacher_layers": 6}, r"KD layers \[4, 8, 12\]; give layers from 1 to 6"),
    ],
)
def test_bad_input_is_refused_by_name(name: str, change: dict, word: str):
    with pytest.raises(ValueError, match=word):
        store.draw(name, EXAMPLES[name] | change)


def test_baselines_are_drawn_and_named():
    entry = scores.det_data(SCORES, LABELS) | {"mean": 0.31, "low": 0.25, "high": 0.4}
    chance = {"mean": 0.5, "eer": 0.5, "miss": [0.0, 1.0], "false_alarm": [1.0, 0.0]}
    baselines = {"MFCC": entry, "chance": chance}
    alone, beside = (
        scores.intervals(RESULTS, baselines=given).axes[0] for given in (None, baselines)
    )
    assert len(beside.lines) == len(alone.lines) + 2 and len(beside.patches) == 1
    assert beside.figure.alt.endswith(
        "Without training: MFCC 31.00 % (25.00 to 40.00) and chance 50.00 %."
    )
    systems = {"ours": scores.det_data(SCORES, LABELS)}
    figure = scores.det(systems, baselines)
    assert "Without training: MFCC" in figure.alt and "chance 50.00 %." in figure.alt
    assert figure.axes[0].get_xlim()[1] > 0, "chance, 50 %, is inside the axes"
    figure = results.layers({"teacher": [0.32, 0.3]}, "EER", "min", {"MFCC": entry, "chance": 0.5})
    assert figure.alt.endswith("MFCC 31.00 % (25.00 to 40.00) and chance 50.00 %.")
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels[1:] == ["MFCC: 31.0 %", "chance: 50.0 %, off the chart"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_legend_outside_the_axes_is_small(name: str):
    figure = store.draw(name, EXAMPLES[name])
    pixels(figure)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.width * box.height < 0.25 * figure.bbox.width * figure.bbox.height


def test_differences_have_a_zero_line_and_points():
    change = {"b": {"mean": -0.01, "low": -0.02, "high": 0.005}}
    figure = scores.intervals(change, "EER minus that of a", difference=True)
    ax = figure.axes[0]
    assert "[percentage points]" in ax.get_xlabel()
    assert [0, 0] in [list(line.get_xdata()) for line in ax.lines]
    assert figure.alt.endswith("b -1.00 points (-2.00 to +0.50).")
    [texts] = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert texts == ["95 % interval over speakers", "point estimate"]


def test_an_ablation_shows_the_interval_of_each_difference():
    results = {"full": {"mean": 0.1, "seeds": [0.1]}, "less": {"mean": 0.12, "seeds": [0.12]}}
    results["less"]["minus"] = {"low": -0.01, "high": 0.05}
    figure = scores.ablation(results, "full")
    spans = [line.get_xdata() for line in figure.axes[0].lines if "interval" in line.get_label()]
    assert len(spans) == 1 and spans[0] == pytest.approx([-1.0, 5.0])
    assert figure.alt == "EER against full (10.00 %): less +2.00 points (-1.00 to +5.00)."


def test_parts_of_a_bar_follow_each_other():
    figure = results.stacked({"a": {"CNN": 1.0, "layers": 3.0}, "b": {"CNN": 1.0}}, "s")
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0.0, 1.0), (1.0, 3.0), (0.0, 1.0)]
    colours = [bar.get_facecolor() for bar in figure.axes[0].patches]
    assert colours[0] == colours[2] != colours[1], "a part has one colour in all bars"


def test_shares_end_at_the_whole_with_their_numbers_inside():
    ax = results.bars({"a": 77.4, "b": 3.0}, "%", whole=100.0).axes[0]
    assert ax.get_xlim() == (0, 100)
    assert [text.xy[0] for text in ax.texts] == [0, 3.0], "a short bar has room beside it"


def test_the_method_shows_what_kd_reads_and_what_the_back_end_sums():
    figure = method.method(12, 2, [4, 8, 12])
    ax = figure.axes[0]
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    drops = [line.get_xdata()[0] for line in ax.lines if list(line.get_ydata()) == [47.5, 43.2]]
    assert drops == pytest.approx([places[layer] for layer in ("4", "8", "12")])
    assert "back-end:\nweighted sum\nof all states" in places
    assert len(method.drawing(new()[1])["gradients"]) == 8, "of both losses, back to the CNN"


def test_a_name_stands_in_its_circle():
    ax = results.pareto({"0": {"x": 1, "y": 2}, "1": {"x": 1.1, "y": 2.1}}, "x", "y").axes[0]
    assert {text.get_text(): text.get_position() for text in ax.texts} == {
        "0": (1, 2),
        "1": (1.1, 2.1),
    }


def test_bands_span_their_ends():
    rows = [{"step": n, "rate": 5.0, "low": 5.0 - n, "high": 5.0 + n} for n in (1, 2)]
    bands = {"bands": {"rate": ["low", "high"]}, "band": "95 % interval"}
    figure = results.curves(rows, ["rate"], **bands, baselines={"chance": 0.02})
    [band] = figure.axes[0].collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} >= {
        (1, 4),
        (2, 3),
        (1, 6),
        (2, 7),
    }
    assert figure.alt.endswith(" Bands: 95 % interval. Without training: chance 2.00 %.")
    spans = {"bands": {"a": [[0.1, 0.3], [0.2, 0.4]]}, "band": "95 % interval"}
    [band] = results.layers({"a": [0.2, 0.3]}, "EER", **spans).axes[0].collections
    ends = {(round(x), round(y)) for x, y in band.get_paths()[0].vertices}
    assert ends == {(0, 10), (0, 30), (1, 20), (1, 40)}


def test_alternative_text_names_the_lowest_curve():
    good, bad = scores.det_data(SCORES, LABELS), scores.det_data(-SCORES, LABELS)
    for systems in ({"first": good, "second": bad}, {"second": bad, "first": good}):
        assert f"Lowest EER: first, {100 * good['eer']:.2f} %" in scores.det(systems).alt
    swapped = scores.det({"first": bad, "second": good})
    assert "Lowest EER: second" in swapped.alt


def test_det_data_is_thinned_without_leaving_the_curve():
    labels = np.repeat([1, 0], [3000, 30000])
    scores = np.r_[rng.normal(2, 1, 3000), rng.normal(0, 1, 30000)]
    thin = det_data(scores, labels)
    assert len(thin["miss"]) == len(thin["false_alarm"]) <= 400
    assert thin["eer"] == metrics.eer(scores, labels)[0]
    miss, false_alarm, _ = metrics.det_points(scores, labels)
    assert set(zip(thin["miss"], thin["false_alarm"], strict=True)) <= set(
        zip(miss.tolist(), false_alarm.tolist(), strict=True)
    )
    gaps = np.abs(np.diff(thin["miss"])) + np.abs(np.diff(thin["false_alarm"]))
    assert gaps.max() < 0.03


def test_unreached_parameters_show_a_zero():
    figure = models.gradient_flow(EXAMPLES["gradient_flow"]["norms"])
    assert [text.get_text() for text in figure.axes[0].texts].count("0") == 1
    assert "KD reaches CNN but not adapters; FT reaches everything" in figure.alt
    none = models.gradient_flow({"CNN": {"KD": 0.0}})
    assert none.alt == "Gradient norms: KD reaches nothing."


def test_published_and_own_rates_never_share_axes():
    assert len(results.published_logs().axes) == 1
    published, own = results.published_logs({"epochs": [1], "eer": [0.3]}).axes
    assert len(own.lines) == 1 and own.lines[0].get_ydata() == pytest.approx([30.0])
    assert "Vox1-O" in published.get_ylabel() and "not comparable" in own.get_title()


def test_ablation_takes_differences_seed_by_seed():
    lines = scores.ablation(RESULTS, "os-kdft").axes[0].lines
    seeds = [line for line in lines if line.get_label() == "one seed"]
    assert seeds[0].get_xdata() == pytest.approx([10.0, 10.0])


def test_waves_store_little_and_refuse_short_clips():
    long = models.waves_data({"minute": np.tile(WAVE, 60)})
    assert len(json.dumps(long)) < 200_000
    with pytest.raises(ValueError, match=r"short has shape \(10,\); give \[N\] samples"):
        models.waves_data({"short": WAVE[:10]})


def test_notebook_shows_the_alternative_text():
    data, about = DisplayFormatter().format(store.draw("bars", EXAMPLES["bars"]))
    assert data["image/png"] and data["text/plain"].startswith("Bars in s")
    assert about["image/png"]["alt"] == data["text/plain"]


def test_saved_record_tells_where_it_comes_from(tmp_path):
    path = saved(tmp_path, config={"lr": 1e-4}, seed=7, note="Random weights.")
    record = json.loads(path.read_text())
    assert record["config"] == {"lr": 1e-4} and record["seed"] == 7
    assert record["caption"] == "Two bars." and record["alt"].endswith("Random weights.")
    assert {"versions", "device", "date", "commit"} <= set(record)
    about = Image.open(path.with_suffix(".png")).info
    assert about["Description"] == record["alt"] and about["dpi"] == pytest.approx(
        (150, 150), abs=0.1
    )
    assert record["alt"] in path.with_suffix(".svg").read_text()


def test_same_numbers_give_the_same_bytes(tmp_path):
    first, second = saved(tmp_path / "1"), saved(tmp_path / "2")
    for ending in (".png", ".svg", ".json"):
        assert first.with_suffix(ending).read_bytes() == second.with_suffix(ending).read_bytes()


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="replace=True"):
        saved(tmp_path, seed=1)
    assert path.read_bytes() == before
    saved(tmp_path, seed=1, replace=True)
    assert json.loads(path.read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("value", "where"),
    [(float("nan"), r"data.values.x is nan"), (object(), "data.values.x is a object")],
)
def test_numbers_that_cannot_be_stored_are_named(tmp_path, value, where):
    with pytest.raises(ValueError, match=where):
        store.save("a", tmp_path, "bars", {"values": {"x": value}, "unit": "s"}, "")
    assert not list(tmp_path.iterdir())


def test_unknown_plot_is_refused():
    with pytest.raises(ValueError, match="no plot called 'pie'; there are det"):
        store.draw("pie", {})


@pytest.mark.slow
def test_check_accepts_what_was_saved(tmp_path):
    for name in EXAMPLES:
        store.save(name, tmp_path, name, EXAMPLES[name], "")
    results = store.check(tmp_path)
    assert [result["name"] for result in results] == sorted(EXAMPLES)
    assert all(result["ok"] and result["difference"] == 0 for result in results)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_check_finds_a_changed_number(tmp_path):
    path = saved(tmp_path)
    edit(path, data={"values": {"x": 2.00001, "y": 1.0}, "unit": "s"})  # not a pixel moves
    (result,) = store.check(tmp_path)
    assert not result["ok"] and "a.json does not hold the numbers" in result["why"]


def test_check_finds_a_changed_picture(tmp_path):
    path = saved(tmp_path)
    stored = Image.open(path.with_suffix(".png"))
    about = PngInfo()
    for key, value in stored.text.items():
        about.add_text(key, value)
    stored.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path.with_suffix(".png"), pnginfo=about)
    (result,) = store.check(tmp_path)
    assert not result["ok"] and result["difference"] > store.GREY_TOLERANCE


def test_check_finds_a_changed_description(tmp_path):
    edit(saved(tmp_path), alt="Something else.")
    assert "alternative text" in store.check(tmp_path)[0]["why"]


@pytest.mark.parametrize("ending", [".json", ".png", ".svg"])
def test_check_names_the_missing_file(tmp_path, ending: str):
    saved(tmp_path).with_suffix(ending).unlink()
    (result,) = store.check(tmp_path)
    assert result["why"] == f"a{ending} is missing"


def test_redraw_restores_pictures(tmp_path):
    path = saved(tmp_path)
    before = {ending: path.with_suffix(ending).read_bytes() for ending in (".png", ".svg", ".json")}
    path.with_suffix(".png").unlink()
    path.with_suffix(".svg").write_text("damaged")
    assert store.redraw_all(tmp_path) == [path.with_suffix(".png")]
    assert before == {ending: path.with_suffix(ending).read_bytes() for ending in before}


def command(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["oskdft", "figures", *map(str, words)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code or 0


def test_command_redraws_and_checks(tmp_path, monkeypatch, capsys):
    saved(tmp_path)
    path = saved(tmp_path, "b")
    assert command(monkeypatch, "--check", "--folder", tmp_path) == 0
    assert capsys.readouterr().out == "ok       a\nok       b\n"
    edit(path, data={"values": {"x": 5.0}, "unit": "s"})
    assert command(monkeypatch, "--check", "--folder", tmp_path) == 1
    assert f"oskdft: {tmp_path}/b: b.json does not hold the numbers" in capsys.readouterr().err
    assert command(monkeypatch, "--folder", tmp_path) == 0
    assert command(monkeypatch, "--check", "--folder", tmp_path) == 0
    path.unlink()
    assert command(monkeypatch, "--folder", tmp_path) == 1
    assert f"No such file or directory: '{path}'" in capsys.readouterr().err


def test_command_names_an_empty_folder(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "--folder", tmp_path / "none") == 1
    assert "no figures in" in capsys.readouterr().err
