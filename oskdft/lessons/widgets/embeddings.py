"""Embedding map: hover names a clip, a click plays it; neighbours are found in the embedding space.

Each point is a transparent button over the picture: the browser supplies the name on hovering, the
click, and the name for screen readers. The list of clips serves the keyboard. Beside the drawing that
is given (UMAP, with a seed) there is PCA of the same space.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ipywidgets import HTML, BoundedIntText, Box, Button, ButtonStyle, Dropdown, HBox, Layout, VBox
from matplotlib.artist import Artist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from oskdft.lessons.figures import models
from oskdft.lessons.figures.style import Picture, needed
from oskdft.lessons.widgets.parts import Panel, Screen, Status, player, wav, wide
from oskdft.speech import audio

NEAR = 5  # neighbours that are listed
MOST = 400  # points; each is a button
GROUPS = 20  # labels that a legend can hold
HIGHEST_SEED = 9999
SHADOW, DRAWING = "PCA", "UMAP"
HINTS = {
    DRAWING: "UMAP keeps neighbourhoods and gives up distances: gaps between groups mean little.",
    SHADOW: "PCA is a shadow: distances only shrink, so far points are far, near points may not be.",
}
STYLE = """
FIELD {position: relative; max-width: 100%}
FIELD > button {position: absolute; width: 18px; height: 18px; min-width: 0; margin: -9px 0 0 -9px;
  padding: 0; border-radius: 50%; box-shadow: none !important}
FIELD > button:hover {outline: 3px solid #b00020}
"""


def neighbours(
    points: np.ndarray, count: int, metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other points of each point, nearest first: distances and rows, both [n, count].

    Args:
        points: [n, E] embeddings, or places on a map. metric: of scikit-learn.

    >>> distances, rows = neighbours(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 1)
    >>> rows[0].tolist(), (1 - distances[0]).round(3).tolist()
    ([2], [0.707])
    """
    return NearestNeighbors(n_neighbors=count, metric=metric).fit(points).kneighbors()


class EmbeddingMap(Panel):
    """A map of embeddings to hover over and hear, with the neighbours in the embedding space.

    Args:
        maps: system -> [n, 2], of UMAP. spaces: system -> [n, E], the embeddings behind the map.
        clips: [n] waves at 16 kHz, or files. labels: kind -> [n], such as the speakers.
        names: [n] of the clips. draw: (space, seed) -> [n, 2], for maps of other seeds; None: the seed
            is fixed. seed: of ``maps``, 0 to 9999.
    Raises:
        ValueError: lengths or systems that differ, nothing to show, too many points.

    >>> space = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> waves, who = [np.zeros(160)] * 3, {"speaker": ["ann", "ann", "bob"]}
    >>> widget = embedding_map({"mine": space}, {"mine": space}, waves, who, ["a1", "a2", "b1"])
    >>> widget.status.text.splitlines()[2]
    '1. 0.994 a2 (ann)'
    """

    def __init__(
        self,
        maps: dict[str, np.ndarray],
        spaces: dict[str, np.ndarray],
        clips: Sequence[np.ndarray | str | Path],
        labels: dict[str, Sequence[str]],
        names: Sequence[str],
        draw: Callable[[np.ndarray, int], np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        _check(maps, spaces, clips, labels, names)
        self.draw = draw
        # by kind, system and seed; PCA has no seed
        self.maps = {(DRAWING, name, seed): np.asarray(p, dtype=float) for name, p in maps.items()}
        for name, points in spaces.items():
            self.maps[SHADOW, name, None] = PCA(2, random_state=0).fit_transform(points)
        self.spaces, self.clips, self.labels, self.names = spaces, clips, labels, list(names)
        self._make_controls(list(maps), seed)
        self.screen, self.status, self.hint = Screen(*self._figure()), Status(), Status()
        self._place_points()
        self._show_chosen()
        self.status.guard(self._load)(self.clip.value)
        super().__init__([self._arranged()], [self.screen], [self.status])
        self._listen()

    def _make_controls(self, systems: list[str], seed: int) -> None:
        self.system = Dropdown(options=systems, description="system", **wide("98%"))
        self.kind = Dropdown(options=(DRAWING, SHADOW), description="map", **wide("150px"))
        self.seed = BoundedIntText(
            seed, 0, HIGHEST_SEED, description="seed", disabled=self.draw is None, **wide("120px")
        )
        self.colour = Dropdown(options=list(self.labels), description="colour", **wide("98%"))
        choices = [(name, index) for index, name in enumerate(self.names)]
        self.clip = Dropdown(options=choices, value=0, description="clip", **wide("98%"))
        shared = {"style": ButtonStyle(button_color="transparent"), "layout": Layout()}
        self.points = [Button(tooltip=name, tabbable=False, **shared) for name in self.names]
        self.rules = HTML(layout=Layout(display="none"))  # positions of the points
        self.player = player(np.zeros(1), "the chosen clip")
        count = min(NEAR, len(self.names) - 1)
        self.plays = [Button(layout=Layout(width="44px")) for _ in range(count)]

    def _arranged(self) -> HBox:
        """The picture under its buttons on the left, everything else on the right."""
        self.screen.image.layout = Layout(width="100%", height="auto", margin="0", display="block")
        self.field = Box([self.screen.image, *self.points, self.rules])
        self.field.layout = Layout(
            width="720px", display="block", overflow="visible", align_self="flex-start"
        )  # as high as the picture, so that buttons stay on their points
        self.field.add_class(f"map-{self.rules.model_id}")
        self.player.layout = Layout(width="98%")
        hear = HBox([Status("Hear:"), *self.plays])
        drawing = HBox([self.kind, self.seed])
        side = [self.system, drawing, self.colour, self.clip, self.player]
        side += [self.status, hear, self.hint]
        right = VBox(side, layout=Layout(width="350px"))
        return HBox([self.field, right], layout=Layout(flex_flow="row wrap"))

    def _listen(self) -> None:
        """Connect the controls; an error in a callback becomes a line in the widget."""
        when = self.status.when
        when(self._change_picture, self.system, self.colour, self.kind, self.seed)
        when(self._change_clip, self.clip)
        for index, point in enumerate(self.points):
            when(lambda index=index: self._click(index), point)
        for rank, button in enumerate(self.plays):
            when(lambda rank=rank: self.hear(self.near[rank]), button)

    def _click(self, index: int) -> None:
        if self.clip.value == index:
            self.hear(index)
        else:
            self.clip.value = index

    def _change_clip(self) -> None:
        self._show_chosen()
        self.hear(self.clip.value)

    def _points(self) -> np.ndarray:
        """[n, 2] of the present map; drawn now where this seed is new."""
        kind, system, seed = self.kind.value, self.system.value, self.seed.value
        place = (kind, system, seed if kind == DRAWING else None)
        if place not in self.maps:
            self.maps[place] = np.asarray(self.draw(self.spaces[system], seed), dtype=float)
        return self.maps[place]

    def _change_picture(self) -> None:
        self.seed.disabled = self.draw is None or self.kind.value == SHADOW
        self.screen.show(*self._figure())
        self._place_points()
        self._show_chosen()

    def hear(self, index: int) -> None:
        """Play a clip from its start, also when it is the clip that was played last."""
        self.player.autoplay = True
        self._load(index)

    def _load(self, index: int) -> None:
        clip = self.clips[index]
        wave = clip if isinstance(clip, np.ndarray) else audio.read(clip)
        if wav(wave) == self.player.value:  # equal values would not reach the front end
            wave = np.append(wave, 0)
        self.player.tooltip = self.names[index]
        self.player.value = wav(wave)

    def _figure(self) -> tuple[Picture, list[Artist]]:
        """The map, and the moving artists: lines to neighbours, neighbours, chosen clip."""
        labels = list(self.labels[self.colour.value])
        title = f"{self.kind.value}, {self.system.value}: {self.colour.value}"
        figure = models.embedding_map(self._points(), labels, title, len(set(labels)) <= GROUPS)
        ax, ring = figure.axes[0], {"marker": "o", "ls": "", "mfc": "none", "mec": "black"}
        (lines,) = ax.plot([], [], color="black", lw=1.2, ls=":")
        (near,) = ax.plot([], [], ms=14, mew=1.8, **ring)
        (chosen,) = ax.plot([], [], ms=19, mew=3, **ring)
        return figure, [lines, near, chosen]

    def _place_points(self) -> None:
        """Lay each button over its point, in per cent of the picture."""
        self.screen.refresh(self.screen.figure.alt)
        figure, points = self.screen.figure, self._points()
        x, y = (figure.axes[0].transData.transform(points) / figure.bbox.size).T * 100
        field = f".map-{self.rules.model_id}"
        rules = [
            f"{field} > :nth-child({n}) {{left: {a:.2f}%; top: {100 - b:.2f}%}}"
            for n, a, b in zip(range(2, len(x) + 2), x, y, strict=True)  # 1 is the picture
        ]
        self.rules.value = f"<style>{STYLE.replace('FIELD', field)}{' '.join(rules)}</style>"

    def _show_chosen(self) -> None:
        """Mark the chosen clip and its neighbours, and list them."""
        chosen_row = self.clip.value
        system = self.system.value
        points = self._points()
        distances, rows = neighbours(self.spaces[system], len(self.plays))
        cosines, self.near = 1 - distances[chosen_row], rows[chosen_row]
        on_map = neighbours(points, len(self.plays), "euclidean")[1][chosen_row]
        both = len(np.intersect1d(self.near, on_map))
        lines, near, chosen = self.screen.moving
        spokes = np.repeat(points[self.near], 2, axis=0)
        spokes[::2] = points[chosen_row]  # chosen, neighbour, chosen, neighbour ...
        lines.set_data(*spokes.T)
        near.set_data(*points[self.near].T)
        chosen.set_data(*points[[chosen_row]].T)
        about = ", ".join(str(values[chosen_row]) for values in self.labels.values())
        text = [f"{self.names[chosen_row]} ({about})."]
        text.append(f"Nearest in the space ({system}), by cosine:")
        labels = self.labels[self.colour.value]
        for rank, (row, cosine) in enumerate(zip(self.near, cosines, strict=True), 1):
            text.append(f"{rank}. {cosine:.3f} {self.names[row]} ({labels[row]})")
            self.plays[rank - 1].description = str(rank)
            self.plays[rank - 1].tooltip = f"play {self.names[row]}"
        count = len(self.near)
        text.append(f"{both} of these {count} are among the {count} nearest on the map.")
        self.status.say("\n".join(text))
        self.hint.say(HINTS[self.kind.value])
        self.screen.draw(
            f"{self.screen.figure.alt} Marked: {self.names[chosen_row]} and its neighbours."
        )


def _check(maps: dict, spaces: dict, clips: Sequence, labels: dict, names: Sequence) -> None:
    """Refuse inputs of different lengths or systems, and too few or too many clips."""
    needed(maps, "maps")
    needed(labels, "labels")
    if maps.keys() != spaces.keys():
        raise ValueError(f"maps of {', '.join(maps)}, spaces of {', '.join(spaces)}; give the same")
    sizes = {f"map {name}": len(points) for name, points in maps.items()}
    sizes |= {f"space {name}": len(points) for name, points in spaces.items()}
    sizes |= {f"labels {kind}": len(values) for kind, values in labels.items()}
    sizes |= {"clips": len(clips)}
    for what, size in sizes.items():
        if size != len(names):
            raise ValueError(f"{what} has {size} entries, names has {len(names)}; give one each")
    if not 2 <= len(names) <= MOST:
        raise ValueError(f"{len(names)} clips; a map to click on takes 2 to {MOST}")


embedding_map = EmbeddingMap  # its name in notebooks
