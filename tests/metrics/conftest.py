import numpy as np
import pytest

from ddpm_bench.metrics import FeatureInputs


@pytest.fixture
def inputs():
    """FeatureInputs from two arrays of features and, if wanted, logits; kept in float32 as extractors give them."""

    def make(generated, reference, generated_logits=None, reference_logits=None):
        arrays = (generated, reference, generated_logits, reference_logits)
        return FeatureInputs(*(None if item is None else np.asarray(item, dtype=np.float32) for item in arrays))

    return make
