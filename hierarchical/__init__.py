"""The laws of the data: grammars, Markov chains, real text as tokens, and real images."""

from .byte_pair import BytePairTokenizer as BytePairTokenizer
from .byte_pair import TokenCorpus as TokenCorpus
from .byte_pair import TokenWindows as TokenWindows
from .byte_pair import tokenize as tokenize
from .byte_pair import train_tokenizer as train_tokenizer
from .corpus import HeldOutSplit as HeldOutSplit
from .corpus import Text as Text
from .corpus import hold_out as hold_out
from .corpus import load_text as load_text
from .grammar import Derivation as Derivation
from .grammar import RandomHierarchyModel as RandomHierarchyModel
from .images import Images as Images
from .images import load_images as load_images
from .images import split_images as split_images
from .markov import MarkovChain as MarkovChain
from .markov import matched_chain as matched_chain
from .ngram import BitsPerCharacter as BitsPerCharacter
from .ngram import CharacterNGram as CharacterNGram
from .ngram import bits_per_character as bits_per_character
from .ngram import evaluate_ngram as evaluate_ngram
from .ngram import fit_ngram as fit_ngram
from .rules import draw_rules as draw_rules
from .sampling import batched_sample as batched_sample
from .sampling import sample_strings as sample_strings
