// Which warps have a thread that may run, by rank: a set of small numbers that finds its next member fast.
#pragma once

#include <stdint.h>

#include <vector>

namespace gpusim {

class ReadySet {
 public:
  void reset(int size) {
    words_.assign(static_cast<size_t>(size + 63) / 64, 0);
    summary_.assign((words_.size() + 63) / 64, 0);
  }
  void set(int i) {
    words_[word(i)] |= bit(i);
    summary_[word(i) / 64] |= 1ull << (word(i) % 64);
  }
  void clear(int i) {
    words_[word(i)] &= ~bit(i);
    if (words_[word(i)] == 0) summary_[word(i) / 64] &= ~(1ull << (word(i) % 64));
  }
  // The first member from `i` on, else the first of all; -1 where there is none.
  int next(int i) const {
    const int found = from(i);
    return found >= 0 || i == 0 ? found : from(0);
  }

 private:
  static size_t word(int i) { return static_cast<size_t>(i) / 64; }
  static uint64_t bit(int i) { return 1ull << (static_cast<unsigned>(i) % 64); }
  int from(int i) const {
    size_t w = word(i);
    if (w >= words_.size()) return -1;
    const uint64_t here = words_[w] & (~0ull << (static_cast<unsigned>(i) % 64));
    if (here != 0) return static_cast<int>(w * 64) + __builtin_ctzll(here);
    ++w;
    for (size_t s = w / 64; s < summary_.size(); ++s) {
      const uint64_t some = summary_[s] & (s == w / 64 ? ~0ull << (w % 64) : ~0ull);
      if (some == 0) continue;
      w = s * 64 + static_cast<size_t>(__builtin_ctzll(some));
      return static_cast<int>(w * 64) + __builtin_ctzll(words_[w]);
    }
    return -1;
  }
  std::vector<uint64_t> words_, summary_;
};

}  // namespace gpusim
