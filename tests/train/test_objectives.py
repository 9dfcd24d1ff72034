"""Losses against torch's own, scores against a calculation by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from train.objectives import (
    CHUNK_ROWS,
    IGNORE_INDEX,
    classification_loss,
    classification_scores,
    confusion_matrix,
    language_scores,
    next_token_loss,
    token_losses,
)


@pytest.mark.parametrize("rows", [1, 7, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS - 5])
def test_the_chunked_loss_and_its_gradient_are_those_of_cross_entropy(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    labels = torch.randint(11, (1, rows), generator=generator)
    labels[0, ::3] = IGNORE_INDEX
    logits = torch.randn(1, rows, 11, generator=generator, dtype=torch.float64)
    chunked, whole = (logits.clone().requires_grad_() for _ in range(2))
    ours = next_token_loss(chunked, labels)
    oracle = F.cross_entropy(whole[0], labels[0], ignore_index=IGNORE_INDEX, reduction="sum")
    ours.backward()
    oracle.backward()
    torch.testing.assert_close(ours, oracle)
    torch.testing.assert_close(chunked.grad, whole.grad)


def test_targets_that_are_all_ignored_cost_nothing() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = next_token_loss(logits, torch.full((2, 3), IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_the_loss_of_a_fair_guess_is_the_logarithm_of_the_choices() -> None:
    assert next_token_loss(torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.long)).item() == pytest.approx(
        6 * math.log(8)
    )
    assert classification_loss(torch.zeros(5, 4), torch.zeros(5, dtype=torch.long)).item() == pytest.approx(
        5 * math.log(4)
    )


def test_token_losses_add_up_to_the_loss_and_are_zero_where_ignored() -> None:
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, IGNORE_INDEX, 3], [IGNORE_INDEX, 0, 6, 5]])
    losses = token_losses(logits, labels)
    assert losses[0, 2] == 0 and losses[1, 0] == 0
    torch.testing.assert_close(losses.sum(), next_token_loss(logits, labels))


def test_bits_per_byte_of_a_case_worked_by_hand() -> None:
    """Four tokens at 3 bits each, one of them a control token: 9 bits over 6 bytes of text."""
    bit = math.log(2)
    scores = language_scores(loss_sum=12 * bit, tokens=4, text_loss_sum=9 * bit, text_bytes=6)
    assert scores == pytest.approx({"loss": 3 * bit, "perplexity": 8.0, "bits_per_byte": 1.5})


def test_a_confusion_matrix_has_labels_down_and_predictions_across() -> None:
    assert confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2], 3) == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_macro_f1_of_a_case_worked_by_hand() -> None:
    """F1 is 2·1/(2+2) = 1/2, 2·1/(1+2) = 2/3 and 2·2/(3+2) = 4/5."""
    scores = classification_scores([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2], 3)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 4 / 5) / 3)
    assert scores["majority_accuracy"] == pytest.approx(3 / 6)
    assert scores["majority_macro_f1"] == pytest.approx((0 + 0 + 2 * 3 / (3 + 6)) / 3)


def test_a_perfect_classifier_scores_one_and_an_unused_label_does_not_count() -> None:
    scores = classification_scores([0, 1, 1], [0, 1, 1], 3)
    assert scores["accuracy"] == scores["macro_f1"] == 1.0


def test_as_many_predictions_as_labels_are_needed() -> None:
    with pytest.raises(ValueError):
        confusion_matrix([0, 1], [0], 2)
