"""Published genotypes of MetaNTK-NAS in a short hand, with the parameter counts measured on the authors' networks."""

from pipeline.spaces.genotype import Genotype

SHORT = {
    "s3": "sep_conv_3x3",
    "d3": "dil_conv_3x3",
    "c3": "conv_3x3",
    "f5": "conv_1x5_5x1",
    "mp": "max_pool_3x3BN",
    "sk": "skip_connect",
}

# (n_cells, n_classes, normal, reduce, parameters, parameters without the classifier)
PUBLISHED = [
    (5, 64, "s3-0 s3-1, s3-1 s3-2, c3-0 s3-2", "s3-0 s3-1, f5-1 d3-2, d3-2 d3-3", 1_760_800, 1_723_872),
    (5, 64, "s3-0 s3-1, s3-1 s3-2, c3-2 s3-3", "s3-0 d3-1, f5-1 s3-2, s3-1 f5-3", 2_222_176, 2_185_248),
    (5, 64, "s3-0 s3-1, s3-0 mp-2, d3-2 s3-3", "d3-0 s3-1, c3-1 s3-2, s3-2 s3-3", 1_343_680, 1_306_752),
    (8, 64, "s3-0 mp-1, f5-0 s3-1, s3-2 c3-3", "sk-0 s3-1, c3-1 s3-2, d3-0 f5-1", 3_181_072, 3_144_144),
    (8, 64, "c3-0 s3-1, f5-0 c3-1, s3-0 d3-2", "s3-0 s3-1, s3-0 s3-2, s3-0 s3-2", 2_967_184, 2_930_256),
    (8, 64, "s3-0 f5-1, s3-0 s3-1, c3-0 s3-1", "s3-0 s3-1, f5-1 s3-2, c3-0 s3-3", 3_489_136, 3_452_208),
    (5, 351, "c3-0 d3-1, s3-1 s3-2, s3-0 s3-3", "sk-0 d3-1, s3-0 f5-2, mp-2 f5-3", 2_185_935, 1_983_408),
    (5, 351, "s3-0 s3-1, s3-1 mp-2, c3-2 c3-3", "d3-0 f5-1, c3-0 s3-1, s3-2 s3-3", 1_820_079, 1_617_552),
    (5, 351, "s3-0 f5-1, d3-0 s3-2, s3-0 mp-3", "s3-0 s3-1, f5-0 f5-2, d3-1 s3-3", 2_664_639, 2_462_112),
    (8, 351, "f5-0 s3-1, f5-0 f5-1, s3-0 f5-2", "sk-0 c3-1, c3-0 f5-1, s3-0 s3-3", 5_939_919, 5_737_392),
    (8, 351, "f5-0 d3-1, s3-0 s3-1, s3-0 c3-2", "c3-0 s3-1, s3-1 s3-2, c3-0 s3-1", 3_138_447, 2_935_920),
    (8, 351, "f5-0 f5-1, s3-0 f5-2, s3-2 s3-3", "c3-0 c3-1, s3-0 s3-1, s3-1 f5-3", 5_231_055, 5_028_528),
]


def cell(text):
    """A cell from the short hand: nodes parted by commas, `operation-input` pairs by blanks."""
    pairs = [[pair.split("-") for pair in node.split()] for node in text.split(",")]
    return tuple(tuple((SHORT[name], int(source)) for name, source in node) for node in pairs)


def genotype(normal, reduce):
    return Genotype(cell(normal), cell(reduce))
