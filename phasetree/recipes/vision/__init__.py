"""What experiments on real images share: embeddings of patches that are trained here, and the trained denoiser."""

from .encoder import PatchEmbedding as PatchEmbedding
from .encoder import trained_embedding as trained_embedding
from .model import PreparedImages as PreparedImages
from .model import prepare_images as prepare_images
from .model import trained_on_images as trained_on_images
