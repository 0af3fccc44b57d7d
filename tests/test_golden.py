"""What several chapters say of one thing is one number, as ``golden.json`` has it.

A name alone does not tell: ``test`` or ``low`` is another thing on each page. So the things are listed, each with the
places that say it. A place that is renamed drops out; a thing that fewer than two places say has to go from the list.
"""

import json
import math

import pytest

from tests.golden import GOLDEN, TOLERANCE

MEANT = json.loads(GOLDEN.read_text(encoding="utf-8"))["photos"]
TEST_INTERVAL = ("8-results", "b3-certainty", "index", "open-questions", "score-your-own")
#: By what is said, the places that say it.
SAID = {
    "the final model on TEST, by image": """
        8-results/test 9-discussion/test b2-leakage/est_test b3-certainty/est b5-trust/right_test cards/by_image
        index/test open-questions/test score-your-own/final""",
    "from where it may go": " ".join(f"{page}/low" for page in TEST_INTERVAL),
    "to where it may go": " ".join(f"{page}/high" for page in TEST_INTERVAL),
    "the final model on TEST, by photo": """
        5-baseline/final_photos 8-results/photos_right b3-certainty/averaged b4-new-photo/test_photos""",
    "the final model's lowest training on TEST": "8-results/lowest cards/lowest",
    "the final model's highest training on TEST": "8-results/highest cards/highest",
    "the final model on copies of known photos": """
        b2-leakage/at_random b5-trust/right_known index/at_random open-questions/at_random""",
    "the final model on copies of new photos": """
        b2-leakage/held_out b5-trust/right_new index/held_out open-questions/held_out""",
    "the final model on new photos": "b3-certainty/new_before b4-new-photo/expected",
    "the overfitting network on TEST, by image": """
        6-overfitting/test 7-regularising/overfitting 7b-transfer/overfitting index/overfitting""",
    "photo 110's share of the errors": """
        8-results/share_110 b3-certainty/share_110 index/share_110 open-questions/share_110""",
    "the monocytes' share of the variance": "b3-certainty/carried index/variance",
    "the paper's fall from validation to TEST": "3-protocol/paper_drop 8-results/paper_drop open-questions/drop",
    "neutrophils among the photos of TEST": """
        4-data/majority 5-baseline/blind_photos 7b-transfer/neutrophil_share open-questions/neutrophils""",
    "what the threshold decides of TEST": "9-discussion/decided b5-trust/share_random",
    "images of TEST whose cell was trained on": "b1-provenance/exposed_share cards/exposed_share",
    "copies of a photo of the rarest class": "1-problem/rare_copies cards/copies_rarest",
    "the paper's accuracy on TEST": """
        8-results/paper_test 9-discussion/paper_test b3-certainty/paper_test index/paper_test
        open-questions/paper_test""",
}


@pytest.mark.parametrize("said", SAID)
def test_what_several_chapters_say_is_one_number(said):
    values = {place: MEANT[place] for place in SAID[said].split() if place in MEANT}
    assert len(values) > 1
    first = next(iter(values.values()))
    assert [place for place, v in values.items() if not math.isclose(v, first, rel_tol=TOLERANCE)] == []
