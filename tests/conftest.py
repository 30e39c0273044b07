"""One thread per test process: the tests run in parallel, and tiny tensors gain nothing from more."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a busy machine is not a defect
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
