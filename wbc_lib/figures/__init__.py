"""Charts: they take data and return a figure. All of them are at hand as ``figures.draw_...``."""

from wbc_lib.figures.attention import draw_covered, draw_panels, draw_randomised, draw_shares
from wbc_lib.figures.data import (
    draw_balance,
    draw_cells,
    draw_confidence,
    draw_copies,
    draw_field_map,
    draw_histogram,
    draw_moves,
    draw_parts,
    draw_photos,
    draw_places,
    draw_reproductions,
    draw_residuals,
    draw_side_by_side,
    draw_unnoticed,
)
from wbc_lib.figures.evaluation import (
    draw_along_numbers,
    draw_changes,
    draw_counting_errors,
    draw_coverage_of_photos,
    draw_differential,
    draw_intervals,
    draw_noise,
    draw_photos_and_cells,
    draw_reliability,
    draw_risk_coverage,
    draw_strip,
    draw_variation,
)
from wbc_lib.figures.style import TEST, VALIDATION, draw_missing, nice, use_style
from wbc_lib.figures.training import draw_confusion, draw_curves, draw_estimates, draw_multiples, draw_summary
