"""What the networks of bonuses learn, each in one compiled loop over the rows of a batch; see ``fast_learning``.

Three lessons: to predict a fixed network (RND), what actions do (ICM and all that need its features), and an ensemble
of forecasts (Disagreement). Their losses are those of the torch code beside their callers; the gradients are derived by
hand.
"""

from functools import cache

from ..envs.native import PRODUCT, Spread
from .fast_learning import FIELDS, LEAST, LESSON
from .fast_networks import MULTIPLY, SHOW, sizes_code


@cache
def distilling() -> Spread:
    """``mean((f(s) - goal)^2)``; the layers are those of f.

    Beyond ``LESSON``: the goals ``[M, F]``, F, and how many layers there are.
    """
    arguments = {**LESSON, "goal": "const float*", "features": "long long", "layers": "long long"}
    return Spread("distillation", arguments, _code(_DISTILLING), LEAST)


@cache
def dynamics() -> Spread:
    """The loss of ``dynamics.Dynamics``; the layers are those of the features, the inverse model and the forecast.

    Beyond ``LESSON``: the categories of each part of the actions ``[M, parts]``, or their numbers ``[M, wide]``, how
    many categories a part has, the weights of the inverse model's loss and of the forecast's, how many parts, how many
    numbers stand for an action, F, the layers of the features, and whether there is a forecast.
    """
    arguments = {
        **LESSON, "chosen": "const long long*", "number": "const float*", "choices": "const long long*",
        "weights": "const float*", "parts": "long long", "wide": "long long", "features": "long long",
        "layers": "long long", "forecast": "long long",
    }  # fmt: skip
    return Spread("dynamics", arguments, _code(_DYNAMICS), LEAST)


@cache
def ensemble() -> Spread:
    """``sum_k mean_i(counts[k, i] * mean((f_k(x_i) - goal_i)^2))``; two layers for each of K members.

    Beyond ``LESSON``: the goals ``[M, F]``, which rows count for whom ``[K, M]``, F, and K.
    """
    arguments = {
        **LESSON, "goal": "const float*", "counts": "const float*", "features": "long long", "members": "long long",
    }  # fmt: skip
    return Spread("ensemble", arguments, _code(_ENSEMBLE), LEAST)


def _code(body: str) -> str:
    return sizes_code() + f"const int FIELDS = {FIELDS};\n" + PRODUCT + MULTIPLY + SHOW + _LAYERS + body


# A tile through a layer and back; gradients of weights and biases are added to this piece's own.
_LAYERS = """
float* own = rooms + piece * room;
float* unused = own + total;
for (long long k = 0; k < total; ++k)
    own[k] = 0.0f;
auto memory = [&](long long columns) {
    float* given = unused;
    unused += TILE * columns;
    return given;
};
auto inputs = [&](long long l) { return plan[l * FIELDS]; };
auto outputs = [&](long long l) { return plan[l * FIELDS + 1]; };
auto rectify = [&](float* x, long long numbers) {
    for (long long k = 0; k < numbers; ++k)
        x[k] = x[k] > 0.0f ? x[k] : 0.0f;
};
auto through = [&](long long l, const float* x, float* to, bool last) {
    const long long wide = inputs(l), next = outputs(l);
    const float* bias = values + plan[l * FIELDS + 3];
    for (int r = 0; r < TILE; ++r)
        for (long long f = 0; f < next; f += 16)
            *(vec*)(to + r * next + f) = *(const vec*)(bias + f);
    multiply(x, (int)wide, 1, down + plan[l * FIELDS + 4], to, TILE, (int)wide, (int)next, true);
    if (!last)
        rectify(to, TILE * next);
};
auto by_bias = [&](long long l, const float* by) {
    const long long next = outputs(l);
    float* to = own + plan[l * FIELDS + 3];
    for (int r = 0; r < TILE; ++r)
        for (long long f = 0; f < next; f += 16)
            *(vec*)(to + f) += *(const vec*)(by + r * next + f);
};
// From the gradient by what layer l gave; `to` is none where nobody asks for that by what it was given.
auto back = [&](long long l, const float* by, const float* x, float* to) {
    const long long wide = inputs(l), next = outputs(l);
    by_bias(l, by);
    multiply(by, 1, (int)next, x, own + plan[l * FIELDS + 2], (int)next, TILE, (int)wide, true);
    if (to)
        multiply(by, (int)next, 1, values + plan[l * FIELDS + 2], to, TILE, (int)next, (int)wide, false);
};
auto gate = [&](float* by, const float* x, long long numbers) {
    for (long long k = 0; k < numbers; ++k)
        by[k] = x[k] > 0.0f ? by[k] : 0.0f;
};
int use[MOST_SYMBOLS];
// The first layer, for rows from `begin` on; `x` holds their numbers.
auto see = [&](long long begin, long long filled, float* x, float* to) {
    const long long wide = inputs(0), next = outputs(0);
    const float* bias = values + plan[3];
    for (int r = 0; r < TILE; ++r)
        for (long long f = 0; f < next; f += 16)
            *(vec*)(to + r * next + f) = *(const vec*)(bias + f);
    for (long long r = 0; shown && r < filled; ++r) {
        const int n = show(begin + r, use);
        gather(table, use, n, to + r * next, next);
    }
    if (wide) {
        take(dense + begin * numbers, numbers, filled, x, wide);
        multiply(x, (int)wide, 1, down + plan[4], to, TILE, (int)wide, (int)next, true);
    }
    rectify(to, TILE * next);
};
// Back through a network that sees: `by` is the gradient by what its last layer gave, and `spare` as large.
auto unsee = [&](long long layers, float* by, float* spare, float* x, float** gave, long long place, long long filled) {
    for (long long l = layers - 1; l > 0; --l) {
        back(l, by, gave[l - 1], spare);
        gate(spare, gave[l - 1], TILE * inputs(l));
        float* other = by;
        by = spare;
        spare = other;
    }
    const long long wide = inputs(0), next = outputs(0);
    by_bias(0, by);
    if (wide)
        multiply(by, 1, (int)next, x, own + plan[2], (int)next, TILE, (int)wide, true);
    for (long long k = 0; shown && k < filled * next; ++k)
        by_sum[place * next + k] = by[k];
};
"""
_DISTILLING = """
float* gave[MOST_LAYERS];
for (long long l = 0; l < layers; ++l)
    gave[l] = memory(outputs(l));
float *x = memory(inputs(0)), *by = memory(WIDEST), *spare = memory(WIDEST);
const long long last = outputs(layers - 1);
double loss = 0.0;
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    see(low + begin, filled, x, gave[0]);
    for (long long l = 1; l < layers; ++l)
        through(l, gave[l - 1], gave[l], l == layers - 1);
    const float scale = 2.0f / (float)(rows * features);
    for (long long k = 0; k < TILE * last; ++k)
        by[k] = 0.0f;
    for (long long r = 0; r < filled; ++r)
        for (long long f = 0; f < features; ++f) {
            const float gap = gave[layers - 1][r * last + f] - goal[(low + begin + r) * features + f];
            loss += gap * gap;
            by[r * last + f] = scale * gap;
        }
    unsee(layers, by, spare, x, gave, begin, filled);
}
totals[2 * piece] = loss / (double)(rows * features);
"""
_DYNAMICS = """
const long long inverse = layers, guess = layers + 2, last = outputs(layers - 1);
float *gave[2][MOST_LAYERS], *x[2], *by_features[2];
for (int e = 0; e < 2; ++e) {
    for (long long l = 0; l < layers; ++l)
        gave[e][l] = memory(outputs(l));
    x[e] = memory(inputs(0));
    by_features[e] = memory(WIDEST);
}
float *pair = memory(inputs(inverse)), *middle = memory(outputs(inverse)), *told = memory(outputs(inverse + 1));
float *asked = nullptr, *inner = nullptr, *said = nullptr;
if (forecast) {
    asked = memory(inputs(guess));
    inner = memory(outputs(guess));
    said = memory(outputs(guess + 1));
}
float *by = memory(WIDEST), *spare = memory(WIDEST);
double loss = 0.0, error = 0.0;
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    for (int e = 0; e < 2; ++e) {
        see(e * stride + low + begin, filled, x[e], gave[e][0]);
        for (long long l = 1; l < layers; ++l)
            through(l, gave[e][l - 1], gave[e][l], l == layers - 1);
    }
    const float *before = gave[0][layers - 1], *after = gave[1][layers - 1];
    // Which action lay between.
    long long in = inputs(inverse), out = outputs(inverse + 1);
    for (long long k = 0; k < TILE * in; ++k)
        pair[k] = 0.0f;
    for (long long r = 0; r < TILE; ++r)
        for (long long f = 0; f < features; ++f) {
            pair[r * in + f] = before[r * last + f];
            pair[r * in + features + f] = after[r * last + f];
        }
    through(inverse, pair, middle, false);
    through(inverse + 1, middle, told, true);
    for (long long k = 0; k < TILE * out; ++k)
        by[k] = 0.0f;
    for (long long r = 0; r < filled; ++r) {
        const float* z = told + r * out;
        float* d = by + r * out;
        const long long i = low + begin + r;
        for (long long p = 0; p < parts; ++p) {
            const long long size = choices[p], taken = chosen[i * parts + p];
            const float scale = weights[0] / (float)(rows * parts);
            float top_ = z[0], sum = 0.0f;
            for (long long k = 1; k < size; ++k)
                top_ = z[k] > top_ ? z[k] : top_;
            for (long long k = 0; k < size; ++k) {
                d[k] = expf(z[k] - top_);
                sum += d[k];
            }
            for (long long k = 0; k < size; ++k)
                d[k] = scale * (d[k] / sum - (k == taken ? 1.0f : 0.0f));
            loss += (double)(logf(sum) + top_ - z[taken]) / (double)(rows * parts);
            z += size;
            d += size;
        }
        for (long long k = 0; parts == 0 && k < wide; ++k) {
            const float gap = z[k] - number[i * wide + k];
            loss += (double)(gap * gap) / (double)(rows * wide);
            d[k] = weights[0] * 2.0f * gap / (float)(rows * wide);
        }
    }
    back(inverse + 1, by, middle, spare);
    gate(spare, middle, TILE * outputs(inverse));
    back(inverse, spare, pair, by);
    for (int e = 0; e < 2; ++e)
        for (long long r = 0; r < TILE; ++r)
            for (long long f = 0; f < last; ++f)
                by_features[e][r * last + f] = f < features && r < filled ? by[r * in + e * features + f] : 0.0f;
    if (forecast) {
        in = inputs(guess);
        out = outputs(guess + 1);
        for (long long k = 0; k < TILE * in; ++k)
            asked[k] = 0.0f;
        for (long long r = 0; r < filled; ++r) {
            float* a = asked + r * in;
            const long long i = low + begin + r;
            for (long long f = 0; f < features; ++f)
                a[f] = before[r * last + f];
            a += features;
            for (long long k = 0; parts == 0 && k < wide; ++k)
                a[k] = number[i * wide + k];
            for (long long p = 0; p < parts; ++p) {
                a[chosen[i * parts + p]] = 1.0f;
                a += choices[p];
            }
        }
        through(guess, asked, inner, false);
        through(guess + 1, inner, said, true);
        for (long long k = 0; k < TILE * out; ++k)
            by[k] = 0.0f;
        const float scale = weights[1] / (float)rows;
        for (long long r = 0; r < filled; ++r)
            for (long long f = 0; f < features; ++f) {
                const float gap = said[r * out + f] - after[r * last + f];
                error += 0.5 * (double)(gap * gap) / (double)rows;
                by[r * out + f] = scale * gap;
                by_features[1][r * last + f] -= scale * gap;
            }
        back(guess + 1, by, inner, spare);
        gate(spare, inner, TILE * outputs(guess));
        back(guess, spare, asked, by);
        for (long long r = 0; r < filled; ++r)
            for (long long f = 0; f < features; ++f)
                by_features[0][r * last + f] += by[r * in + f];
    }
    for (int e = 0; e < 2; ++e)
        unsee(layers, by_features[e], spare, x[e], gave[e], e * rows + begin, filled);
}
totals[2 * piece] = loss;
totals[2 * piece + 1] = error;
"""
_ENSEMBLE = """
const long long in = inputs(0), out = outputs(1);
float *x = memory(in), *inner = memory(outputs(0)), *said = memory(out), *by = memory(WIDEST), *spare = memory(WIDEST);
double loss = 0.0;
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    take(dense + (low + begin) * numbers, numbers, filled, x, in);
    for (long long m = 0; m < members; ++m) {
        through(2 * m, x, inner, false);
        through(2 * m + 1, inner, said, true);
        for (long long k = 0; k < TILE * out; ++k)
            by[k] = 0.0f;
        for (long long r = 0; r < filled; ++r) {
            const long long i = low + begin + r;
            const float scale = counts[m * stride + i] * 2.0f / (float)(features * rows);
            for (long long f = 0; f < features; ++f) {
                const float gap = said[r * out + f] - goal[i * features + f];
                loss += gap * gap;
                by[r * out + f] = scale * gap;
            }
        }
        back(2 * m + 1, by, inner, spare);
        gate(spare, inner, TILE * outputs(2 * m));
        back(2 * m, spare, x, nullptr);
    }
}
totals[2 * piece] = loss / (double)(features * rows * members);
"""
