"""Interactive widgets; without a live front end each shows a still of its first state.

- `who_is_it`: vote on two recordings, then truth, score and decision of a judge; noise and room on
  either; own recordings and voices by name, which can be forgotten.
- `det_explorer`: the operating point on DET curve, histogram and counts together; costs, callers.
- `gaussian_explorer`: the same for two Gaussians, with sliders for their distance and spread.
- `embedding_map`: hover names a clip, a click plays it; neighbours in the embedding space.
- `two_paths`: one utterance along both paths of a student, layer by layer.
- `training_desk`: start, watch, stop and resume a small run.
- `method_story`: the method in nine acts, with a slider.
"""

from oskdft.lessons.widgets.desk import training_desk
from oskdft.lessons.widgets.det import det_explorer
from oskdft.lessons.widgets.embeddings import embedding_map
from oskdft.lessons.widgets.gaussians import gaussian_explorer
from oskdft.lessons.widgets.paths import two_paths
from oskdft.lessons.widgets.story import method_story
from oskdft.lessons.widgets.who import who_is_it

__all__ = [
    "det_explorer",
    "embedding_map",
    "gaussian_explorer",
    "method_story",
    "training_desk",
    "two_paths",
    "who_is_it",
]
