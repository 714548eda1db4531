// out = a @ b for arrays that stay where they are, by the BLAS that NumPy has, called without NumPy.
//
// A training step of a small network is some fifty products of a few microseconds each. NumPy takes half a microsecond
// to get to BLAS; BLAS computes what is that small on one thread, for its own threads take longer to meet than the
// product does. The kernels' threads meet faster: such a product is cut into two blocks of rows, each a product of its own.
// BLAS may round the sums of a block otherwise than those of the whole, so the cut depends on the shape alone: without
// threads to share the blocks are computed one after the other.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/numpy_array.h"
#include "core/float_mode.h"

namespace fusednn {
namespace {

// Multiplications from which on a second thread pays: some 3 us on one.
constexpr int64_t kWorthCutting = 150000;
// From here on OpenBLAS takes a second thread itself.
constexpr int64_t kLargeForBlas = 1 << 19;
// Rows of a block are a multiple of this, so that only the last block has a narrow end.
constexpr int64_t kRowStep = 4;

std::atomic<bool> threads_shared{false};

struct Operand {
  const void* data;
  int64_t stride;  // of the rows in memory, in elements
  bool transposed;
};

struct Product {
  int64_t rows, columns, inner;
  Operand a, b;
  void* out;
  int64_t out_stride;
  size_t item;
  bool wide;  // whether BLAS' integers have 64 bits
  uintptr_t gemm;
  py::object arrays;

  int64_t size() const { return rows * columns * inner; }
  int64_t length_of_blocks() const {
    if (size() < kWorthCutting || size() >= kLargeForBlas) return rows;
    return (rows + 2 * kRowStep - 1) / (2 * kRowStep) * kRowStep;
  }
};

template <class Int, class Real>
void call_gemm(const Product& p, int64_t rows, const char* a, const char* b, char* out) {
  using Gemm = void (*)(int, int, int, Int, Int, Int, Real, const Real*, Int, const Real*, Int, Real, Real*, Int);
  constexpr int kRowMajor = 101, kAsItIs = 111, kTransposed = 112;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what ctypes has.
  const auto gemm = reinterpret_cast<Gemm>(p.gemm);
  gemm(kRowMajor, p.a.transposed ? kTransposed : kAsItIs, p.b.transposed ? kTransposed : kAsItIs,
       static_cast<Int>(rows), static_cast<Int>(p.columns), static_cast<Int>(p.inner), Real{1},
       reinterpret_cast<const Real*>(a), static_cast<Int>(p.a.stride), reinterpret_cast<const Real*>(b),
       static_cast<Int>(p.b.stride), Real{0}, reinterpret_cast<Real*>(out), static_cast<Int>(p.out_stride));
}

// Rows `row` .. `row` + `rows` of the result.
void compute(const Product& p, int64_t row, int64_t rows) {
  const char* a =
      static_cast<const char*>(p.a.data) + static_cast<size_t>(row * (p.a.transposed ? 1 : p.a.stride)) * p.item;
  const char* b = static_cast<const char*>(p.b.data);
  char* out = static_cast<char*>(p.out) + static_cast<size_t>(row * p.out_stride) * p.item;
  if (p.item == sizeof(float)) {
    p.wide ? call_gemm<int64_t, float>(p, rows, a, b, out) : call_gemm<int32_t, float>(p, rows, a, b, out);
  } else {
    p.wide ? call_gemm<int64_t, double>(p, rows, a, b, out) : call_gemm<int32_t, double>(p, rows, a, b, out);
  }
}

struct Blocks {
  const Product* product;
  int64_t length;
};

void compute_block(int index, void* data) {
  const auto& blocks = *static_cast<const Blocks*>(data);
  const int64_t start = index * blocks.length;
  compute(*blocks.product, start, std::min(blocks.length, blocks.product->rows - start));
}

void multiply(const Product& p) {
  const FloatMode mode;
  Blocks blocks{&p, p.length_of_blocks()};
  if (blocks.length >= p.rows) return compute(p, 0, p.rows);
  const int count = static_cast<int>((p.rows + blocks.length - 1) / blocks.length);
  if (threads_shared.load(std::memory_order_relaxed)) return fnn_run_tasks(&compute_block, count, &blocks);
  for (int i = 0; i < count; ++i) compute_block(i, &blocks);
}

constexpr const char* kCapsule = "fusednn matrix product";

PyObject* call(PyObject* capsule, PyObject* /*arguments*/) {
  const auto& product = *static_cast<const Product*>(PyCapsule_GetPointer(capsule, kCapsule));
  if (product.size() < kWorthCutting) {
    multiply(product);
  } else {
    PyThreadState* state = PyEval_SaveThread();
    multiply(product);
    restore_thread(state);
  }
  Py_RETURN_NONE;
}

PyMethodDef definition = {"product", &call, METH_NOARGS, "Compute the product."};

[[noreturn]] void refuse(const char* name, const char* what, py::handle array) {
  throw py::value_error("`" + std::string(name) + "` must be " + what + ". Received: " + name + "=" +
                        std::string(py::repr(array)));
}

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
  auto* product = new Product{a_shape.first,
                              b_shape.second,
                              a_shape.second,
                              a_read,
                              b_read,
                              fields(out).data,
                              out_read.stride,
                              static_cast<size_t>(size),
                              flag("wide", wide),
                              py::cast<uintptr_t>(gemm),
                              py::make_tuple(a, b, out)};
  const py::capsule owner(product, kCapsule, [](PyObject* capsule) {
    delete static_cast<Product*>(PyCapsule_GetPointer(capsule, kCapsule));
  });
  return py::reinterpret_steal<py::object>(PyCFunction_New(&definition, owner.ptr()));
}

}  // namespace

void register_matrix_product(py::module_& m) {
  m.def("matrix_product", &matrix_product, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("gemm"), py::arg("item"),
        py::arg("wide"));
  m.def("share_products", [](bool share) { threads_shared.store(share, std::memory_order_relaxed); }, py::arg("share"));
}

}  // namespace fusednn
