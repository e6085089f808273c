"""All plots by name: functions of plain numbers that return a Figure with an alternative text.

The arguments are what JSON can hold (NumPy arrays are welcome), so that `store` can keep the numbers
beside the picture and draw the picture again. Error rates are fractions and are drawn in per cent.
"""

from oskdft.lessons.figures import history, margin, method, models, results, scores

PLOTS = {
    plot.__name__: plot
    for plot in (
        scores.det, scores.histogram, scores.trade_off, scores.calibration, scores.intervals,
        scores.ablation, results.curves, results.published_logs, results.schedule, results.bars,
        results.stacked, results.pareto, results.growth, results.layers, results.trust, models.matrix,
        models.gradient_flow, models.embedding_map, models.waves, models.heads, models.paths,
        method.method, margin.margin, history.history,
    )
}  # fmt: skip
