#include "bind/optimizer_plans.h"

#include <pthread.h>

#include <array>
#include <utility>

#include "bind/numpy_array.h"
#include "bind/optimizer_words.h"
#include "bind/state_list.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

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

// A list of NumPy's arrays of known dtypes, read without a name for messages.
class ArrayTensors {
 public:
  // False where something is none, or has strides that are no multiples of its element size. The list stays as it is.
  bool read(PyObject* list, Py_ssize_t length) {
    if (!PyList_CheckExact(list) && !PyTuple_CheckExact(list)) return false;
    if (PySequence_Fast_GET_SIZE(list) != length) return false;
    tensors_.clear();
    strides_.clear();
    size_t axes = 0;
    for (Py_ssize_t i = 0; i < length; ++i) {
      PyObject* const item = PySequence_Fast_GET_ITEM(list, i);
      if (!is_array(item)) return false;
      axes += static_cast<size_t>(fields(item).nd);
    }
    strides_.reserve(axes);  // none moves
    for (Py_ssize_t i = 0; i < length; ++i) {
      if (!add(fields(PySequence_Fast_GET_ITEM(list, i)))) return false;
    }
    return true;
  }
  const fnn_tensor* data() const { return tensors_.data(); }

 private:
  bool add(const ArrayFields& a) {
    fnn_tensor& t = tensors_.emplace_back();
    t.dtype = known_dtype(a.descr);
    if (t.dtype == kUnknown) return false;
    t.data = a.data;
    t.ndim = a.nd;
    t.shape = reinterpret_cast<const int64_t*>(a.dimensions);
    t.device_type = FNN_CPU;
    t.flags = is_writable(a) ? 0 : FNN_READ_ONLY;
    if (is_c_contiguous(a)) return true;
    t.strides = strides_.data() + strides_.size();
    const int64_t size = element_size(t.dtype);
    for (int i = 0; i < a.nd; ++i) {
      if (a.strides[i] % size != 0) return false;
      strides_.push_back(a.strides[i] / size);
    }
    return true;
  }

  std::vector<fnn_tensor> tensors_;
  std::vector<int64_t> strides_;
};

}  // namespace

std::vector<py::object> items_of(const OptimizerLists& of) {
  std::vector<py::object> items;
  for_arrays(of, [&items](PyObject* array, bool) { items.push_back(py::reinterpret_borrow<py::object>(array)); });
  return items;
}

struct PlanLease::Entry {
  ListWords words;
  OwnedPlan plan;
  int64_t elements = 0;
  uint64_t last_use = 0;
  bool leased = false;

  bool set_grads(const fnn_tensor* grads) {
    words.grads.assign(1, kNoLength);  // whatever happens from here on
    return fnn_optimizer_plan_set_grads(plan.get(), grads) == FNN_SUCCESS;
  }
};

class PlanLease::Cache {
 public:
  Cache() { pthread_atfork(nullptr, nullptr, end_leases_after_fork); }

  // The plan of such lists, if need be with gradients that it has not had yet. The search begins behind the one that was
  // found last: the lists of a training loop come in the same order again.
  template <class Lists>
  Entry* find(const Lists& lists) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const size_t at = (found_ + 1 + i) % entries_.size();
      Entry& entry = entries_[at];
      if (entry.plan == nullptr || entry.leased || !fixed_match(lists, entry.words)) continue;
      if (!grads_match(lists, entry.words) && !take_grads(lists, entry)) continue;
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
  // False where they are not as the plan could take them: who reads them by name says what is wrong, or copies them.
  bool take_grads(const OptimizerLists& lists, Entry& entry) {
    const Py_ssize_t length = PySequence_Fast_GET_SIZE(lists.lists[OptimizerLists::kParams].ptr());
    return new_grads_.read(lists.lists[OptimizerLists::kGrads].ptr(), length) && entry.set_grads(new_grads_.data()) &&
           write_grad_words(lists, entry.words);
  }

  // On a GPU they mostly come back to memory that they had before, for which there is a table there.
  static bool take_grads(const ReadLists& lists, Entry& entry) {
    return lists.tensors.params[0].device_type == FNN_CPU && entry.set_grads(lists.tensors.grads) &&
           write_grad_words(lists, entry.words);
  }

  // The threads that had them do not exist in the child.
  static void end_leases_after_fork() {
    for (Entry& entry : cache().entries_) entry.leased = false;
  }

  // As many parameter groups may a model have that is stepped group by group.
  std::array<Entry, 128> entries_;
  size_t found_ = 0;
  uint64_t uses_ = 0;
  ArrayTensors new_grads_;
};

// Never destroyed: daemon threads may be in a call while the process ends.
PlanLease::Cache& PlanLease::cache() {
  static Cache& cache = *new Cache;
  return cache;
}

PlanLease::PlanLease(const OptimizerLists& lists) {
  lease(cache().find(lists));
  if (!found()) of_numpy_ = write_words(lists, words_) && dtypes_known(lists);
}

PlanLease::PlanLease(const ReadLists& lists) { find(lists); }

void PlanLease::find(const ReadLists& lists) {
  lease(cache().find(lists));
  if (!found()) write_words(lists, words_);
}

void PlanLease::lease(Entry* entry) {
  if (entry == nullptr) return;
  entry_ = entry;
  entry_->leased = true;
  entry_->last_use = cache().now();
  plan_ = entry_->plan.get();
  elements_ = entry_->elements;
}

PlanLease::~PlanLease() {
  if (entry_ != nullptr) entry_->leased = false;
}

void PlanLease::take(OwnedPlan plan, const OptimizerLists& lists, int64_t elements, bool on_given_arrays) {
  // Reading NumPy's arrays may have run Python code, which may have changed them.
  const bool unchanged = !of_numpy_ || (fixed_match(lists, words_) && grads_match(lists, words_));
  take(std::move(plan), elements, on_given_arrays && unchanged);
}

void PlanLease::take(OwnedPlan plan, int64_t elements, bool remember) {
  plan_ = plan.get();
  elements_ = elements;
  entry_ = remember ? cache().oldest() : nullptr;
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
