"""The store of models, changed by the thread of a request that loads while others go through it."""

from pathlib import Path
from typing import Any

import pytest

from asr_bn.data.kaldi_system import require_system
from serve.limits.refusal import Refusal
from serve.service.models import LoadOptions, ModelStore
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_model


class OnceRead(dict[str, Any]):
    """Versions of a model; who goes through them finds that the store changes meanwhile."""

    def __init__(self, change: Any) -> None:
        super().__init__({"1": "model"})
        self.change = change

    def values(self) -> Any:
        self.change()
        return super().values()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    for name in ("a", "b", "c"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").touch()
    monkeypatch.setattr(ModelStore, "_load_file", lambda self, name, version, file: name)
    return ModelStore(tmp_path, "", LoadOptions())


@pytest.mark.parametrize("change", ["load", "unload"])
def test_models_may_come_and_go_while_all_are_listed(store, change):
    store.load("b")
    store._loaded = {
        "a": OnceRead(lambda: store.load("c") if change == "load" else store.unload("b"))
    } | store._loaded
    assert store.all() == ["model", "b"]
    assert store.is_loaded("c" if change == "load" else "a")
    assert store.is_loaded("b") == (change == "load")


def test_the_default_model_is_the_folders_first_however_they_were_loaded(store):
    for name in ("c", "b", "a"):
        store.load(name)
    assert store.get() == "a"
    store.unload("a")
    with pytest.raises(Refusal, match="'a' is not loaded"):
        store.get()
    with pytest.raises(Refusal, match="'a' is not loaded"):
        store.unload("a")
    store.load("a")
    assert store.get() == "a"


def test_phones_of_another_model_are_refused_as_it_is_loaded(tmp_path):
    path = write_model(tmp_path / "model.onnx", 20, system=require_system(SYNTHETIC / "ali"))
    with pytest.raises(ValueError, match=f"^{path}: the model's metadata: .* has 72 pdfs, expected 20"):
        ModelStore(path, "", LoadOptions(device="cpu")).load_all()
