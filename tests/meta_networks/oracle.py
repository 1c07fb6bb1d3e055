"""The networks of MetaD2A for one data set and one graph at a time, as plain as their equations.

Data sets are lists of classes, classes are lists of images; graphs are igraph's, whose vertices are visited one by one
and looked up by their number. Weights are those of the networks under test.
"""

import igraph
import torch
from torch.nn.functional import one_hot


def affine(layer, x):
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


def attend(queries, items, query, key, value, output):
    """Every query (a vector) looks at all items; `query`, `key`, `value` and `output` map a vector to a vector."""
    attended = []
    for one in queries:
        q = query(one)
        d = len(q)
        heads = []
        for head in range(4):
            part = slice(head * d // 4, (head + 1) * d // 4)
            matches = torch.stack([q[part] @ key(item)[part] / d**0.5 for item in items])
            weights = matches.exp() / matches.exp().sum()
            heads.append(q[part] + sum(w * value(item)[part] for w, item in zip(weights, items, strict=True)))
        mixed = torch.cat(heads)
        attended.append(mixed + output(mixed).clamp(min=0))
    return attended


def self_attention(block, items):
    weights, biases = block.project.weight.chunk(3), block.project.bias.chunk(3)
    maps = [lambda x, w=w, b=b: w @ x + b for w, b in zip(weights, biases, strict=True)]
    return attend(items, items, *maps, lambda x: affine(block.output, x))


def set_pool(pool, items):
    first, second, seeded, last = pool
    maps = [lambda x, layer=layer: affine(layer, x) for layer in (seeded.query, seeded.key, seeded.value)]
    items = self_attention(second, self_attention(first, items))
    (pooled,) = attend([seeded.seed.flatten()], items, *maps, lambda x: affine(seeded.output, x))
    return affine(last, pooled)


def data_set(encoder, features):
    """The vector (nz,) of features (n_classes n_images dim)."""
    prototypes = [set_pool(encoder.within_class, list(images)) for images in features]
    return set_pool(encoder.across_classes, prototypes)


def gru(cell, x, h):
    i = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    g = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    reset, update = torch.sigmoid(i[0] + g[0]), torch.sigmoid(i[1] + g[1])
    new = torch.tanh(i[2] + reset * g[2])
    return (1 - update) * new + update * h


def message(messages, state, vertex):
    known = torch.cat([state, one_hot(torch.tensor(vertex), messages.n_vertices).to(state)])
    return torch.sigmoid(affine(messages.gate, known)) * affine(messages.mapper, known)


def kind_of(graph, vertex, form, like):
    return one_hot(torch.tensor(graph.vs[vertex]["type"]), form.n_types).to(like)


def received(graph_neighbours, messages, states, like):
    return sum((message(messages, states[u], u) for u in graph_neighbours), torch.zeros_like(like))


def graph_vector(encoder, graph):
    """The vector (hs,) of a graph."""
    zero = torch.zeros(encoder.cell.hidden_size, dtype=encoder.unify.weight.dtype)
    forth, back = {}, {}
    for v in range(graph.vcount()):
        incoming = received(graph.predecessors(v), encoder.messages, forth, zero)
        forth[v] = gru(encoder.cell, kind_of(graph, v, encoder.form, zero), incoming)
    for v in reversed(range(graph.vcount())):
        incoming = received(graph.successors(v), encoder.messages_back, back, zero)
        back[v] = gru(encoder.cell_back, kind_of(graph, v, encoder.form, zero), incoming)
    return affine(encoder.unify, torch.cat([forth[graph.vcount() - 1], back[0]]))


def perceptron(head, x):
    return affine(head[2], affine(head[0], x).clamp(min=0))


def state_of(decoder, graph, vertex, states):
    """The state of the vertex with the edges that lead to it so far."""
    like = states[0]
    incoming = received(graph.predecessors(vertex), decoder.messages, states, like)
    return gru(decoder.cell, kind_of(graph, vertex, decoder.form, like), incoming)


def begin(decoder, z):
    """A graph of one vertex, the start, and its state."""
    graph = igraph.Graph(directed=True)
    graph.add_vertex(type=decoder.form.start)
    first = torch.tanh(affine(decoder.begin, z))
    return graph, {0: gru(decoder.cell, kind_of(graph, 0, decoder.form, first), first)}


def surprise(decoder, z, truth):
    """Minus the log-probability of a graph, every decision given the true ones before."""
    graph, states = begin(decoder, z)
    total = 0
    for v in range(1, decoder.form.n_vertices):
        total = total - perceptron(decoder.type_head, states[v - 1]).log_softmax(0)[truth.vs[v]["type"]]
        graph.add_vertex(type=truth.vs[v]["type"])
        states[v] = state_of(decoder, graph, v, states)
        for u in reversed(range(v)):
            p = torch.sigmoid(perceptron(decoder.edge_head, torch.cat([states[u], states[v]])))[0]
            if truth.are_adjacent(u, v):
                total = total - p.log()
                graph.add_edge(u, v)
            else:
                total = total - (1 - p).log()
            states[v] = state_of(decoder, graph, v, states)
    return total


def write(decoder, z, choose):
    """A graph written decision by decision; `choose(vertex, source, probabilities)` gives the option taken.

    `source` is None for the type of the vertex, else the options are no edge and an edge from it.
    """
    form = decoder.form
    graph, states = begin(decoder, z)
    for v in range(1, form.n_vertices):
        if v == form.n_vertices - 1:
            kind = form.end
        else:
            kind = choose(v, None, perceptron(decoder.type_head, states[v - 1]).softmax(0))
        graph.add_vertex(type=int(kind))
        if kind == form.end:
            graph.add_edges([(u, v) for u in range(v) if graph.degree(u, mode="out") == 0])
            return graph
        states[v] = state_of(decoder, graph, v, states)
        for u in reversed(range(v)):
            p = torch.sigmoid(perceptron(decoder.edge_head, torch.cat([states[u], states[v]])))[0]
            if choose(v, u, torch.stack([1 - p, p])):
                graph.add_edge(u, v)
                states[v] = state_of(decoder, graph, v, states)
    return graph


def prediction(predictor, features, graph):
    """The prediction for one data set (n_classes n_images dim) and one graph."""
    latent = affine(predictor.to_latent, graph_vector(predictor.graphs, graph))
    pair = torch.cat([data_set(predictor.datasets, features), latent])
    return affine(predictor.rate, torch.tanh(affine(predictor.join, pair)))[0]
