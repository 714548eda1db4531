// out = a @ b for arrays that stay where they are, by the BLAS that NumPy has, called without NumPy.
//
// A training step of a small network is some fifty products of a few microseconds each. NumPy takes half a microsecond
// to get to BLAS; BLAS computes what is that small on one thread, for its own threads take longer to meet than the
// product does. The kernels' threads meet faster: such a product is cut into two blocks of rows, each a product of its own.
// BLAS may round the sums of a block otherwise than those of the whole, so the cut depends on the shape alone: without
// threads to share the blocks are computed one after the other.
//
// Larger products BLAS cuts itself, into parts that wait for one another. Blocks that need not wait, each computed by
// BLAS on one thread, take 0.7 to 0.9 of the time; so where threads are shared they are cut here, too, one block for each
// thread, and BLAS has one thread meanwhile.
#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/numpy_array.h"
#include "bind/refuse.h"
#include "core/float_mode.h"

namespace fusednn {
namespace {

// Multiplications from which on a second thread pays: some 3 us on one.
constexpr int64_t kWorthCutting = 150000;
// From here on OpenBLAS takes a second thread itself.
constexpr int64_t kLargeForBlas = 1 << 19;
// Below this OpenBLAS has functions for small matrices, which are fastest with few rows.
constexpr int64_t kSmallForBlas = 1 << 20;
// So much longer than the result's sides the inner one is cut, which spares reading one operand twice.
constexpr int64_t kLongInner = 4;
// Rows and columns of a block are a multiple of these, so that only the last block has a narrow end.
constexpr int64_t kRowStep = 4;
constexpr int64_t kColumnStep = 16;

// OpenBLAS' function, while its products run on the kernels' threads. Read and written with the GIL.
void (*set_blas_threads)(int n) = nullptr;
// Products at work for which OpenBLAS has one thread.
int cut_products = 0;

struct Operand {
  const void* data;
  int64_t stride;  // of the rows in memory, in elements
  bool transposed;

  const void* at(int64_t row, int64_t column, size_t item) const {
    const int64_t elements = transposed ? column * stride + row : row * stride + column;
    return static_cast<const char*>(data) + static_cast<size_t>(elements) * item;
  }
};

struct Product {
  int64_t rows, columns, inner;
  Operand a, b;
  void* out;
  int64_t out_stride;
  size_t item;
  bool wide;  // whether BLAS' integers have 64 bits
  uintptr_t gemm;

  int64_t size() const { return rows * columns * inner; }
};

enum class Axis { kRows, kColumns, kInner };

struct Cut {
  Axis axis;
  int64_t length;  // of the blocks, but for the last one
  int64_t count;
};

int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

Cut cut_of(Axis axis, int64_t whole, int64_t count, int64_t step) {
  const int64_t length = rounded_up((whole + count - 1) / count, step);
  return {axis, length, (whole + length - 1) / length};
}

bool has_long_inner(const Product& p) {
  return p.size() >= kSmallForBlas && p.inner >= kLongInner * std::max(p.rows, p.columns);
}

// `threads` is 0 where none are shared.
Cut choose_cut(const Product& p, int64_t threads) {
  if (p.size() < kWorthCutting) return {Axis::kRows, p.rows, 1};
  if (p.size() < kLargeForBlas) return cut_of(Axis::kRows, p.rows, 2, kRowStep);
  if (threads < 2) return {Axis::kRows, p.rows, 1};
  if (threads == 2 && has_long_inner(p)) return cut_of(Axis::kInner, p.inner, 2, kColumnStep);
  const int64_t count = std::min(threads, p.size() / kWorthCutting);
  const bool small = p.size() < kSmallForBlas && !p.b.transposed;
  if (p.columns > p.rows && !small) return cut_of(Axis::kColumns, p.columns, count, kColumnStep);
  return cut_of(Axis::kRows, p.rows, count, kRowStep);
}

template <class Int, class Real>
void call_gemm(const Product& p) {
  using Gemm = void (*)(int, int, int, Int, Int, Int, Real, const Real*, Int, const Real*, Int, Real, Real*, Int);
  constexpr int kRowMajor = 101, kAsItIs = 111, kTransposed = 112;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what ctypes has.
  const auto gemm = reinterpret_cast<Gemm>(p.gemm);
  gemm(kRowMajor, p.a.transposed ? kTransposed : kAsItIs, p.b.transposed ? kTransposed : kAsItIs,
       static_cast<Int>(p.rows), static_cast<Int>(p.columns), static_cast<Int>(p.inner), Real{1},
       static_cast<const Real*>(p.a.data), static_cast<Int>(p.a.stride), static_cast<const Real*>(p.b.data),
       static_cast<Int>(p.b.stride), Real{0}, static_cast<Real*>(p.out), static_cast<Int>(p.out_stride));
}

void compute(const Product& p) {
  if (p.item == sizeof(float)) {
    p.wide ? call_gemm<int64_t, float>(p) : call_gemm<int32_t, float>(p);
  } else {
    p.wide ? call_gemm<int64_t, double>(p) : call_gemm<int32_t, double>(p);
  }
}

// The product that is block `index`. The second of the inner axis goes to `share`, a matrix of its own.
Product block_of(const Product& whole, const Cut& cut, int64_t index, void* share) {
  Product p = whole;
  const int64_t start = index * cut.length;
  const auto length = [&](int64_t n) { return std::min(cut.length, n - start); };
  char* out = static_cast<char*>(p.out);
  switch (cut.axis) {
    case Axis::kRows:
      p.rows = length(p.rows);
      p.a.data = p.a.at(start, 0, p.item);
      p.out = out + static_cast<size_t>(start * p.out_stride) * p.item;
      break;
    case Axis::kColumns:
      p.columns = length(p.columns);
      p.b.data = p.b.at(0, start, p.item);
      p.out = out + static_cast<size_t>(start) * p.item;
      break;
    case Axis::kInner:
      p.inner = length(p.inner);
      p.a.data = p.a.at(0, start, p.item);
      p.b.data = p.b.at(start, 0, p.item);
      if (index > 0) {
        p.out = share;
        p.out_stride = p.columns;
      }
      break;
  }
  return p;
}

template <class Real>
void add_share(const Product& p, const void* share) {
  const Real* from = static_cast<const Real*>(share);
  Real* to = static_cast<Real*>(p.out);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t column = 0; column < p.columns; ++column) {
      to[row * p.out_stride + column] += from[row * p.columns + column];
    }
  }
}

// A product, and memory for what its second block of the inner axis gives.
struct Bound {
  Product product;
  std::vector<char> share;
};

struct Job {
  std::vector<Bound> products;
  py::object arrays;
};

struct Part {
  Bound* bound;
  Cut cut;
  int64_t first;  // number of its first block among all
};

struct Parts {
  Part parts[2];
  int64_t count;
};

void compute_block(int index, void* data) {
  const auto& parts = *static_cast<const Parts*>(data);
  const Part& part = parts.parts[index >= parts.parts[1].first ? 1 : 0];
  compute(block_of(part.bound->product, part.cut, index - part.first, part.bound->share.data()));
}

// `threads` is 0 where none are shared.
void multiply(Job& job, int64_t threads) {
  const FloatMode mode;
  Parts parts{};
  parts.count = 0;
  int used = 0;
  int64_t size = 0;
  for (Bound& bound : job.products) {
    const Cut cut = choose_cut(bound.product, threads);
    parts.parts[used++] = {&bound, cut, parts.count};
    parts.count += cut.count;
    size += bound.product.size();
  }
  if (used == 1) parts.parts[1].first = parts.count;
  const int count = static_cast<int>(parts.count);
  if (threads > 0 && count > 1 && size >= kWorthCutting) {
    fnn_run_tasks(&compute_block, count, &parts);
  } else {
    for (int i = 0; i < count; ++i) compute_block(i, &parts);
  }
  for (int i = 0; i < used; ++i) {
    const Part& part = parts.parts[i];
    if (part.cut.axis != Axis::kInner) continue;
    const Product& p = part.bound->product;
    p.item == sizeof(float) ? add_share<float>(p, part.bound->share.data())
                            : add_share<double>(p, part.bound->share.data());
  }
}

constexpr const char* kCapsule = "fusednn matrix product";

PyObject* call(PyObject* capsule, PyObject* /*arguments*/) {
  auto& job = *static_cast<Job*>(PyCapsule_GetPointer(capsule, kCapsule));
  int64_t largest = 0;
  for (const Bound& bound : job.products) largest = std::max(largest, bound.product.size());
  const int64_t threads = set_blas_threads == nullptr ? 0 : fnn_get_num_threads();
  if (largest < kWorthCutting) {
    multiply(job, threads);
    Py_RETURN_NONE;
  }
  const bool alone = threads > 1 && largest >= kLargeForBlas;
  if (alone && cut_products++ == 0) set_blas_threads(1);
  PyThreadState* state = PyEval_SaveThread();
  multiply(job, threads);
  restore_thread(state);
  if (alone && --cut_products == 0 && set_blas_threads != nullptr) set_blas_threads(fnn_get_num_threads());
  Py_RETURN_NONE;
}

PyMethodDef definition = {"product", &call, METH_NOARGS, "Compute what it was made for."};

// The rows and columns of a matrix and how it lies in memory.
std::pair<std::pair<int64_t, int64_t>, Operand> read(const char* name, py::handle array, int64_t item) {
  if (!is_array(array) || fields(array).nd != 2) refuse(name, "a matrix of NumPy", array);
  const ArrayFields& f = fields(array);
  const int64_t rows = f.dimensions[0], columns = f.dimensions[1];
  const bool transposed = f.strides[1] != item;
  const int64_t stride = transposed ? f.strides[1] : f.strides[0];
  const bool dense = (transposed ? f.strides[0] == item : true) && stride % item == 0 &&
                     stride / item >= std::max<int64_t>(transposed ? rows : columns, 1);
  if (rows < 1 || columns < 1 || !dense) refuse(name, "a matrix with elements side by side", array);
  return {{rows, columns}, {f.data, stride / item, transposed}};
}

py::object function_of(std::unique_ptr<Job> job) {
  const py::capsule owner(job.release(), kCapsule,
                          [](PyObject* capsule) { delete static_cast<Job*>(PyCapsule_GetPointer(capsule, kCapsule)); });
  return py::reinterpret_steal<py::object>(PyCFunction_New(&definition, owner.ptr()));
}

// A function of no arguments. `gemm` is the address of cblas_sgemm or cblas_dgemm, `item` the size of an element.
py::object matrix_product(py::handle a, py::handle b, py::handle out, py::handle gemm, py::handle item,
                          py::handle wide) {
  const int64_t size = integer("item", item);
  const auto [a_shape, a_read] = read("a", a, size);
  const auto [b_shape, b_read] = read("b", b, size);
  const auto [out_shape, out_read] = read("out", out, size);
  const bool fits = a_shape.second == b_shape.first && out_shape == std::pair(a_shape.first, b_shape.second);
  if (!fits || out_read.transposed || !is_writable(fields(out))) {
    refuse("out", "writable, in C order and of the product's shape", out);
  }
  Product product{a_shape.first,
                  b_shape.second,
                  a_shape.second,
                  a_read,
                  b_read,
                  fields(out).data,
                  out_read.stride,
                  static_cast<size_t>(size),
                  flag("wide", wide),
                  py::cast<uintptr_t>(gemm)};
  auto job = std::make_unique<Job>();
  const int64_t share = has_long_inner(product) ? product.rows * product.columns * size : 0;
  job->products.push_back({product, std::vector<char>(static_cast<size_t>(share))});
  job->arrays = py::make_tuple(a, b, out);
  return function_of(std::move(job));
}

const Bound& bound_of(const char* name, py::handle function, const Job*& job) {
  const std::string must = "`" + std::string(name) + "` must be ";
  if (!PyCFunction_Check(function.ptr()) || PyCFunction_GetFunction(function.ptr()) != &call) {
    throw py::type_error(must + "what `matrix_product` returned. Received: " + name + "=" +
                         std::string(py::repr(function)));
  }
  job = static_cast<const Job*>(PyCapsule_GetPointer(PyCFunction_GetSelf(function.ptr()), kCapsule));
  if (job->products.size() != 1) throw py::type_error(must + "one product. Received: 2 products");
  return job->products.front();
}

// A function that computes two products, the blocks of both side by side: neither may read what the other one writes.
py::object matrix_products(py::handle first, py::handle second) {
  const Job *one = nullptr, *other = nullptr;
  auto job = std::make_unique<Job>();
  job->products.push_back(bound_of("first", first, one));
  job->products.push_back(bound_of("second", second, other));
  job->arrays = py::make_tuple(one->arrays, other->arrays);
  return function_of(std::move(job));
}

// `address` is that of OpenBLAS' function that sets its number of threads; 0: the products have no shared threads.
void share_products(uintptr_t address) {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { cut_products = 0; });
  (void)registered;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what ctypes has.
  set_blas_threads = reinterpret_cast<void (*)(int)>(address);
}

}  // namespace

void register_matrix_product(py::module_& m) {
  m.def("matrix_product", &matrix_product, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("gemm"), py::arg("item"),
        py::arg("wide"));
  m.def("matrix_products", &matrix_products, py::arg("first"), py::arg("second"));
  m.def("share_products", &share_products, py::arg("address"));
}

}  // namespace fusednn
