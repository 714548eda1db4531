// Python functions of no arguments, whose arguments were read and checked when they were made: for what a training step
// calls again and again with the same arrays.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>

namespace fusednn {

// A function that does `work`, which keeps what it needs alive. What it throws becomes a Python exception.
pybind11::object bound_function(std::function<void()> work);

}  // namespace fusednn
