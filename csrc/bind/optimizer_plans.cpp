#include "bind/optimizer_plans.h"

#include <pthread.h>

#include <array>

#include "bind/numpy_array.h"

namespace fusednn {
namespace {

// take(word) for all that a check of the lists depends on, until it returns false. Also false where something is no
// plain list of arrays. One walk both writes and compares, so that a word always means the same.
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
      if (!is_array(items[i])) return false;
      const ArrayFields& a = fields(items[i]);
      const bool contiguous = is_c_contiguous(a);
      if (!take(reinterpret_cast<int64_t>(a.data)) || !take(reinterpret_cast<int64_t>(a.descr)) ||
          !take(a.nd * 4 + (contiguous ? 2 : 0) + (is_writable(a) ? 1 : 0))) {
        return false;
      }
      for (int k = 0; k < a.nd; ++k) {
        if (!take(a.dimensions[k]) || (!contiguous && !take(a.strides[k]))) return false;
      }
    }
  }
  return true;
}

// No first word of the walk above: the two must not be taken for each other.
constexpr int64_t kReadLists = -2;

void append(std::vector<int64_t>& words, const fnn_tensor* tensors, int64_t count) {
  words.push_back(tensors == nullptr ? -1 : count);
  for (int64_t i = 0; tensors != nullptr && i < count; ++i) {
    const fnn_tensor& t = tensors[i];
    for (const int64_t word : {reinterpret_cast<int64_t>(t.data), int64_t{t.dtype}, int64_t{t.device_type},
                               int64_t{t.device_id}, int64_t{t.flags}, int64_t{t.ndim}}) {
      words.push_back(word);
    }
    words.insert(words.end(), t.shape, t.shape + t.ndim);
    words.push_back(t.strides != nullptr ? 1 : 0);
    if (t.strides != nullptr) words.insert(words.end(), t.strides, t.strides + t.ndim);
  }
}

// As each_word, of what was read.
std::vector<int64_t> words_of(int32_t kind, const fnn_optimizer_tensors& t) {
  std::vector<int64_t> words{kReadLists - kind};
  append(words, t.params, t.count);
  append(words, t.grads, t.count);
  append(words, t.ema, t.count);
  append(words, t.low_precision_copies, t.count);
  for (const fnn_tensor* states : t.states) append(words, states, t.count);
  return words;
}

// `words` were written by a walk that came to its end: this one ends with them or before.
bool matches(const OptimizerLists& of, const std::vector<int64_t>& words) {
  const int64_t* word = words.data();
  return each_word(of, [&word](int64_t value) { return value == *word++; });
}

bool dtypes_known(const OptimizerLists& of) {
  for (size_t l = 0; l < of.count; ++l) {
    PyObject* const list = of.lists[l].ptr();
    for (Py_ssize_t i = 0; list != Py_None && i < PySequence_Fast_GET_SIZE(list); ++i) {
      if (known_dtype(fields(PySequence_Fast_GET_ITEM(list, i)).descr) == kUnknown) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<py::object> items_of(const OptimizerLists& of) {
  std::vector<py::object> items;
  for (size_t l = 0; l < of.count; ++l) {
    PyObject* const list = of.lists[l].ptr();
    for (Py_ssize_t i = 0; list != Py_None && i < PySequence_Fast_GET_SIZE(list); ++i) {
      items.push_back(py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(list, i)));
    }
  }
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

  Entry* find(const OptimizerLists& lists) {
    for (Entry& entry : entries_) {
      if (entry.plan != nullptr && !entry.leased && matches(lists, entry.words)) return &entry;
    }
    return nullptr;
  }

  Entry* find(const std::vector<int64_t>& words) {
    for (Entry& entry : entries_) {
      if (entry.plan != nullptr && !entry.leased && entry.words == words) return &entry;
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

  std::array<Entry, 8> entries_;
  uint64_t uses_ = 0;
};

// Never destroyed: daemon threads may be in a call while the process ends.
PlanLease::Cache& PlanLease::cache() {
  static Cache& cache = *new Cache;
  return cache;
}

PlanLease::PlanLease(const OptimizerLists& lists) {
  lease(cache().find(lists));
  if (found()) return;
  const auto add = [this](int64_t word) {
    words_.push_back(word);
    return true;
  };
  if (!each_word(lists, add) || !dtypes_known(lists)) words_.clear();
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
  words_ = words_of(kind, tensors);
  of_read_lists_ = true;
  lease(cache().find(words_));
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
