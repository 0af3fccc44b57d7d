import pandas as pd
import pytest

from wbc_lib.data.dataset import DataSet
from wbc_lib.provenance import trace


@pytest.fixture(scope="session")
def table(phantom_set: DataSet) -> pd.DataFrame:
    """Where the images of the small phantom data set come from, as traced."""
    return trace.read(phantom_set)
