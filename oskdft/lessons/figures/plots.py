"""Every figure as a function of plain numbers that returns a matplotlib Figure with an alternative text.

The functions take what JSON can hold (NumPy arrays are welcome), so that `oskdft.lessons.figures.store` can store
the numbers beside the picture and draw it again. Error rates come in as fractions and are shown in
per cent.
"""

from oskdft.lessons.figures.method import method
from oskdft.lessons.figures.models import (
    embedding_map,
    gradient_flow,
    heads,
    matrix,
    paths,
    waves,
    waves_data,
)
from oskdft.lessons.figures.results import (
    bars,
    curves,
    growth,
    layers,
    pareto,
    published_logs,
    schedule,
    trust,
)
from oskdft.lessons.figures.scores import (
    ablation,
    calibration,
    det,
    det_data,
    histogram,
    intervals,
    trade_off,
)

PLOTS = {
    plot.__name__: plot
    for plot in (
        det, histogram, trade_off, calibration, curves, published_logs, schedule, bars, intervals,
        ablation, pareto, growth, layers, matrix, gradient_flow, embedding_map, waves, heads,
        trust, paths, method,
    )
}  # fmt: skip
__all__ = ["PLOTS", "det_data", "waves_data", *PLOTS]
