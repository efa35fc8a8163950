# %% [markdown]
# # Interpreting the similarity of a dual encoder
#
# A dual encoder, such as CLIP or a sentence encoder, embeds two inputs and compares the
# embeddings. Attributing its similarity to the features of *one* input says which
# regions of an image or which words of a caption mattered. It can't say which word
# matched which region: that is a question about *pairs* of features.
#
# `FeaturePairIntegratedGradients` answers it. It integrates the mixed second derivative
# of the similarity along the paths from both baselines to both inputs, as described in
# [Möller et al., 2025](https://arxiv.org/abs/2408.14153). This tutorial trains a small
# dual encoder whose answer we know, and asks for pairs of patches and words.

# %%
import matplotlib.pyplot as plt
import torch
from captum.attr import IntegratedJacobian, LayerFeaturePairIntegratedGradients
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)

# %% [markdown]
# ## A world of colored squares
#
# An image has 4 x 4 cells of 4 x 4 pixels. Three of them are colored, each in a color
# of its own, the others are black. Its caption names the colors, in random order.

# %%
COLORS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "pink": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
}
WORDS = ["[nothing]", *COLORS]


def make_scenes(count):
    """Images (count, 3, 16, 16), captions (count, 3), and each word's cell."""
    colors = torch.rand(count, len(COLORS)).argsort(dim=1)[:, :3]
    cells = torch.rand(count, 16).argsort(dim=1)[:, :3]
    values = torch.tensor(list(COLORS.values()))[colors]
    images = torch.zeros(count, 3, 16)
    images.scatter_(2, cells[:, None].expand(-1, 3, -1), values.transpose(1, 2))
    images = images.reshape(count, 3, 4, 4)
    images = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return images, colors + 1, cells


# %% [markdown]
# ## Two encoders
#
# Both end in an embedding of 16 dimensions. Which layer we attribute to decides what a
# feature is: places in the output of `patches` are cells, those of `words` are words.


# %%
class ImageEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, kernel_size=4, stride=4)
        self.hidden, self.head = nn.Linear(32, 32), nn.Linear(32, 16)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(torch.tanh(self.hidden(torch.tanh(patches))).mean(dim=1))


class TextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 32)
        self.hidden, self.head = nn.Linear(32, 32), nn.Linear(32, 16)

    def forward(self, ids):
        words = self.words(ids)
        return self.head(torch.tanh(self.hidden(words)).mean(dim=1))


images_encoder, text_encoder = ImageEncoder(), TextEncoder()
parameters = [*images_encoder.parameters(), *text_encoder.parameters()]
optimizer = torch.optim.Adam(parameters, lr=3e-3)
for step in range(400):
    images, captions, _ = make_scenes(128)
    first = F.normalize(images_encoder(images), dim=1)
    second = F.normalize(text_encoder(captions), dim=1)
    # captions of the same three colors are no mistakes of one another
    names = F.one_hot(captions, len(WORDS)).sum(dim=1)
    same = (names[:, None] == names).all(dim=2).float()
    logits = 10 * first @ second.T
    loss = F.cross_entropy(logits, same / same.sum(dim=1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.2f}")

# %% [markdown]
# ## Which word matched which cell?
#
# The baselines belong to the inputs: a black image, and a caption of three times
# "[nothing]". Attributions are one tensor, whose axes are those of the image's features
# and then those of the caption's. An inner product of normalized embeddings turns fast
# where an embedding is short: the convergence delta says whether the steps were enough.

# %%
pairs = LayerFeaturePairIntegratedGradients(
    (images_encoder, text_encoder), (images_encoder.patches, text_encoder.words)
)
images, captions, cells = make_scenes(64)
attributions, delta = pairs.attribute(
    (images, captions), baselines=(0, 0), n_steps=100, return_convergence_delta=True
)
print("(examples, rows, columns, words):", tuple(attributions.shape))
print(f"largest convergence delta: {delta.abs().max().item():.1e}")

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8))
axes[0].imshow(images[0].permute(1, 2, 0))
axes[0].set_title("image")
limit = attributions[0].abs().max().item()
for word, axis in enumerate(axes[1:]):
    axis.imshow(attributions[0, :, :, word].detach(), "RdBu", vmin=-limit, vmax=limit)
    axis.set_title(WORDS[captions[0, word]])
for axis in axes:
    axis.set_axis_off()
plt.show()

# %% [markdown]
# Blue cells raise the similarity together with the word, red ones lower it. We know the
# cell that each word names, so that we can count how often it is the strongest one.

# %%
strongest = attributions.flatten(1, 2).argmax(dim=1)
hits = (strongest == cells).float().mean().item()
print(f"the strongest cell has the word's color: {100 * hits:.0f} % (chance: 6 %)")

# %% [markdown]
# All pairs sum to what neither input explains alone,
# $s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y)$. `forward_func` is the similarity.

# %%
with torch.no_grad():
    nothing = torch.zeros_like(images), torch.zeros_like(captions)
    score = pairs.forward_func
    expected = score(images, captions) - score(nothing[0], captions)
    expected += score(*nothing) - score(images, nothing[1])
print(torch.allclose(attributions.sum(dim=(1, 2, 3)), expected, atol=1e-3))

# %% [markdown]
# ## Many images and many captions
#
# A contribution vector belongs to one input. So m images and n captions take m + n
# attributions and a product, not m times n attributions. Here the features are cells of
# the image itself, given by a mask.

# %%
rows = torch.arange(16) // 4
mask = (4 * rows[:, None] + rows)[None, None]
of_images = IntegratedJacobian(images_encoder, normalize=True).attribute(
    images, feature_mask=mask, n_steps=20
)
print("(images, cells, dimensions):", tuple(of_images.shape))
between = torch.einsum("mik,njk->mnij", of_images[:8], of_images[8:16])
print("(images, other images, cells, cells):", tuple(between.shape))

# %% [markdown]
# ## CLIP
#
# With the `transformers` library, the two encoders of a CLIP are two functions. Token
# ids need a layer, and the attention mask is a further argument of the text's encoder.
#
# ```python
# from transformers import CLIPModel, CLIPProcessor
#
# model = CLIPModel.from_pretrained("openai/clip-vit-base-patch32").eval()
# processor = CLIPProcessor.from_pretrained("openai/clip-vit-base-patch32")
#
#
# def encode_image(pixels):
#     hidden = model.vision_model(pixel_values=pixels)
#     return model.visual_projection(hidden.pooler_output)
#
#
# def encode_text(ids, attention_mask):
#     hidden = model.text_model(input_ids=ids, attention_mask=attention_mask)
#     return model.text_projection(hidden.pooler_output)
#
#
# layers = (
#     model.vision_model.embeddings.patch_embedding,
#     model.text_model.embeddings.token_embedding,
# )
# clip = LayerFeaturePairIntegratedGradients((encode_image, encode_text), layers)
# given = processor(images=image, text=caption, return_tensors="pt")
# attributions = clip.attribute(
#     (given["pixel_values"], given["input_ids"]),
#     additional_forward_args=(None, given["attention_mask"]),
#     internal_batch_size=10,
# )
# ```
