"""What experiments on real images share: embeddings of patches that are trained here, and the trained denoiser."""

from .encoder import PatchEmbedding as PatchEmbedding
from .encoder import patch_embedding as patch_embedding
from .model import PreparedImages as PreparedImages
from .model import network_on_images as network_on_images
from .model import prepare_images as prepare_images
