import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.explanation.attention_summary import AttentionMap, AttentionSummary
from dvme.explanation.similarity import Similarity
from dvme.report import attention, down_sampled, similarity, token_attention

MEAN = np.array([[0.25, 0.75], [0.5, 0.5]])


def attention_map(mean: NDArray[np.float64], n: int = 7) -> AttentionMap:
    return AttentionMap(n, mean, np.full_like(mean, 0.01), np.full_like(mean, np.nan), mean[None])


def test_attention__overall_and_a_map_for_each_class() -> None:
    figure = attention(AttentionSummary(("a", "b"), attention_map(MEAN), {"x": attention_map(MEAN.T, 3)}))
    overall, one = figure.data
    np.testing.assert_array_equal(overall.z, MEAN)
    np.testing.assert_array_equal(one.z, MEAN.T)
    assert list(overall.text[0]) == ["0.25", "0.75"]
    assert "<b>a</b> attends to <b>b</b>" in overall.hovertext[0][1]
    assert "0.7500 ± 0.0100 std over folds" in overall.hovertext[0][1]
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0.0, 0.75)
    assert [note.text for note in figure.layout.annotations] == ["all samples<br>n = 7", "class x<br>n = 3"]
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "Uniform attention is 0.500 everywhere; the largest deviation here is 0.25" in subtitle


def test_attention__of_many_classes_eleven() -> None:
    classes = {f"c{index}": attention_map(MEAN) for index in range(15)}
    figure = attention(AttentionSummary(("a", "b"), attention_map(MEAN), classes))
    assert len(figure.data) == 12
    assert "(4 classes left out)" in figure.layout.title.text.replace("<br>", " ")
    chosen = attention(AttentionSummary(("a", "b"), attention_map(MEAN), classes), classes=["c9"])
    assert [note.text for note in chosen.layout.annotations] == ["all samples<br>n = 7", "class c9<br>n = 7"]
    with pytest.raises(OptionError, match="'c99' has no attention"):
        attention(AttentionSummary(("a", "b"), attention_map(MEAN), classes), classes=["c99"])


def test_attention__a_class_without_samples_and_names_that_are_markup() -> None:
    nothing = attention_map(np.full((2, 2), np.nan), 0)
    figure = attention(AttentionSummary(("<b>", "y" * 300), attention_map(MEAN), {"<script>": nothing}))
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;"
    assert len(figure.layout.yaxis.ticktext[1]) < 50
    assert figure.layout.annotations[1].text == "class &lt;script&gt;<br>n = 0"
    assert figure.data[1].text[0][0] == "n/a"
    assert figure.layout.coloraxis.cmax == 0.75
    attention(AttentionSummary(("a", "b"), nothing, {}))


def test_down_sampled__block_means_by_hand() -> None:
    matrix = np.arange(36.0).reshape(6, 6)
    # Two backbones of three tokens, two rows each: tokens 0 | 1, 2 || 3 | 4, 5.
    parts = [[0], [1, 2], [3], [4, 5]]
    expected = [[matrix[np.ix_(rows, columns)].mean() for columns in parts] for rows in parts]
    np.testing.assert_allclose(down_sampled(matrix, 2, per_backbone=2), expected)
    np.testing.assert_allclose(down_sampled(matrix, 2, per_backbone=1), [[7.0, 10.0], [25.0, 28.0]])
    np.testing.assert_array_equal(down_sampled(matrix, 2), matrix)  # fewer tokens than rows asked for


def test_down_sampled__refuses_what_does_not_part() -> None:
    with pytest.raises(OptionError, match="5, 5"):
        down_sampled(np.zeros((5, 5)), 2)


def test_token_attention__blocks_with_gaps() -> None:
    matrix = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    figure = token_attention(matrix, ["<a>", "b"])
    assert len(figure.data) == 4
    np.testing.assert_array_equal(figure.data[1].z, matrix[:32, 32:])
    assert figure.data[1].x0 > 32
    assert figure.data[1].y0 == 0
    assert figure.data[1].name == "&lt;a&gt; attends to<br>b"
    assert list(figure.layout.xaxis.ticktext) == ["&lt;a&gt;", "b"]
    assert figure.layout.coloraxis.cmax == pytest.approx(matrix.max())
    with pytest.raises(OptionError, match="cannot be divided"):
        token_attention(matrix[:63, :63], ["a", "b"])


def test_similarity__two_maps_on_one_scale() -> None:
    plain, debiased = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.2], [-0.2, np.nan]])
    figure = similarity(Similarity(("a", "b"), 30, plain, debiased))
    np.testing.assert_array_equal(figure.data[0].z, plain)
    np.testing.assert_array_equal(figure.data[1].z, debiased)
    assert list(figure.data[1].text[1]) == ["-0.20", "n/a"]
    assert figure.data[0].hovertext[0][1] == "a<br>b<br>CKA 0.5000"
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-0.2, 1.0)
    assert figure.layout.title.subtitle.text.startswith("30 samples")


def test_similarity__many_backbones_carry_no_numbers() -> None:
    names = tuple(f"b{index}" for index in range(20))
    figure = similarity(Similarity(names, 30, np.eye(20), np.full((20, 20), np.nan)))
    assert figure.data[0].text is None
    assert len(figure.layout.yaxis.ticktext) <= 12
