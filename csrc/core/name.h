// What users call an argument of theirs: `list`, or `list[index]` and one of its members. Text only where it is needed.
#pragma once

#include <cstdint>
#include <string>

namespace fusednn {

struct Name {
  const char* list;
  int64_t index;       // -1: the argument is no list
  const char* member;  // with its dot, or null

  Name() = default;
  Name(const char* text) : Name(text, -1) {}
  Name(const char* text, int64_t i, const char* part = nullptr) : list(text), index(i), member(part) {}
};

inline std::string operator+(std::string text, const Name& name) {
  text += name.list;
  if (name.index >= 0) text.append(1, '[').append(std::to_string(name.index)).append(1, ']');
  if (name.member != nullptr) text += name.member;
  return text;
}

}  // namespace fusednn
