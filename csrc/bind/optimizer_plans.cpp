#include "bind/optimizer_plans.h"

#include <pthread.h>

#include <array>

#include "bind/numpy_array.h"
#include "bind/state_list.h"

namespace fusednn {
namespace {

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
constexpr int64_t kQuantized = 1;

// The same for the lists. Also false where something is no plain list of arrays and quantized states. One walk both
// writes and compares, so that a word always means the same.
template <class Take>
bool each_word(const OptimizerLists& of, const Take& take) {
  if (!take(of.kind)) return false;
  for (size_t l = 0; l < of.count; ++l) {
    PyObject* const list = of.lists[l].ptr();
    if (list == Py_None) {
      if (!take(-1)) return false;
      continue;
    }
    if (!PyList_CheckExact(list) && !PyTuple_CheckExact(list)) return false;
    const Py_ssize_t length = PySequence_Fast_GET_SIZE(list);
    PyObject* const* const items = PySequence_Fast_ITEMS(list);
    if (!take(length)) return false;
    for (Py_ssize_t i = 0; i < length; ++i) {
      QuantizedParts parts;
      if (is_array(items[i])) {
        if (!array_words(items[i], take)) return false;
      } else if (!quantized_parts(items[i], parts) || !take(kQuantized) || !take(parts.is_signed ? 1 : 0) ||
                 !array_words(parts.codes, take) || !array_words(parts.scales, take)) {
        return false;
      }
    }
  }
  return true;
}

// No first word of the walk above: the two must not be taken for each other.
constexpr int64_t kReadLists = -2;

template <class Take>
bool each_word(const fnn_tensor* tensors, int64_t count, const Take& take) {
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

// The same for lists that were read.
template <class Take>
bool each_word(int32_t kind, const fnn_optimizer_tensors& t, const Take& take) {
  bool all = take(kReadLists - kind) && each_word(t.params, t.count, take) && each_word(t.grads, t.count, take) &&
             each_word(t.ema, t.count, take) && each_word(t.low_precision_copies, t.count, take);
  for (const fnn_tensor* states : t.states) all = all && each_word(states, t.count, take);
  for (const fnn_tensor* scales : t.state_scales) all = all && each_word(scales, t.count, take);
  return all;
}

// `words` were written by a walk that came to its end: this one ends with them or before.
bool matches(const OptimizerLists& of, const std::vector<int64_t>& words) {
  const int64_t* word = words.data();
  return each_word(of, [&word](int64_t value) { return value == *word++; });
}

bool matches(int32_t kind, const fnn_optimizer_tensors& of, const std::vector<int64_t>& words) {
  const int64_t* word = words.data();
  return each_word(kind, of, [&word](int64_t value) { return value == *word++; });
}

// f(array, whether it holds codes) for all arrays of lists that a walk came to the end of.
template <class F>
void for_arrays(const OptimizerLists& of, const F& f) {
  for (size_t l = 0; l < of.count; ++l) {
    PyObject* const list = of.lists[l].ptr();
    for (Py_ssize_t i = 0; list != Py_None && i < PySequence_Fast_GET_SIZE(list); ++i) {
      PyObject* const item = PySequence_Fast_GET_ITEM(list, i);
      QuantizedParts parts;
      if (is_array(item)) {
        f(item, false);
      } else if (quantized_parts(item, parts)) {
        f(parts.codes, true);
        f(parts.scales, false);
      }
    }
  }
}

bool dtypes_known(const OptimizerLists& of) {
  static const PyObject* const bytes = py::dtype::of<uint8_t>().release().ptr();
  bool known = true;
  for_arrays(of, [&known](PyObject* array, bool codes) {
    const PyObject* const dtype = fields(array).descr;
    known = known && (codes ? dtype == bytes : known_dtype(dtype) != kUnknown);
  });
  return known;
}

}  // namespace

std::vector<py::object> items_of(const OptimizerLists& of) {
  std::vector<py::object> items;
  for_arrays(of, [&items](PyObject* array, bool) { items.push_back(py::reinterpret_borrow<py::object>(array)); });
  return items;
}

struct PlanLease::Entry {
  std::vector<int64_t> words;
  OwnedPlan plan;
  int64_t elements = 0;
  uint64_t last_use = 0;
  bool leased = false;
};

class PlanLease::Cache {
 public:
  Cache() { pthread_atfork(nullptr, nullptr, end_leases_after_fork); }

  // The first for which `fits(words)` holds, from behind the one that was found last: the lists of a training loop come
  // in the same order again.
  template <class Fits>
  Entry* find(const Fits& fits) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const size_t at = (found_ + 1 + i) % entries_.size();
      Entry& entry = entries_[at];
      if (entry.plan == nullptr || entry.leased || !fits(entry.words)) continue;
      found_ = at;
      return &entry;
    }
    return nullptr;
  }

  // An entry to overwrite: the one that was not used for longest. None where all are leased.
  Entry* oldest() {
    Entry* oldest = nullptr;
    for (Entry& entry : entries_) {
      if (!entry.leased && (oldest == nullptr || entry.last_use < oldest->last_use)) oldest = &entry;
    }
    return oldest;
  }

  uint64_t now() { return ++uses_; }

 private:
  // The threads that had them do not exist in the child.
  static void end_leases_after_fork() {
    for (Entry& entry : cache().entries_) entry.leased = false;
  }

  // As many parameter groups may a model have that is stepped group by group.
  std::array<Entry, 128> entries_;
  size_t found_ = 0;
  uint64_t uses_ = 0;
};

// Never destroyed: daemon threads may be in a call while the process ends.
PlanLease::Cache& PlanLease::cache() {
  static Cache& cache = *new Cache;
  return cache;
}

PlanLease::PlanLease(const OptimizerLists& lists) {
  lease(cache().find([&](const std::vector<int64_t>& words) { return matches(lists, words); }));
  if (found()) return;
  const auto add = [this](int64_t word) {
    words_.push_back(word);
    return true;
  };
  if (!each_word(lists, add) || !dtypes_known(lists)) words_.clear();
}

PlanLease::PlanLease(int32_t kind, const fnn_optimizer_tensors& tensors) {
  lease(cache().find([&](const std::vector<int64_t>& words) { return matches(kind, tensors, words); }));
}

void PlanLease::lease(Entry* entry) {
  if (entry == nullptr) return;
  entry_ = entry;
  entry_->leased = true;
  entry_->last_use = cache().now();
  plan_ = entry_->plan.get();
  elements_ = entry_->elements;
}

void PlanLease::find(int32_t kind, const fnn_optimizer_tensors& tensors) {
  of_read_lists_ = true;
  lease(cache().find([&](const std::vector<int64_t>& words) { return matches(kind, tensors, words); }));
  if (found()) return;
  each_word(kind, tensors, [this](int64_t word) {
    words_.push_back(word);
    return true;
  });
}

PlanLease::~PlanLease() {
  if (entry_ != nullptr) entry_->leased = false;
}

void PlanLease::take(OwnedPlan plan, const OptimizerLists& lists, int64_t elements, bool on_given_arrays) {
  plan_ = plan.get();
  elements_ = elements;
  // Reading them may have run Python code, which may have changed them.
  const bool unchanged = of_read_lists_ || (!words_.empty() && matches(lists, words_));
  entry_ = on_given_arrays && unchanged ? cache().oldest() : nullptr;
  if (entry_ == nullptr) {
    own_ = std::move(plan);
    return;
  }
  entry_->words = std::move(words_);
  entry_->plan = std::move(plan);
  entry_->elements = elements;
  entry_->last_use = cache().now();
  entry_->leased = true;
}

}  // namespace fusednn
