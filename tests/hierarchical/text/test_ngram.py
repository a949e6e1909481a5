"""Character n-grams against a dictionary implementation, sums to one, and sums done by hand."""

import collections

import numpy as np
import pytest

from hierarchical.text.ngram import NUM_UNICODE, bits_per_character, evaluate_ngram, fit_ngram

PASSAGES = ["the cat sat on the mat, the rat sat on the hat", "a cat and a rat and a bat", "naïve — ça 漢字"]
ORDERS = (1, 2, 3, 4)


def kneser_ney(passages, order):
    """p(context, character) by the definition, one dictionary of counts per order."""

    def grams(k):
        return [text[i : i + k] for text in passages for i in range(len(text) - k + 1)]

    counts = [collections.Counter(gram[1:] for gram in set(grams(k + 1))) for k in range(1, order)]
    counts.append(collections.Counter(grams(order)))

    def p(context, character):
        value = 1 / NUM_UNICODE
        for k, count in enumerate(counts[: len(context) + 1], start=1):
            tail = context[len(context) - k + 1 :]
            after = [n for gram, n in count.items() if gram[:-1] == tail]
            if after:
                once, twice = (sum(n == m for n in count.values()) for m in (1, 2))
                discount = (once + 1) / (once + 2 * twice + 2)
                kept = max(count[tail + character] - discount, 0)
                value = (kept + discount * len(after) * value) / sum(after)
        return value

    return p


@pytest.mark.parametrize("order", ORDERS)
def test_log_prob_matches_dictionaries(order):
    model, p = fit_ngram(PASSAGES, order), kneser_ney(PASSAGES, order)
    text = "that cat, unseen: Ω漢!"
    truth = [np.log(p(text[max(i - order + 1, 0) : i], text[i])) for i in range(len(text))]
    np.testing.assert_allclose(model.log_prob(text), truth, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("context", ["", "t", "th", "the", "Ωxx", "tΩt", "ça 漢"])
def test_probabilities_sum_to_one(order, context):
    model = fit_ngram(PASSAGES, order)
    alphabet = sorted(set("".join(PASSAGES)))
    seen = sum(np.exp(model.log_prob(context + character)[-1]) for character in alphabet)
    unseen = np.exp(model.log_prob(context + "Ω")[-1]) * (NUM_UNICODE - len(alphabet))
    assert seen + unseen == pytest.approx(1, abs=1e-12)


def test_bigram_of_aab_by_hand():
    # Bigrams aa, ab: each once, so D_2 = (2 + 1) / (2 + 0 + 2) = 3/4. a and b each follow one character: D_1 = 3/4 too.
    unigram = (1 - 3 / 4) / 2 + 3 / 4 / NUM_UNICODE
    bigram = (1 - 3 / 4) / 2 + 3 / 4 * unigram
    np.testing.assert_allclose(fit_ngram(["aab"], 2).log_prob("ab"), np.log([unigram, bigram]), rtol=1e-14)


def test_unigram_costs_the_entropy_of_its_text():
    # a, b, c occur 8, 4 and 4 times: entropy 1.5 bits; D = (0 + 1) / (0 + 0 + 2) and three types move p by closed form.
    text = "aabc" * 4
    counts = np.array([8, 4, 4])
    p = (counts - 1 / 2 + 3 / 2 / NUM_UNICODE) / 16
    cost = evaluate_ngram(fit_ngram([text], 1), [text, text])
    assert cost.value == pytest.approx(-np.sum(counts * np.log2(p)) / 16, rel=1e-12)
    many = "aabc" * 10_000
    assert evaluate_ngram(fit_ngram([many], 1), [many, many]).value == pytest.approx(1.5, abs=1e-3)


def test_unseen_character_costs_finitely_many_bits():
    assert np.isfinite(fit_ngram(PASSAGES, 3).log_prob("\U0010ffff漢\0")).all()


def test_ngrams_do_not_cross_passages():
    together, apart = fit_ngram(["abab", "cdcd"], 2), fit_ngram(["cdcd", "abab"], 2)
    np.testing.assert_array_equal(together.log_prob("bc"), apart.log_prob("bc"))
    assert together.log_prob("bc")[1] < fit_ngram(["ababcdcd"], 2).log_prob("bc")[1]


def test_stderr_of_equal_passages_is_that_of_a_mean():
    bits = np.array([1.0, 2.0, 4.0, 5.0])
    cost = bits_per_character(10 * bits * np.log(2), np.full(4, 10))
    assert cost == pytest.approx((3.0, bits.std(ddof=1) / 2, 4))


def test_stderr_ignores_lengths_where_the_rate_is_constant():
    lengths = np.array([10, 20, 70])
    assert bits_per_character(1.5 * lengths * np.log(2), lengths).stderr == pytest.approx(0, abs=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="order = 0: an n-gram has at least 1"):
        fit_ngram(PASSAGES, 0)
    with pytest.raises(ValueError, match="no passage has the 3 characters"):
        fit_ngram(["ab"], 3)
    with pytest.raises(ValueError, match="order = 14 over 30 different characters overflows"):
        fit_ngram(["".join(map(chr, range(30)))], 14)
    with pytest.raises(ValueError, match="1 passages of 4 characters: an error bar needs 2"):
        bits_per_character(np.ones(1), np.array([4]))
