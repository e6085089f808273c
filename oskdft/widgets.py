"""Things to touch, hear and look at; each shows its first state where no front end is alive.

- `who_is_it`: two recordings, their picture, score, probability and decision; noise and room.
- `det_explorer`: the operating point on DET curve, histogram and counts together; costs.
- `embedding_map`: hover names a clip, a click plays it; its neighbours are those of the space.
- `two_paths`: one utterance along both paths of a student, layer by layer.
- `training_desk`: start, watch, stop and resume a small run.
"""

from oskdft.desk_widget import training_desk
from oskdft.det_widget import det_explorer
from oskdft.map_widget import embedding_map
from oskdft.paths_widget import two_paths
from oskdft.who_widget import who_is_it

__all__ = ["det_explorer", "embedding_map", "training_desk", "two_paths", "who_is_it"]
