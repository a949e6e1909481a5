"""What experiments on real texts share: the text made ready, the network trained on it, and passages regenerated."""

from .model import Prepared as Prepared
from .model import network_on_text as network_on_text
from .model import prepare as prepare
from .model import prepare_sequences as prepare_sequences
from .model import shortened as shortened
from .passages import escape as escape
from .passages import fraction_of_words_changed as fraction_of_words_changed
from .passages import mark_changes as mark_changes
from .passages import marked_words as marked_words
from .passages import regenerate as regenerate
from .passages import storable as storable
