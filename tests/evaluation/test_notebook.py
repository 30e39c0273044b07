import sys
from types import SimpleNamespace

import torch
from torch import nn

import saddlepoint as sp


def test_a_bar_in_a_notebook_follows_the_evaluation(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=shown.append)
    display = SimpleNamespace(HTML=str, display=lambda page, display_id: (shown.append(page), handle)[1])
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()), display=display)
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    model = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    x = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    data = sp.Dataset.from_tensors(x, model.predict(x).label)
    sp.evaluate(model, data, sp.Linf(1e-4), checks=False)
    assert shown[-1].startswith('<progress max="6" value="6"></progress> 6 of 6 · 100')
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    count = len(shown)
    sp.evaluate(model, data, sp.Linf(1e-4), checks=False)
    assert len(shown) == count
