import pytest

from pipeline.core.errors import GenotypeError, UnknownNameError
from pipeline.spaces.darts import Darts
from pipeline.spaces.darts_fewshot import DartsFewShot
from pipeline.spaces.genotype import Genotype
from tests.spaces.genotypes import PUBLISHED, genotype

SPACE = DartsFewShot()
TEXT = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], "
    "[('conv_3x3', 0), ('sep_conv_3x3', 2)]], normal_concat=[2, 3, 4], "
    "reduce=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('conv_1x5_5x1', 1), ('dil_conv_3x3', 2)], "
    "[('dil_conv_3x3', 2), ('dil_conv_3x3', 3)]], reduce_concat=[2, 3, 4])"
)


def test_the_text_of_a_published_genotype_is_the_text_of_the_field():
    assert SPACE.to_text(genotype(*PUBLISHED[0][2:4])) == TEXT
    assert SPACE.from_text(TEXT) == genotype(*PUBLISHED[0][2:4])


def test_ranges_tuples_and_line_breaks_are_understood():
    varied = TEXT.replace("[2, 3, 4]", "range(2, 5)").replace("[[(", "[\n  [(").replace("[(", "((").replace(")]", "))")
    assert SPACE.from_text(f"  {varied}\n") == SPACE.from_text(TEXT)


def test_the_flat_list_of_pairs_of_the_darts_space_is_understood():
    flat = (
        "Genotype(normal=[('dil_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 2), "
        "('skip_connect', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_5x5', 3)], "
        "normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 1), "
        "('sep_conv_5x5', 2), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_5x5', 2), ('sep_conv_3x3', 4)], "
        "reduce_concat=range(2, 6))"
    )
    parsed = Darts().from_text(flat)
    assert parsed.normal[2] == (("skip_connect", 0), ("dil_conv_5x5", 1))
    assert Darts().from_text(Darts().to_text(parsed)) == parsed


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("('conv_3x3', 0)", "('conv_3x3', 4)", r"Node 4 of the normal cell reads node 4.*nodes 0 to 3"),
        ("('conv_3x3', 0)", "('conv_3x3', -1)", r"reads node -1"),
        ("('conv_3x3', 0)", "('conv_3x3', 2)", r"reads node 2 twice"),
        ("('conv_3x3', 0), ", "", r"Node 4 of the normal cell has 1 inputs"),
        (", [('dil_conv_3x3', 2), ('dil_conv_3x3', 3)]", "", r"reduce cell has 2 nodes; this space has 3"),
        ("('conv_3x3', 0)", "('conv_3x3', '0')", r"list of pairs"),
        ("('conv_3x3', 0)", "('conv_3x3', True)", r"list of pairs"),
        ("normal_concat=[2, 3, 4]", "normal_concat=[2, 3]", r"normal_concat is \[2, 3\]"),
        ("normal_concat=[2, 3, 4], ", "", r"fields normal, normal_concat, reduce, reduce_concat"),
        ("normal_concat=[2, 3, 4]", "normal_concat=range(1000000000)", r"normal_concat must be a list"),
        ("normal_concat=[2, 3, 4]", "normal_concat=open('x')", r"lists, pairs, names and numbers only"),
        ("Genotype(", "Genome(", r"no genotype text"),
        ("reduce_concat=[2, 3, 4])", "", r"no genotype text"),
        ("normal=[[", "normal=7, reduce=[[", r"no genotype text|each once|no list|must be a list"),
    ],
)
def test_faulty_text_is_refused_with_the_place_of_the_fault(old, new, message):
    assert old in TEXT
    with pytest.raises(GenotypeError, match=message):
        SPACE.from_text(TEXT.replace(old, new, 1))


def test_an_operation_of_another_space_is_refused_with_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match=r"'sep_conv_5x5'.*Did you mean 'sep_conv_3x3'.*node 2, normal cell"):
        SPACE.from_text(TEXT.replace("sep_conv_3x3", "sep_conv_5x5", 1))


def test_text_is_never_executed(tmp_path):
    trap = tmp_path / "trap"
    for text in (f"open({str(trap)!r}, 'w')", TEXT.replace("0", f"open({str(trap)!r}, 'w').fileno()", 1)):
        with pytest.raises(GenotypeError):
            SPACE.from_text(text)
    assert not trap.exists()


def test_deeply_nested_text_is_refused_like_any_other_nonsense():
    for nonsense in ("(" * 100_000, "-" * 100_000 + "1", TEXT.replace("0", "-" * 5000 + "0", 1)):
        with pytest.raises(GenotypeError):
            SPACE.from_text(nonsense)


def test_a_genotype_of_another_space_has_no_text_here():
    foreign = Genotype(*[((("sep_conv_3x3", 0), ("sep_conv_5x5", 1)),) * 4] * 2)
    with pytest.raises(GenotypeError, match="4 nodes"):
        SPACE.to_text(foreign)
