#include "bind/torch_group.h"

#include <numeric>

#include "bind/torch_tensor.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

// Interned, and kept for ever.
struct Words {
  PyObject* grad = PyUnicode_InternFromString("grad");
  PyObject* ema = PyUnicode_InternFromString("ema");
  PyObject* step = PyUnicode_InternFromString("step");
  PyObject* is_neg = PyUnicode_InternFromString("is_neg");
};
const Words& words() {
  static const Words& all = *new Words;
  return all;
}

// A view that negates what it shows has gaps, which no plan is for, or a single element.
bool shows_its_values(PyObject* tensor, const fnn_tensor& t) {
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] != 1) return true;
  }
  const auto negated = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(tensor, words().is_neg));
  if (!negated) throw py::error_already_set();
  return negated.ptr() == Py_False;
}

// Null where there is none.
PyObject* looked_up(PyObject* dict, PyObject* key) {
  PyObject* const value = PyDict_GetItemWithError(dict, key);
  if (value == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return value;
}

}  // namespace

bool TorchGroup::read(py::handle params, py::handle state, const TorchStateNames& names) {
  if (PyList_CheckExact(params.ptr()) == 0 || PyDict_Check(state.ptr()) == 0) return false;
  reserve(static_cast<size_t>(PyList_GET_SIZE(params.ptr())), names);
  Walk states{state.ptr()};
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(params.ptr()); ++i) {
    const auto param = py::reinterpret_borrow<py::object>(PyList_GET_ITEM(params.ptr(), i));
    if (!is_plain_tensor(param)) return false;
    auto grad = py::reinterpret_steal<py::object>(PyObject_GetAttr(param.ptr(), words().grad));
    if (!grad) throw py::error_already_set();
    if (!grad.is_none() && !add(param, std::move(grad), states, names)) return false;
  }
  if (!names.counts) steps_.assign(1, 2);  // not the first: that one has no states yet
  return true;
}

void TorchGroup::reserve(size_t count, const TorchStateNames& names) {
  params_.reserve(count);
  grads_.reserve(count);
  owners_.reserve(count);
  kept_.reserve(count * (names.states.size() + 3));
  for (size_t s = 0; s < states_.size(); ++s) states_[s].reserve(names.states[s] != nullptr ? count : 0);
  averages_.reserve(names.averages ? count : 0);
  counters_.reserve(names.counts ? count : 0);
  steps_.reserve(names.counts ? count : 1);
}

bool TorchGroup::add(const py::object& param, py::object grad, Walk& states, const TorchStateNames& names) {
  if (!reader_.read(param.ptr(), params_.emplace_back()) || !reader_.read(grad.ptr(), grads_.emplace_back()))
    return false;
  if (!shows_its_values(grad.ptr(), grads_.back())) return false;
  owners_.push_back(param);
  kept_.push_back(std::move(grad));
  if (names.states[0] == nullptr && !names.counts && !names.averages) return true;
  // States are mostly in the order of the parameters. Where they are not, the key's hash is asked for: Python's code.
  Py_ssize_t next = states.next;
  PyObject* key = nullptr;
  PyObject* own = nullptr;
  if (PyDict_Next(states.dict, &next, &key, &own) != 0 && key == param.ptr()) {
    states.next = next;
  } else {
    own = looked_up(states.dict, param.ptr());
  }
  return own != nullptr && PyDict_CheckExact(own) != 0 && add_states(own, names);
}

bool TorchGroup::add_states(PyObject* own, const TorchStateNames& names) {
  Walk walk{own};
  const auto entry = [&walk](PyObject* name) -> PyObject* {
    Py_ssize_t next = walk.next;
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    if (PyDict_Next(walk.dict, &next, &key, &value) == 0 || key != name) return looked_up(walk.dict, name);
    walk.next = next;
    return value;
  };
  const auto take = [&](PyObject* name, std::vector<fnn_tensor>& to) {
    PyObject* const value = entry(name);
    if (value == nullptr || !reader_.read(value, to.emplace_back())) return false;
    kept_.push_back(py::reinterpret_borrow<py::object>(value));
    return true;
  };
  // In the order in which they are made.
  if (names.counts) {
    PyObject* const step = entry(words().step);
    if (step == nullptr || !add_counter(step)) return false;
  }
  for (size_t s = 0; s < names.states.size(); ++s) {
    if (names.states[s] != nullptr && !take(names.states[s], states_[s])) return false;
  }
  return !names.averages || take(words().ema, averages_);
}

bool TorchGroup::add_counter(PyObject* step) {
  fnn_tensor t{};
  if (!reader_.read(step, t) || t.data == nullptr || t.ndim != 0 || (t.dtype != FNN_FLOAT32 && t.dtype != FNN_FLOAT64))
    return false;
  const Counter counter{t.data, t.dtype == FNN_FLOAT64};
  const double made = counter.in_double ? *static_cast<double*>(t.data) : double{*static_cast<float*>(t.data)};
  if (!(made >= 0.0 && made < 0x1p53)) return false;
  counters_.push_back(counter);
  steps_.push_back(static_cast<int64_t>(made) + 1);
  kept_.push_back(py::reinterpret_borrow<py::object>(step));
  return true;
}

int64_t TorchGroup::elements() const {
  return std::accumulate(params_.begin(), params_.end(), int64_t{0},
                         [](int64_t sum, const fnn_tensor& t) { return sum + element_count(t); });
}

fnn_optimizer_tensors TorchGroup::tensors() const {
  fnn_optimizer_tensors t{};
  t.size = sizeof t;
  t.count = static_cast<int64_t>(params_.size());
  t.params = params_.data();
  t.grads = grads_.data();
  t.ema = averages_.empty() ? nullptr : averages_.data();
  for (size_t s = 0; s < states_.size(); ++s) t.states[s] = states_[s].empty() ? nullptr : states_[s].data();
  return t;
}

void TorchGroup::count() const {
  for (const Counter& counter : counters_) {
    if (counter.in_double) {
      *static_cast<double*>(counter.data) += 1.0;
    } else {
      *static_cast<float*>(counter.data) += 1.0F;
    }
  }
}

void TorchGroup::append_owners(py::list& to) const {
  for (const py::object& owner : owners_) to.append(owner);
}

}  // namespace fusednn
