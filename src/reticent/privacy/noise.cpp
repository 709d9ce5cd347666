// SPDX-License-Identifier: Apache-2.0
//
// x = (x + std * N) * scale in place, N standard normal, each a pure function of (key, step, index, position).
//
// Bits: ChaCha20 (RFC 8439). One tile is 16 blocks, 256 words: word w of lane l is word w of block
// 16*tile + l, and so makes position 256*tile + 16*w + l. The nonce is (index, step); see `State`.
// Normals: Box-Muller on words w and w + 8 of a block, which become those two positions:
//   radius  sqrt(-2 log u), u = (word + 1/2) / 2^32; a word below 2^20 (one in 4,096) gets 64 bits more, from the block
//           of the same number of a second stream, so that u keeps its precision, is never 0 and the normals reach 11.6
//   angle   (octant-centred) 30 bits of the other word in (-pi/4, pi/4), one bit swaps, one bit turns the sign
// `noise.py` has the same, as it reads, in numpy.
//
// Every operation is one that IEEE 754 rounds correctly and the compiler may not fuse (-ffp-contract=off), so the result
// is the same bit for bit on any CPU, with any compiler, vector width and number of threads.
// Written with vector extensions (gcc, clang): no intrinsics, no OpenMP, threads of its own.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int ROUNDS = 20;
constexpr int LANES = 16, WORDS = 16, TILE = LANES * WORDS, HALF = TILE / 2;
constexpr int64_t CHUNK = 256 * TILE;  // what a thread takes at a time, and what is summed before the sums are added up
constexpr uint32_t RARE = 1u << 20;

typedef float Floats __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Ints __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t Words __attribute__((vector_size(WIDTH * 4)));

template <typename V, typename T>
inline V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <typename V, typename T>
inline void store(T* p, V v) {
    std::memcpy(p, &v, sizeof v);
}
inline Floats all(float x) { return Floats{} + x; }
inline Floats choose(Ints mask, Floats yes, Floats no) {
    return (Floats)((mask & (Ints)yes) | (~mask & (Ints)no));
}

// ---- bits ----

// The 16 words a block starts from. The counter is word 12; 13 is the index; 14 and 15 are the step, of which the top
// bit says which stream: 0 for the words themselves, 1 for the bits that refine rare ones.
struct State {
    uint32_t word[WORDS];
    State(const uint8_t* key, uint64_t step, uint32_t index, bool refine) {
        const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
        for (int i = 0; i < 4; ++i) word[i] = constants[i];
        for (int i = 0; i < 8; ++i)
            word[4 + i] = uint32_t(key[4 * i]) | uint32_t(key[4 * i + 1]) << 8 | uint32_t(key[4 * i + 2]) << 16 |
                          uint32_t(key[4 * i + 3]) << 24;
        word[12] = 0;
        word[13] = index;
        word[14] = uint32_t(step);
        word[15] = uint32_t(step >> 32) | uint32_t(refine) << 31;
    }
};

template <typename V>
inline V rotate(V v, int n) {
    return (v << n) | (v >> (32 - n));
}

template <typename V>
inline void quarter(V& a, V& b, V& c, V& d) {
    a += b, d ^= a, d = rotate(d, 16);
    c += d, b ^= c, b = rotate(b, 12);
    a += b, d ^= a, d = rotate(d, 8);
    c += d, b ^= c, b = rotate(b, 7);
}

// Blocks `counter`, one in each lane of V.
template <typename V>
inline void chacha(const State& state, V counter, V* out) {
    V x[WORDS];
    for (int i = 0; i < WORDS; ++i) x[i] = V{} + state.word[i];
    x[12] = counter;
    for (int round = 0; round < ROUNDS; round += 2) {
        quarter(x[0], x[4], x[8], x[12]);
        quarter(x[1], x[5], x[9], x[13]);
        quarter(x[2], x[6], x[10], x[14]);
        quarter(x[3], x[7], x[11], x[15]);
        quarter(x[0], x[5], x[10], x[15]);
        quarter(x[1], x[6], x[11], x[12]);
        quarter(x[2], x[7], x[8], x[13]);
        quarter(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < WORDS; ++i) out[i] = x[i] + (i == 12 ? counter : V{} + state.word[i]);
}

inline void tile_words(const State& state, uint32_t tile, uint32_t* words) {
    for (int lane = 0; lane < LANES; lane += WIDTH) {
        Words counter, out[WORDS];
        for (int i = 0; i < WIDTH; ++i) counter[i] = LANES * tile + uint32_t(lane + i);
        chacha(state, counter, out);
        for (int i = 0; i < WORDS; ++i) store(words + LANES * i + lane, out[i]);
    }
}

// ---- normals ----

// -2 log u of u = a where `high` is 0 and u = 1 - a where it is ~0; a in (0, 1/2]. Relative error below 4e-7.
// u = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), log(1 + f) by a minimax polynomial. Where u is near 1, f is -a itself
// and not what is left of it after rounding 1 - a.
inline Floats minus_two_log(Floats a, Ints high) {
    const Floats u = choose(high, all(1.0f) - a, a);
    const Ints e = ((Ints)u - 0x3f3504f3) >> 23;
    const Floats reduced = (Floats)((Ints)u - (e << 23)) - all(1.0f);
    const Floats f = choose(high & (e == 0), -a, reduced);
    Floats p = all(0.2021379664f);
    p = p * f + all(-0.3244516081f);
    p = p * f + all(0.3450165783f);
    p = p * f + all(-0.3980033107f);
    p = p * f + all(0.4993981827f);
    p = p * f + all(-0.6667011788f);
    p = p * f + all(1.000007302f);
    p = p * f + all(-1.999999891f);
    return p * f + __builtin_convertvector(e, Floats) * all(-1.38629436f);
}

// The words below RARE, one after another: u = (word + (more + 1/2) / 2^64) / 2^32.
void refine(const State& stream, uint32_t tile, const uint32_t* words, float* squares) {
    for (int at = 0; at < HALF; ++at) {
        if (words[at] >= RARE) continue;
        uint32_t out[WORDS];
        chacha(stream, LANES * tile + uint32_t(at % LANES), out);
        const int word = at / LANES;
        const double more = (double(out[2 * word]) * 0x1p32 + double(out[2 * word + 1]) + 0.5) * 0x1p-64;
        squares[at] = minus_two_log(all(float((double(words[at]) + more) * 0x1p-32)), Ints{})[0];
    }
}

inline void tile_normals(const State& state, const State& stream, uint32_t tile, float* z) {
    alignas(64) uint32_t words[TILE];
    alignas(64) float radius[HALF];
    tile_words(state, tile, words);
    Ints rare{};
    for (int at = 0; at < HALF; at += WIDTH) {
        const Words word = load<Words>(words + at);
        rare |= (Ints)(word < RARE);
        const Ints high = (Ints)word >> 31;
        const Ints below = (Ints)word ^ high;  // of 2^31, from the nearer end
        store(radius + at, minus_two_log((__builtin_convertvector(below, Floats) + all(0.5f)) * all(0x1p-32f), high));
    }
    uint32_t any = 0;
    for (int i = 0; i < WIDTH; ++i) any |= uint32_t(rare[i]);
    if (any) refine(stream, tile, words, radius);
    for (int at = 0; at < HALF; ++at) radius[at] = std::sqrt(radius[at]);
    for (int at = 0; at < HALF; at += WIDTH) {
        const Words word = load<Words>(words + HALF + at);
        const Floats r = load<Floats>(radius + at);
        const Floats t = __builtin_convertvector((Ints)(word << 2 | 2), Floats) * all(0x1p-31f);  // of pi/4; never 0
        const Floats tt = t * t;
        Floats sine = all(-3.595045227e-5f), cosine = all(-3.187278407e-4f);
        sine = sine * tt + all(0.002490001024f);
        cosine = cosine * tt + all(0.01584968417f);
        sine = sine * tt + all(-0.08074543253f);
        cosine = cosine * tt + all(-0.3084241656f);
        sine = (sine * tt + all(0.7853981609f)) * t * r;
        cosine = (cosine * tt + all(0.9999999674f)) * r;
        cosine = (Floats)((Words)cosine ^ (word & 0x80000000u));
        const Ints swap = (Ints)(word << 1) >> 31;
        store(z + at, choose(swap, sine, cosine));
        store(z + HALF + at, choose(swap, cosine, sine));
    }
}

// ---- the tensor ----

struct Sums {
    double x_squared = 0, noise = 0, noise_squared = 0;
};

// One chunk, `count` elements, the first of them the first of a tile. Sums are float over a tile and a lane of 16 terms,
// then double, lane after lane: the same whatever the width.
Sums add_chunk(float* x, int64_t count, float std, float scale, const State& state, const State& stream,
               uint32_t tile) {
    double x_squared[LANES] = {}, noise[LANES] = {}, noise_squared[LANES] = {};
    alignas(64) float z[TILE];
    const int64_t body = count / TILE * TILE;
    for (int64_t start = 0; start < body; start += TILE, ++tile) {
        tile_normals(state, stream, tile, z);
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            Floats xx{}, n{}, nn{};
            for (int at = lane; at < TILE; at += LANES) {
                const Floats before = load<Floats>(x + start + at), drawn = load<Floats>(z + at) * std;
                store(x + start + at, (before + drawn) * scale);
                xx += before * before, n += drawn, nn += drawn * drawn;
            }
            for (int i = 0; i < WIDTH; ++i)
                x_squared[lane + i] += xx[i], noise[lane + i] += n[i], noise_squared[lane + i] += nn[i];
        }
    }
    if (body < count) tile_normals(state, stream, tile, z);
    for (int64_t at = 0; at < count - body; ++at) {
        const float before = x[body + at], drawn = z[at] * std;
        x[body + at] = (before + drawn) * scale;
        x_squared[at % LANES] += double(before) * before;
        noise[at % LANES] += drawn;
        noise_squared[at % LANES] += double(drawn) * drawn;
    }
    Sums sums;
    for (int i = 0; i < LANES; ++i)
        sums.x_squared += x_squared[i], sums.noise += noise[i], sums.noise_squared += noise_squared[i];
    return sums;
}

}  // namespace

// x: [n], from the first element of tile `first` of its tensor on. key: 32 bytes. step < 2^63. sums: 3 of double = sum
// x^2 before, sum of std*N, sum of (std*N)^2. n + 256*first < 2^36.
extern "C" void reticent_add_noise(float* x, int64_t n, float std, float scale, const uint8_t* key, uint64_t step,
                                   uint32_t index, uint32_t first, double* sums, int32_t threads) {
    const State state(key, step, index, false), stream(key, step, index, true);
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
    std::vector<Sums> parts(size_t(chunks), Sums{});
    std::atomic<int64_t> next{0};
    auto work = [&] {
        for (int64_t i = next++; i < chunks; i = next++) {
            const int64_t start = i * CHUNK, count = n - start < CHUNK ? n - start : CHUNK;
            parts[size_t(i)] = add_chunk(x + start, count, std, scale, state, stream, first + uint32_t(start / TILE));
        }
    };
    std::vector<std::thread> helpers;
    for (int64_t i = 1; i < threads && i < chunks; ++i) {
        try {
            helpers.emplace_back(work);
        } catch (const std::system_error&) {  // no more threads to be had: the others do the work
            break;
        }
    }
    work();
    for (auto& helper : helpers) helper.join();
    Sums total;
    for (const Sums& part : parts)
        total.x_squared += part.x_squared, total.noise += part.noise, total.noise_squared += part.noise_squared;
    sums[0] = total.x_squared, sums[1] = total.noise, sums[2] = total.noise_squared;
}
