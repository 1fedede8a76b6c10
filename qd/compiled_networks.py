"""Sixteen lanes side by side, in the C++ of ``compiled.py``: trigonometry, and small networks of each lane's own."""

# No library's functions go into vector instructions here, so these are polynomials, fitted to a greatest error of 4e-8
# on the piece of the line that they are for. Each lane's numbers are the same whatever the other lanes hold.
POWER = """
typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef int whole __attribute__((vector_size(64), aligned(4)));
auto power = [](vec x) __attribute__((always_inline)) {  // e to the x, for x of -80 to 80
    _Pragma("clang fp contract(fast)")
    const vec shifted = x * 1.44269504f + 12582912.0f, twos = shifted - 12582912.0f;
    const vec r = x - twos * 0.693359375f + twos * 2.12194440e-4f;
    vec p = r * 1.3942073314e-3f + 8.3687947280e-3f;
    p = p * r + 4.1666386304e-2f;
    p = p * r + 1.6666520044e-1f;
    p = (p * r + 0.5f) * r * r + r + 1.0f;
    return p * (vec)((__builtin_convertvector(twos, whole) + 127) << 23);
};
"""
VECTORS = (
    POWER
    + """
const int LANES = 16;
const float PI = 3.14159265f;
auto all = [](float x) __attribute__((always_inline)) { return vec{} + x; };
auto least = [](vec a, vec b) __attribute__((always_inline)) { return a < b ? a : b; };
auto most = [](vec a, vec b) __attribute__((always_inline)) { return a > b ? a : b; };
auto clamp = [&](vec x, float low, float high) __attribute__((always_inline)) {
    return least(most(x, all(low)), all(high));
};
auto size_of = [](vec x) __attribute__((always_inline)) { return (vec)((whole)x & 0x7fffffff); };
auto root = [](vec x) __attribute__((always_inline)) { return __builtin_elementwise_sqrt(x); };
auto down = [&](vec x) __attribute__((always_inline)) {  // floor of what fits into an int
    const vec cut = __builtin_convertvector(__builtin_convertvector(x, whole), vec);
    return cut > x ? cut - 1.0f : cut;
};
auto turn = [](vec x, vec* sine, vec* cosine) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    const vec shifted = x * 0.636619772f + 12582912.0f, quarters = shifted - 12582912.0f;
    const vec r = ((x - quarters * 1.5703125f) - quarters * 4.839897155761719e-4f) + quarters * 1.6292068e-7f;
    const vec z = r * r;
    const vec s = r + r * z * (-1.6666654873e-1f + z * (8.3321735412e-3f + z * -1.9516655542e-4f));
    const vec c = 1.0f + z * (-0.5f + z * (4.1666646748e-2f + z * (-1.3887361448e-3f + z * 2.4437729838e-5f)));
    const whole quarter = __builtin_convertvector(quarters, whole);
    const whole odd = (quarter & 1) != 0;
    *sine = (vec)((whole)(odd ? c : s) ^ ((quarter & 2) << 30));
    *cosine = (vec)((whole)(odd ? s : c) ^ (((quarter + 1) & 2) << 30));
};
auto angle_of = [&](vec y, vec x) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    const vec wide = size_of(x), high = size_of(y), large = most(wide, high);
    const vec ratio = large > 0.0f ? least(wide, high) / large : vec{}, z = ratio * ratio;
    vec p = z * -4.0545634713e-3f + 2.1862944788e-2f;
    p = p * z - 5.5912308562e-2f;
    p = p * z + 9.6421960464e-2f;
    p = p * z - 1.3908629071e-1f;
    p = p * z + 1.9946565560e-1f;
    p = p * z - 3.3329860777e-1f;
    p = (p * z + 9.9999933558e-1f) * ratio;
    p = high > wide ? 0.5f * PI - p : p;
    p = x < 0.0f ? PI - p : p;
    return (vec)((whole)p | ((whole)y & (int)0x80000000));
};
auto squash = [&](vec x) __attribute__((always_inline)) {  // tanh(x / 2)
    _Pragma("clang fp contract(fast)")
    const vec t = 1.0f - 2.0f / (1.0f + power(least(size_of(x), all(30.0f))));
    return (vec)((whole)t | ((whole)x & (int)0x80000000));
};
"""
)
# `weights` are [numbers of a genome, LANES]; `sizes` the units of each of `layers` + 1 layers. What `network` reads
# lies at `inputs`, `width` vectors, and two more such rooms follow; it gives where its outputs lie. `action` is an
# output as an action between -1 and 1, in the roundings of policies.py.
NETWORK = """
vec* const weights = (vec*)work;
vec* const inputs = weights + numbers;
auto carry = [&](long long lane, const float* genome) __attribute__((always_inline)) {
    for (long long d = 0; d < numbers; ++d)
        work[d * LANES + lane] = genome[d];
};
auto network = [&]() {
    _Pragma("clang fp contract(fast)")
    const vec *w = weights, *from = inputs;
    vec *to = inputs + width, *other = to + width;
    for (long long layer = 0; layer < layers; ++layer) {
        const int reads = sizes[layer], makes = sizes[layer + 1];
        const vec* bias = w + reads * makes;
        int o = 0;
        for (; o + 4 <= makes; o += 4) {
            vec a{}, b{}, c{}, d{};
            for (int k = 0; k < reads; ++k) {
                const vec seen = from[k], *row = w + k * makes + o;
                a += seen * row[0];
                b += seen * row[1];
                c += seen * row[2];
                d += seen * row[3];
            }
            to[o] = a;
            to[o + 1] = b;
            to[o + 2] = c;
            to[o + 3] = d;
        }
        for (; o < makes; ++o) {
            vec a{};
            for (int k = 0; k < reads; ++k)
                a += from[k] * w[k * makes + o];
            to[o] = a;
        }
        for (o = 0; o < makes; ++o)
            to[o] = squash(to[o] + bias[per_unit ? o : 0]);
        w = bias + (per_unit ? makes : 1);
        from = to;
        to = other;
        other = (vec*)from;
    }
    return from;
};
auto action = [&](vec out) __attribute__((always_inline)) { return clamp(-1.0f + (out + 1.0f), -1.0f, 1.0f); };
"""
