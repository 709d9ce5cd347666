// SPDX-License-Identifier: Apache-2.0
//
// Statistics of the next-token distribution, one row of logits at a time, while the row is in cache.
//
// For a row x[0..vocab) and a gold token g, with m = max x, d = x - m, e = exp(d):
//   S = sum e      A = sum e*d      B = sum e*d*d
//   logp    = (x[g] - m) - log S
//   mu      = A/S - log S           (mean of log p under p; entropy = -mu)
//   sigma^2 = B/S - (A/S)^2         (the shift by m and the sums in double keep this from cancelling)
//   rank    = how many x are > x[g]
// Products and partial sums are float over BLOCK elements, then added up in double. A logit of -inf has probability 0.
// NaN anywhere in a row makes its statistics NaN; nothing is swallowed.
//
// Written with vector extensions (gcc, clang; any CPU): no intrinsics, no OpenMP, threads of its own.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

namespace {

constexpr int LANES = 16;
constexpr int64_t BLOCK = 2048;
typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

inline float widen(float x) { return x; }
inline float widen(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline Floats load(const float* p) {
    Floats v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline Floats load(const uint16_t* p) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return (Floats)(__builtin_convertvector(h, Words) << 16);
}

inline Floats all(float x) { return Floats{} + x; }

// exp of d <= 0; below LOWEST it is that of LOWEST (1e-38, nothing beside the sum, which is at least 1).
// exp(d) = 2^n exp(r), |r| <= ln2/2, exp(r) by a polynomial of degree 6 (relative error below 1e-7). NaN stays NaN.
constexpr float LOWEST = -87.0f;
constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

inline Floats exp_negative(Floats d) {
    Floats t = d * all(1.44269504088896341f) + all(ROUND);
    Floats n = t - all(ROUND);
    Floats r = d - n * all(0.693359375f) - n * all(-2.12194440e-4f);
    Floats p = all(1.0f / 720);
    p = p * r + all(1.0f / 120);
    p = p * r + all(1.0f / 24);
    p = p * r + all(1.0f / 6);
    p = p * r + all(0.5f);
    p = p * r + all(1.0f);
    p = p * r + all(1.0f);
    Ints scale = ((Ints)t + 127) << 23;  // the bits of ROUND above bit 8 fall off at the top
    return p * (Floats)scale;
}

struct Sums {
    Floats s{}, a{}, b{};
    inline void add(Floats d) {
        Floats low = all(LOWEST);
        d = d < low ? low : d;  // false for NaN, which stays
        Floats e = exp_negative(d);
        Floats ed = e * d;
        s += e;
        a += ed;
        b += ed * d;
    }
};

inline double total(Floats v) {
    double sum = 0;
    for (int i = 0; i < LANES; ++i) sum += v[i];
    return sum;
}

template <typename T>
void row_stats(const T* x, int64_t vocab, int64_t gold, float* out, int32_t* rank) {
    const int64_t body = vocab / (4 * LANES) * (4 * LANES);
    const float mine = widen(x[gold]);

    Floats top[4];
    Ints above[4];
    for (int k = 0; k < 4; ++k) top[k] = all(-std::numeric_limits<float>::infinity()), above[k] = Ints{};
    for (int64_t i = 0; i < body; i += 4 * LANES)
        for (int k = 0; k < 4; ++k) {
            Floats v = load(x + i + k * LANES);
            top[k] = v > top[k] ? v : top[k];
            above[k] -= (Ints)(v > all(mine));
        }
    float m = -std::numeric_limits<float>::infinity();
    int64_t count = 0;
    for (int k = 0; k < 4; ++k)
        for (int i = 0; i < LANES; ++i) m = top[k][i] > m ? top[k][i] : m, count += above[k][i];
    for (int64_t i = body; i < vocab; ++i) {
        float v = widen(x[i]);
        m = v > m ? v : m;
        count += v > mine;
    }

    const Floats shift = all(m);
    double S = 0, A = 0, B = 0;
    for (int64_t start = 0; start < body; start += BLOCK) {
        const int64_t stop = start + BLOCK < body ? start + BLOCK : body;
        Sums sums[4];
        for (int64_t i = start; i < stop; i += 4 * LANES)
            for (int k = 0; k < 4; ++k) sums[k].add(load(x + i + k * LANES) - shift);
        for (int k = 0; k < 4; ++k) S += total(sums[k].s), A += total(sums[k].a), B += total(sums[k].b);
    }
    for (int64_t i = body; i < vocab; ++i) {
        double d = double(widen(x[i])) - m;
        d = d < LOWEST ? LOWEST : d;
        double e = std::exp(d);
        S += e, A += e * d, B += e * d * d;
    }
    const double log_s = std::log(S), mean = A / S, variance = B / S - mean * mean;
    out[0] = float(double(mine) - m - log_s);
    out[1] = float(mean - log_s);
    out[2] = float(std::sqrt(variance < 0 ? 0 : variance));
    *rank = int32_t(count);
}

template <typename T>
void many(const T* x, int64_t rows, int64_t vocab, int64_t stride, const int64_t* gold, float* out, int32_t* rank,
          int threads) {
    auto work = [=](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i) row_stats(x + i * stride, vocab, gold[i], out + 3 * i, rank + i);
    };
    std::vector<std::thread> helpers;
    const int64_t each = (rows + threads - 1) / threads;
    for (int64_t from = each; from < rows; from += each)
        helpers.emplace_back(work, from, from + each < rows ? from + each : rows);
    work(0, each < rows ? each : rows);
    for (auto& helper : helpers) helper.join();
}

}  // namespace

// x: [rows, vocab], `stride` elements from row to row. out: [rows, 3] = logp, mu, sigma. Each gold is in [0, vocab).
extern "C" void reticent_token_stats_bfloat16(const uint16_t* x, int64_t rows, int64_t vocab, int64_t stride,
                                              const int64_t* gold, float* out, int32_t* rank, int32_t threads) {
    many(x, rows, vocab, stride, gold, out, rank, threads);
}
extern "C" void reticent_token_stats_float32(const float* x, int64_t rows, int64_t vocab, int64_t stride,
                                             const int64_t* gold, float* out, int32_t* rank, int32_t threads) {
    many(x, rows, vocab, stride, gold, out, rank, threads);
}
