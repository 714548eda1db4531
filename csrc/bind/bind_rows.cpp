// Rows of an array, gathered in any order: the batches of shuffled data.
//
// Gathering is waiting for memory, some 15 GB/s for one thread, and a batch of wide rows takes it 5 % of a small network's
// step. The kernels' threads, which have nothing else to do at that moment, take a block of rows each.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numpy_array.h"
#include "bind/positional.h"
#include "bind/refuse.h"

namespace fusednn {
namespace {

// Bytes that are worth a thread: a few microseconds.
constexpr int64_t kBytesPerThread = 1 << 16;

struct Gather {
  const char* from;
  const int64_t* rows;
  char* to;
  int64_t count;  // of rows
  int64_t bytes;  // of a row
  int64_t block;  // rows of a task

  void copy(int64_t first, int64_t end) const {
    for (int64_t i = first; i < end; ++i) {
      std::memcpy(to + i * bytes, from + rows[i] * bytes, static_cast<size_t>(bytes));
    }
  }
};

void copy_block(int index, void* data) {
  const auto& gather = *static_cast<const Gather*>(data);
  const int64_t first = index * gather.block;
  gather.copy(first, std::min(first + gather.block, gather.count));
}

void check_array(const char* name, py::handle array) {
  const bool dense = is_array(array) && is_c_contiguous(array) && fields(array).nd > 0;
  if (!dense) refuse(name, "an array of NumPy in C order", array);
  constexpr uint64_t kHoldsObjects = 1;
  if ((py::reinterpret_borrow<py::array>(array).dtype().flags() & kHoldsObjects) != 0) {
    refuse(name, "an array of numbers", array);
  }
}

// out[i] = source[rows[i]]. `rows` are int64.
void take_rows(py::handle source, py::handle rows, py::handle out) {
  for (const auto& [name, array] : {std::pair("source", source), std::pair("rows", rows), std::pair("out", out)}) {
    check_array(name, array);
  }
  const ArrayFields &from = fields(source), &order = fields(rows), &to = fields(out);
  const auto numbers = py::reinterpret_borrow<py::array>(rows);
  if (order.nd != 1 || numbers.dtype().kind() != 'i' || numbers.itemsize() != sizeof(int64_t)) {
    refuse("rows", "a vector of int64", rows);
  }
  const bool fits = is_writable(to) && to.nd == from.nd && to.dimensions[0] == order.dimensions[0] &&
                    std::equal(from.dimensions + 1, from.dimensions + from.nd, to.dimensions + 1) &&
                    to.descr == from.descr;
  if (!fits) refuse("out", "writable, of the dtype of `source`, with a row of it for each of `rows`", out);
  Gather gather{from.data,           reinterpret_cast<const int64_t*>(order.data),         to.data,
                order.dimensions[0], py::reinterpret_borrow<py::array>(source).itemsize(), 0};
  for (int axis = 1; axis < from.nd; ++axis) gather.bytes *= from.dimensions[axis];
  const auto outside = [&](int64_t row) { return row < 0 || row >= from.dimensions[0]; };
  if (std::any_of(gather.rows, gather.rows + gather.count, outside)) refuse("rows", "rows of `source`", rows);
  const int64_t tasks = std::min<int64_t>(fnn_get_num_threads(), gather.count * gather.bytes / kBytesPerThread);
  if (tasks < 2) return gather.copy(0, gather.count);
  gather.block = (gather.count + tasks - 1) / tasks;
  PyThreadState* state = PyEval_SaveThread();
  fnn_run_tasks(&copy_block, static_cast<int>((gather.count + gather.block - 1) / gather.block), &gather);
  restore_thread(state);
}

}  // namespace

void register_rows(py::module_& m) { Positional<&take_rows>::add(m, "take_rows", "source, rows, out"); }

}  // namespace fusednn
