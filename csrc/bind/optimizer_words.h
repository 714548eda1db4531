// What a check of an optimizer's lists depends on, as numbers: lists that give the same ones need no second check.
//
// The gradients' numbers are apart: they are new arrays in many training loops, beside everything else as it was.
#pragma once

#include <cstdint>
#include <vector>

#include "bind/numpy_array.h"
#include "bind/optimizer_plans.h"
#include "bind/state_list.h"

namespace fusednn {

// Nothing that a walk over a list begins with.
constexpr int64_t kNoLength = -2;

// take(word) for all that a check of an array depends on, until it returns false.
template <class Take>
bool array_words(PyObject* array, const Take& take) {
  const ArrayFields& a = fields(array);
  const bool contiguous = is_c_contiguous(a);
  if (!take(reinterpret_cast<int64_t>(a.data)) || !take(reinterpret_cast<int64_t>(a.descr)) ||
      !take(a.nd * 4 + (contiguous ? 2 : 0) + (is_writable(a) ? 1 : 0))) {
    return false;
  }
  for (int k = 0; k < a.nd; ++k) {
    if (!take(a.dimensions[k]) || (!contiguous && !take(a.strides[k]))) return false;
  }
  return true;
}

// No array's first word, nor the next of a list.
constexpr int64_t kQuantizedWord = 1;

// The same for a list. Also false where something is no plain list of arrays and quantized states. One walk both writes
// and compares, so that a word always means the same.
template <class Take>
bool list_words(PyObject* list, const Take& take) {
  if (list == Py_None) return take(-1);
  if (!PyList_CheckExact(list) && !PyTuple_CheckExact(list)) return false;
  const Py_ssize_t length = PySequence_Fast_GET_SIZE(list);
  PyObject* const* const items = PySequence_Fast_ITEMS(list);
  if (!take(length)) return false;
  for (Py_ssize_t i = 0; i < length; ++i) {
    QuantizedParts parts;
    if (is_array(items[i])) {
      if (!array_words(items[i], take)) return false;
    } else if (!quantized_parts(items[i], parts) || !take(kQuantizedWord) || !take(parts.is_signed ? 1 : 0) ||
               !array_words(parts.codes, take) || !array_words(parts.scales, take)) {
      return false;
    }
  }
  return true;
}

template <class Take>
bool fixed_words(const OptimizerLists& of, const Take& take) {
  if (!take(of.kind)) return false;
  for (size_t l = 0; l < of.count; ++l) {
    if (l != OptimizerLists::kGrads && !list_words(of.lists[l].ptr(), take)) return false;
  }
  return true;
}

template <class Take>
bool grad_words(const OptimizerLists& of, const Take& take) {
  return list_words(of.lists[OptimizerLists::kGrads].ptr(), take);
}

// The same for lists that were read.
template <class Take>
bool list_words(const fnn_tensor* tensors, int64_t count, const Take& take) {
  if (tensors == nullptr) return take(-1);
  if (!take(count)) return false;
  for (int64_t i = 0; i < count; ++i) {
    const fnn_tensor& t = tensors[i];
    const int64_t kinds = (int64_t{t.dtype} << 48) + (int64_t{t.device_type} << 40) + (int64_t{t.flags} << 32) +
                          (int64_t{t.ndim} << 1) + (t.strides != nullptr ? 1 : 0);
    if (!take(reinterpret_cast<int64_t>(t.data)) || !take(kinds) || !take(t.device_id)) return false;
    for (int32_t k = 0; k < t.ndim; ++k) {
      if (!take(t.shape[k]) || (t.strides != nullptr && !take(t.strides[k]))) return false;
    }
  }
  return true;
}

// No first word of the walk above: the two must not be taken for each other.
constexpr int64_t kReadListsWord = -2;

template <class Take>
bool fixed_words(const ReadLists& of, const Take& take) {
  const fnn_optimizer_tensors& t = of.tensors;
  bool all = take(kReadListsWord - of.kind) && list_words(t.params, t.count, take) &&
             list_words(t.ema, t.count, take) && list_words(t.low_precision_copies, t.count, take);
  for (const fnn_tensor* states : t.states) all = all && list_words(states, t.count, take);
  for (const fnn_tensor* scales : t.state_scales) all = all && list_words(scales, t.count, take);
  return all;
}

template <class Take>
bool grad_words(const ReadLists& of, const Take& take) {
  return list_words(of.tensors.grads, of.tensors.count, take);
}

// `words` were written by a walk that came to its end: one that compares ends with them or before.
struct CompareWords {
  const int64_t*& word;
  bool operator()(int64_t value) const { return value == *word++; }
};

template <class Lists>
bool fixed_match(const Lists& of, const ListWords& words) {
  const int64_t* word = words.fixed.data();
  return fixed_words(of, CompareWords{word});
}

template <class Lists>
bool grads_match(const Lists& of, const ListWords& words) {
  const int64_t* word = words.grads.data();
  return grad_words(of, CompareWords{word});
}

// False where the walk does not come to its end.
template <class Lists>
bool write_grad_words(const Lists& of, ListWords& words) {
  words.grads.clear();
  return grad_words(of, [&words](int64_t word) {
    words.grads.push_back(word);
    return true;
  });
}

template <class Lists>
bool write_words(const Lists& of, ListWords& words) {
  words.fixed.clear();
  const bool fixed = fixed_words(of, [&words](int64_t word) {
    words.fixed.push_back(word);
    return true;
  });
  return fixed && write_grad_words(of, words);
}

}  // namespace fusednn
