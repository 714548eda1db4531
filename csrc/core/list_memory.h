// The memory of lists of arrays, of which each that is written may be given once. Comparing each with each would be slow:
// intervals are sorted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "core/name.h"
#include "core/status.h"
#include "core/tensor.h"

namespace fusednn {

class ListMemory {
 public:
  void reserve(int64_t spans) { spans_.reserve(static_cast<size_t>(spans)); }

  void add(const Name& name, Range r, bool written) {
    if (r.begin < r.end) spans_.push_back({r, name, written});
  }

  // Fails where something overlaps what is written. From then on only that is kept.
  void check() {
    std::sort(spans_.begin(), spans_.end(), [](const Span& a, const Span& b) { return a.range.begin < b.range.begin; });
    // The furthest end so far, of written spans and of all.
    const Span* written = nullptr;
    const Span* any = nullptr;
    for (const Span& s : spans_) {
      const Span* clash = s.written ? any : written;
      if (clash != nullptr && clash->range.end > s.range.begin) {
        s.written ? fail(s, *clash) : fail(*clash, s);
      }
      if (any == nullptr || s.range.end > any->range.end) any = &s;
      if (s.written && (written == nullptr || s.range.end > written->range.end)) written = &s;
    }
    spans_.erase(std::remove_if(spans_.begin(), spans_.end(), [](const Span& s) { return !s.written; }), spans_.end());
  }

  // After `check`: fails as it does where something that is read alone overlaps what is written. `near` is where the last
  // one lay, 0 at first: arrays that were allocated one after the other are mostly neighbours.
  void require_apart(const Name& name, Range r, size_t& near) const {
    if (r.begin >= r.end) return;
    const bool here = near < spans_.size() && spans_[near].range.end > r.begin &&
                      (near == 0 || spans_[near - 1].range.end <= r.begin);
    if (!here) {
      const auto ends_before = [](const Span& s, uintptr_t begin) { return s.range.end <= begin; };
      near = static_cast<size_t>(std::lower_bound(spans_.begin(), spans_.end(), r.begin, ends_before) - spans_.begin());
    }
    if (near < spans_.size() && spans_[near].range.begin < r.end) fail(spans_[near], {r, name, false});
  }

 private:
  struct Span {
    Range range;
    Name name;
    bool written;
  };

  [[noreturn]] static void fail(const Span& output, const Span& other) {
    const uintptr_t end = std::min(output.range.end, other.range.end);
    fail_value("`" + output.name + "` must not overlap `" + other.name + "`: each array may be given once. Received: " +
               std::to_string(end - std::max(output.range.begin, other.range.begin)) + " bytes in common");
  }

  std::vector<Span> spans_;
};

}  // namespace fusednn
