"""A saved model whose weights are not those that its configuration says is refused, by
whichever library it is loaded: it would be explained with numbers drawn at random."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum_pairs
import pytest
import torch
from captum_pairs.models import ModelUnavailableError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny_late_interaction import save_multi_vector
from tiny_scores import build_score
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

KINDS = ("transformers", "cross-encoder", "sentences", "multi-vector")
Weights = dict[str, Tensor]
LAYER, FILE = "encoder.layer.1.", "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A saved model of each kind, of two layers."""
    folder = tmp_path_factory.mktemp("whole")
    saved = build_score("sentence-transformers", folder / "score")
    of = {"transformers": folder / "score" / "plain", "cross-encoder": saved}

    def build(kind: str) -> Path:
        if kind in of:
            return of[kind]
        if kind == "sentences":
            model = SentenceTransformer(str(of["transformers"]), device="cpu")
            model.save(str(folder / kind), create_model_card=False)
            of[kind] = folder / kind
        else:
            pytest.importorskip("sentence_transformers.multi_vector_encoder")
            of[kind] = save_multi_vector(folder / kind)
        return of[kind]

    return build


@pytest.fixture
def changed(whole: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of one with other weights, or another configuration."""

    def change(
        kind: str, weights: Callable[[Weights], Weights] = dict, **config: Any
    ) -> Path:
        shutil.copytree(whole(kind), tmp_path / "copy")
        files = sorted((tmp_path / "copy").rglob(FILE))
        path = max(files, key=lambda file: file.stat().st_size)  # not a projection's
        save_file(weights(load_file(path)), path, {"format": "pt"})
        file = path.with_name("config.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return tmp_path / "copy"

    return change


def _without(part: str) -> Callable[[Weights], Weights]:
    return lambda found: {k: v for k, v in found.items() if part not in k}


def _resized(found: Weights) -> Weights:
    key = next(k for k in found if k.endswith("word_embeddings.weight"))
    return {**found, key: torch.zeros(7, found[key].shape[1])}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit(kind: str, changed: Callable[..., Path]) -> None:
    for arguments, config, said in (
        ((_resized,), {}, r"1 of others, such as .*word_embed.* of \(7, 16\) instead"),
        ((), {"num_hidden_layers": 1}, f"16 .* no place for, such as .*{LAYER}"),
        ((_without(LAYER),), {}, f"are missing, such as .*{LAYER}"),
        ((_without("0.attention.self.query.w"),), {}, "1 are missing, .*query.weight"),
    ):
        copy = changed(kind, *arguments, **config)
        with pytest.raises(ModelUnavailableError, match=f"^model: .*{said}"):
            captum_pairs.load(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_head_of_a_cross_encoder(kind: str, changed: Callable[..., Path]) -> None:
    with pytest.raises(ModelUnavailableError, match="missing, such as classifier.weig"):
        captum_pairs.load(changed(kind, _without("classifier.weight")))


def test_a_layer_that_nothing_reads_may_be_missing(
    whole: Callable[[str], Path], changed: Callable[..., Path]
) -> None:
    """Sentence encoders pool tokens, and are often saved without BERT's own pooling."""
    copy = changed("sentences", _without("pooler"))
    assert any("pooler" in key for key in load_file(whole("sentences") / FILE))
    own = SentenceTransformer(str(whole("sentences")), device="cpu")
    model = captum_pairs.load(copy)
    given = model.first.prepare("the dog barks")
    found = model.first.embed(given.inputs, *given.arguments)[0]
    torch.testing.assert_close(found, torch.as_tensor(own.encode("the dog barks")))


def test_others_load_as_ever(whole: Callable[[str], Path]) -> None:
    """While a model is looked at, and after it."""
    from captum_pairs.models.inner_weights import weights_found

    own, loaded = PreTrainedModel.__dict__["from_pretrained"], []
    with weights_found() as found:
        one = AutoModel.from_pretrained(whole("transformers"))
        asked, told = AutoModel.from_pretrained(
            whole("transformers"), output_loading_info=True
        )
        other = threading.Thread(
            target=lambda: loaded.append(AutoModel.from_pretrained(whole("sentences")))
        )
        other.start()
        other.join()
    assert [model for model, _ in found] == [one] and "missing_keys" in told
    assert isinstance(asked, PreTrainedModel) and isinstance(loaded[0], PreTrainedModel)
    with pytest.raises(RuntimeError, match="inside"), weights_found():
        raise RuntimeError("inside")
    assert PreTrainedModel.__dict__["from_pretrained"] is own
