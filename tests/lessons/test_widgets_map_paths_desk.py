"""Embedding map, two-path viewer and training desk, driven as a person would."""

import asyncio
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from oskdft import config
from oskdft.evaluation import scoring
from oskdft.lessons.lesson import Lesson, setup
from oskdft.lessons.widgets.desk import HELP, training_desk
from oskdft.lessons.widgets.embeddings import embedding_map
from oskdft.lessons.widgets.paths import likeness, two_paths
from oskdft.method import student
from oskdft.method.encoder import hidden_states
from oskdft.storage import pretrained
from oskdft.training import run_folder, train
from oskdft.utils.files import read_json

SPEAKERS = ["ann", "ann", "bob", "bob", "cyd", "cyd"]
NAMES = [f"{who}/{place}.wav" for place, who in enumerate(SPEAKERS)]
LABELS = {"speaker": SPEAKERS, "gender": ["f", "f", "m", "m", "f", "f"]}


@pytest.fixture
def drawn(recordings):
    """Map widget of six clips in two systems; the last clip is a file, the others are waves."""
    rng = np.random.default_rng(0)
    spaces = {"one": rng.normal(size=(6, 8)), "two": rng.normal(size=(6, 4))}
    maps = {name: points[:, :2] for name, points in spaces.items()}
    clips = [np.full(800, (place + 1) / 10) for place in range(5)] + [recordings / "s0/0.wav"]
    return embedding_map(maps, spaces, clips, LABELS, NAMES)


def heard(player) -> np.ndarray:
    return soundfile.read(io.BytesIO(player.value))[0]


def test_map_starts_still_and_silent(drawn):
    assert not drawn.player.autoplay and not drawn.status.bad
    assert drawn.status.text.startswith("ann/0.wav (ann, f).")
    still = drawn.still()
    assert "map of 6 embeddings in 3 groups" in still["text/plain"]
    assert "data:image/png;base64," in still["text/html"]


def test_map_click_plays_that_clip(drawn):
    for place in (3, 1, 1):  # the second time it is heard again
        before = drawn.player.value
        drawn.points[place].click()
        assert drawn.player.value != before
        assert drawn.clip.value == place and drawn.player.autoplay
        assert np.allclose(heard(drawn.player)[:800], (place + 1) / 10, atol=1e-4)
        assert drawn.player.tooltip == drawn.points[place].tooltip == NAMES[place]
    drawn.points[5].click()
    assert len(heard(drawn.player)) == round(0.7 * 16000)


def test_map_neighbours_are_those_of_the_space(drawn):
    for system in ("one", "two"):
        drawn.system.value = system
        for place in (0, 4):
            drawn.clip.value = place
            unit = scoring.normalise(drawn.spaces[system])
            cosines = unit @ unit[place]
            wanted = [row for row in np.argsort(-cosines) if row != place]
            listed = drawn.status.text.splitlines()[2:7]
            assert listed == [
                f"{rank}. {cosines[row]:.3f} {NAMES[row]} ({SPEAKERS[row]})"
                for rank, row in enumerate(wanted, 1)
            ]
            assert system in drawn.status.text.splitlines()[1]
            drawn.plays[1].click()
            assert drawn.player.tooltip == NAMES[wanted[1]] and drawn.clip.value == place


def test_map_buttons_lie_on_their_points(drawn):
    before = drawn.rules.value
    figure, points = drawn.screen.figure, drawn.maps["UMAP", "one", 0]
    x, y = figure.axes[0].transData.transform(points[2]) / figure.bbox.size * 100
    assert f":nth-child(4) {{left: {x:.2f}%; top: {100 - y:.2f}%}}" in before
    drawn.system.value = "two"
    assert drawn.rules.value != before


def test_map_colour_changes_the_picture(drawn):
    before = drawn.screen.image.value
    drawn.colour.value = "gender"
    assert drawn.screen.image.value != before and "in 2 groups" in drawn.screen.alt
    chosen = drawn.screen.moving[-1].get_xydata()
    assert np.allclose(chosen, drawn.maps["UMAP", "one", 0][[0]])


def test_map_of_pca_is_the_shadow_and_keeps_the_true_neighbours(drawn):
    """By hand: the two right singular vectors of the centred space, whatever their signs."""
    before, hint = drawn.screen.image.value, drawn.hint.text
    near = drawn.status.text.splitlines()[2:7]
    drawn.kind.value = "PCA"
    assert not drawn.status.bad and drawn.screen.image.value != before and drawn.hint.text != hint
    centred = drawn.spaces["one"] - drawn.spaces["one"].mean(0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    chosen = drawn.screen.moving[-1].get_xydata()
    assert np.allclose(abs(chosen), abs(places[[0]]), atol=1e-6)
    assert drawn.status.text.splitlines()[2:7] == near, "the space is the same"
    assert drawn.seed.disabled, "a shadow has no seed"


def test_map_is_drawn_again_with_another_seed_once():
    asked = []

    def draw(points, seed):
        asked.append(seed)
        return np.random.default_rng(seed).normal(size=(len(points), 2))

    space = {"one": np.random.default_rng(0).normal(size=(6, 8))}
    maps = {"one": draw(space["one"], 3)}
    widget = embedding_map(maps, space, [np.zeros(160)] * 6, LABELS, NAMES, draw, 3)
    assert widget.seed.value == 3 and not widget.seed.disabled
    near = widget.status.text.splitlines()[2:7]
    for seed in (4, 3, 4):
        before = widget.screen.image.value
        widget.seed.value = seed
        assert not widget.status.bad and widget.screen.image.value != before
        chosen = widget.screen.moving[-1].get_xydata()
        wanted = np.random.default_rng(seed).normal(size=(6, 2))[[0]]
        assert np.allclose(chosen, wanted) and widget.status.text.splitlines()[2:7] == near
    assert asked == [3, 4]


def test_map_says_that_a_clip_is_missing_and_goes_on(drawn, tmp_path):
    drawn.clips[2] = tmp_path / "gone.wav"
    drawn.points[2].click()
    assert drawn.status.bad and "gone.wav" in drawn.status.text
    assert "\n" not in drawn.status.text
    drawn.points[3].click()
    assert not drawn.status.bad and np.allclose(heard(drawn.player), 0.4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": NAMES[:5]}, "map one has 6 entries, names has 5; give one each"),
        ({"labels": {"speaker": SPEAKERS[1:]}}, "labels speaker has 5 entries, names has 6"),
        ({"spaces": {"other": np.ones((6, 2))}}, "maps of one, spaces of other; give the same"),
        ({"labels": {}}, "labels is empty; give at least one to draw"),
    ],
)
def test_map_refuses(change, says):
    points = np.ones((6, 2))
    given = {"maps": {"one": points}, "spaces": {"one": points}, "clips": [np.zeros(9)] * 6}
    with pytest.raises(ValueError, match=says):
        embedding_map(**(given | {"labels": LABELS, "names": NAMES} | change))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return pretrained.load_encoder("tiny-random-hubert").eval()


def new_student(encoder, **changes) -> student.Student:
    cfg = config.load("smoke").override({"model.student_layers": 2} | changes)
    made = student.from_teacher(encoder, cfg.model, cfg.switches)
    for adapter in made.adapters:
        torch.nn.init.normal_(adapter.up.weight, std=0.3)
    return made.eval()


@pytest.fixture
def clips() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"short": 0.1 * rng.normal(size=8000), "long": 0.1 * rng.normal(size=12000)}


def test_paths_show_what_the_student_computes(encoder, clips):
    made = new_student(encoder)
    view = two_paths(made, encoder, clips)
    for name in ("long", "short"):
        view.utterance.value = name
        wave = torch.tensor(clips[name], dtype=torch.float32)[None]
        with torch.no_grad():
            distilled, verified = (x[:, 0].numpy() for x in made.forward_two_paths(wave))
            target = hidden_states(encoder, wave)[:, 0].numpy()
        assert len(heard(view.player)) == len(clips[name])
        for layer in range(3):
            view.layer.value = layer
            d, v = distilled[layer], verified[layer]
            images = [image.get_array() for image in view.screen.moving[:3]]
            for image, wanted in zip(images, (d, v, v - d), strict=True):
                assert np.allclose(image, wanted.T, atol=1e-6)
            apart = np.linalg.norm(v - d) / np.linalg.norm(d)
            lengths = np.linalg.norm(v, axis=1) * np.linalg.norm(target[layer], axis=1)
            cosine = np.mean((v * target[layer]).sum(1) / lengths)
            assert f"relative difference of the paths {apart:.3g};" in view.status.text
            assert view.status.text.endswith(f"verification path {cosine:.3f}.")
            assert (apart > 0) == (layer > 0)


def test_paths_without_adapters_are_one(encoder, clips):
    view = two_paths(new_student(encoder), encoder, clips)
    before = view.screen.image.value
    view.adapters.value = False
    difference = view.screen.moving[2].get_array()
    assert not np.any(difference) and view.screen.image.value != before
    assert view.status.text.startswith("Adapters off") and "the paths 0;" in view.status.text
    one, two = view.screen.moving[-2:]
    assert np.array_equal(one.get_ydata(), two.get_ydata())
    view.adapters.value = True
    assert np.any(view.screen.moving[2].get_array())


def test_paths_of_a_student_that_has_no_adapters(encoder, clips):
    view = two_paths(new_student(encoder, **{"model.adapter_units": 0}), encoder, clips)
    assert view.adapters.disabled and not view.adapters.value
    assert view.status.text.startswith("This student has no adapters, so both paths are one.")
    assert not np.any(view.screen.moving[2].get_array())


def test_paths_slider_computes_nothing_again(encoder, clips, monkeypatch):
    made = new_student(encoder)
    view = two_paths(made, encoder, clips)
    monkeypatch.setattr(made, "forward_two_paths", None)
    view.layer.value, view.adapters.value = 1, False
    assert not view.status.bad and "State 1" in view.status.text


def test_paths_say_that_an_utterance_is_too_long(encoder, clips):
    view = two_paths(new_student(encoder), encoder, clips | {"lecture": np.zeros(21 * 16000)})
    view.utterance.value = "lecture"
    assert view.status.bad and view.status.text == "lecture is 21 s long; cut it to at most 20 s"
    view.utterance.value = "long"
    assert not view.status.bad


def test_likeness_of_a_state_with_itself():
    states = np.random.default_rng(0).normal(size=(3, 5, 4))
    assert np.allclose(np.diag(likeness(states, states)), 1)


LONG_ENOUGH = {"train.epochs": 12, "train.validate_every": 12}  # to be stopped on the way
MEASURED = ("step", "epoch", "loss", "sv", "kd_excess", "accuracy", "lr_body")  # not: speed


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> Lesson:
    return setup("04", "smoke", device="cpu", output_dir=str(tmp_path_factory.mktemp("desk")))


async def until(holds, seconds: float = 400) -> None:
    """Let the event loop run until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.02)


def pressable(desk) -> list[str]:
    buttons = (desk.start, desk.stop, desk.resume)
    return [button.description for button in buttons if not button.disabled]


@pytest.mark.slow
def test_desk_start_stop_resume_equals_one_go(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr("oskdft.lessons.widgets.desk.LOOK_EVERY_S", 0.02)
    desk = training_desk(lesson, LONG_ENOUGH)
    assert desk.status.text == HELP and pressable(desk) == ["Start"] and not desk.screens
    assert not desk.worker.out.exists(), "nothing is trained before a click"

    async def lecture() -> None:
        desk.start.click()
        assert pressable(desk) == ["Stop"]
        await until(lambda: desk.rows)
        assert "running:" in desk.status.text and "of 12 epochs" in desk.status.text
        desk.stop.click()
        assert desk.status.text.startswith("stopping") and pressable(desk) == []
        await desk.watch
        assert pressable(desk) == ["Resume"] and desk.status.text.startswith("stopped: ")
        assert 0 < len(desk.rows) < 12
        first = bytes(desk.screen.image.value)
        desk.resume.click()
        await until(lambda: desk.worker.state != "running")
        await desk.watch
        assert pressable(desk) == [] and desk.status.text.startswith("finished: 12 of 12 epochs")
        assert desk.screen.image.value != first

    asyncio.run(lecture())
    train.train(lesson.cfg.override(LONG_ENOUGH), tmp_path / "whole")
    whole = run_folder.read_metrics(tmp_path / "whole" / "metrics.csv")
    ours = [{name: row[name] for name in MEASURED} for row in desk.worker.rows()]
    assert ours == [{name: row[name] for name in MEASURED} for row in whole] and len(ours) == 12
    again = training_desk(lesson, LONG_ENOUGH)
    assert again.status.text == desk.status.text and len(again.screens) == 1
    assert "data:image/png;base64," in again.still()["text/html"]
    eer = read_json(desk.worker.out / "report.json")["validations"][-1]["dev_eer"]
    assert f"development EER {100 * eer:.1f} %" in again.status.text
    name = again.name
    again.kd_weight.value, again.adapters.value = "x 0.1", "none, one path"
    assert pressable(again) == ["Start"] and again.worker.cfg.strategy == "joint-no-adapter"
    assert again.worker.cfg.loss.kd_weight == pytest.approx(0.1 * lesson.cfg.loss.kd_weight)
    assert again.screen.image.layout.display == "none" and name in again.beside.options
    shutil.copytree(desk.worker.out, again.worker.out)  # as if these settings had been trained
    again.choose()
    again.beside.value = name
    assert again.screen.alt.startswith(f"Curves of {again.name} and {name}. Development EER")
    axes = again.screen.figure.axes
    assert [len(ax.lines) for ax in axes] == [4, 2]
    assert axes[1].lines[1].get_ydata()[-1] == pytest.approx(100 * eer)


@pytest.mark.slow
def test_desk_says_why_a_run_fails(lesson):
    """The folder holds a run of another configuration: refused by the process, said in a line."""
    desk = training_desk(lesson, {"seed": 7})
    desk.worker.out.mkdir(parents=True)
    (desk.worker.out / "config.yaml").write_text(config.to_yaml(lesson.cfg))
    desk.look()

    async def lecture() -> None:
        desk.resume.click()
        await desk.watch

    asyncio.run(lecture())
    assert desk.status.bad and "\n" not in desk.status.text
    assert "is a run of another configuration: seed is 0 there, 7 now" in desk.status.text


PARENT = """
import sys, time
from pathlib import Path
from oskdft import config; from oskdft.training import background as worker
made = worker.Worker(config.load(sys.argv[1]), Path(sys.argv[2]))
made.start()
print(made.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_training_ends_with_a_kernel_that_is_killed(lesson, tmp_path):
    """SIGKILL gives the parent no time to say goodbye; the run is saved and ends all the same."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(config.to_yaml(lesson.cfg.override(LONG_ENOUGH | {"train.epochs": 3000})))
    words = [sys.executable, "-c", PARENT, str(recipe), str(out)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    asyncio.run(until(lambda: (out / "metrics.csv").is_file()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    log = out.with_suffix(".log")
    asyncio.run(until(lambda: "stopped after step" in log.read_text()))
    asyncio.run(until(lambda: not running(child)))
    assert run_folder.last_state(out)["step"] > 0


def running(process: int) -> bool:
    """Whether a process is there and no zombie."""
    words = ["ps", "-o", "stat=", "-p", str(process)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")
