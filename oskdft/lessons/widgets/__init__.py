"""Interactive widgets; without a live front end each shows a still of its first state.

- `who.who_is_it`: vote on two recordings, then truth, score and decision of a judge; noise and room on
  either; own recordings and voices by name, which can be forgotten.
- `det.det_explorer`: the operating point on DET curve, histogram and counts together; costs, callers.
- `gaussians.gaussian_explorer`: the same for two Gaussians, with sliders for their distance and spread.
- `embeddings.embedding_map`: hover names a clip, a click plays it; neighbours in the embedding space.
- `paths.two_paths`: one utterance along both paths of a student, layer by layer.
- `desk.training_desk`: start, watch, stop and resume a small run.
- `story.method_story`: the method in nine acts, with a slider.
"""
